"""SLURM on simulated hosts: one that controls and submits, and nodes."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hosts import Host

NEEDED = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
"""Command -> the Debian or Ubuntu package that has it."""

FREEZER = Path("/sys/fs/cgroup/freezer")
"""By this cgroup (version 1) slurmd finds all processes of a job. Without it, it follows parents, and misses some."""

CONF = """
ClusterName=test
SlurmctldHost={controller}({address})
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
ProctrackType=proctrack/{track}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerNode=1000
ReturnToService=2
SlurmdTimeout=15
KillWait=30
MinJobAge=7200
GresTypes=gpu
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""

CGROUP = "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n"

NODE = "NodeName={name} NodeAddr={address} CPUs=2 CoresPerSocket=2 RealMemory=8000 Gres=gpu:2"


def missing() -> list[str]:
    """The packages that are needed and not installed."""
    return sorted({package for command, package in NEEDED.items() if not shutil.which(command)})


def own_cgroup(host: str) -> Path:
    """The cgroup that a host has in the place of this machine's."""
    return FREEZER / f"bias-transfer-{host}"


def start(controller: Host, nodes: Sequence[Host], folder: Path) -> None:
    """Start SLURM, and wait until the nodes are idle. folder: of the hosts' files."""
    key = secrets.token_bytes(128)
    track = "cgroup" if FREEZER.is_dir() else "linuxproc"
    lines = "\n".join(NODE.format(name=node.name, address=node.address) for node in nodes)
    conf = CONF.format(controller=controller.name, address=controller.address, track=track, nodes=lines,
                       names=",".join(node.name for node in nodes))  # fmt: skip
    table = "".join(f"{host.address} {host.name}\n" for host in (controller, *nodes))
    for host in (controller, *nodes):
        etc = folder / host.name / "root" / "etc"
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{table}")
        (etc / "slurm").mkdir(exist_ok=True)
        (etc / "slurm/slurm.conf").write_text(conf)
        (etc / "slurm/cgroup.conf").write_text(CGROUP)
        (etc / "slurm/gres.conf").write_text("Name=gpu File=/dev/null,/dev/zero\n")
        shutil.rmtree(etc / "munge")
        (etc / "munge").mkdir(mode=0o700)
        (etc / "munge/munge.key").write_bytes(key)
        (etc / "munge/munge.key").chmod(0o400)
        if track == "cgroup":
            host.root(
                "bash", "-c", f"mkdir -p {own_cgroup(host.name)} && mount --bind {own_cgroup(host.name)} {FREEZER}"
            )
    for host in nodes:
        start_node(host)
    _start_munge(controller)
    controller.root("bash", "-c", "mkdir -p /var/spool/slurmctld && slurmctld")
    until(lambda: idle(controller, nodes), "idle nodes", 120)


def start_node(node: Host) -> None:
    """Start SLURM's daemon, as when the machine starts."""
    _start_munge(node)
    node.root("bash", "-c", "mkdir -p /var/spool/slurmd && slurmd")


def _start_munge(host: Host) -> None:
    host.root(
        "bash", "-c", "mkdir -p /run/munge /var/log/munge /var/lib/munge && chmod 755 /run/munge && munged --force 2>&1"
    )


def idle(controller: Host, nodes: Sequence[Host]) -> bool:
    """Whether all nodes wait for work."""
    states = controller.root("sinfo", "-h", "-N", "-o", "%t").split()
    return states == ["idle"] * len(nodes)


def kill(node: Host) -> None:
    """End all processes of a node, as when it loses its power, but for sshd, by which hosts.py keeps the host alive."""
    node.root("pkill", "-KILL", "--inverse", "--exact", "sshd")


def job(controller: Host, number: str) -> dict[str, str]:
    """What SLURM says of a job."""
    return dict(re.findall(r"(\w+)=(\S*)", controller.root("scontrol", "show", "job", "-o", number)))


def start_now(controller: Host, number: str) -> None:
    """Let a requeued job start soon: SLURM makes it wait for two minutes. Within the second in which its former start ended, a
    node refuses it ("job credential revoked"), and it fails."""
    time.sleep(5)
    controller.root("scontrol", "update", f"jobid={number}", "StartTime=now")


def until(ready: Callable[[], bool], what: str, patience: float) -> None:
    """Wait. Raises AssertionError if it takes longer than `patience` seconds."""
    end = time.monotonic() + patience
    while not ready():
        assert time.monotonic() < end, f"no {what} within {patience:g} s"
        time.sleep(0.5)


def remove_cgroups(names: Sequence[str]) -> None:
    """Remove what slurmd left, when all processes have ended."""
    for top in map(own_cgroup, names):
        for group in sorted(top.rglob("*"), reverse=True) if top.is_dir() else ():
            if group.is_dir():
                group.rmdir()
        if top.is_dir():
            top.rmdir()
