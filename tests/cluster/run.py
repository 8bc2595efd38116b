"""`make cluster-test`: the cluster's own files on four hosts of this machine, from `ray up` to `ray down`.

A laptop, a head and two workers, each with a network, processes and files of its own (hosts.py); all traffic stays between
them. It needs root and the packages of hosts.NEEDED. The hosts share the environment that runs this script.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import checks
import hosts
from hosts import Host, step

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.executable).parents[1]
CLUSTER, CONFIG = "cluster_local.yaml", "small.yaml"
INSIDE = "BIAS_TRANSFER_CLUSTER_TEST"
CODE = ("bias_transfer", "analysis", "benchmarks", "tune_configs", "examples", "cluster", "pyproject.toml", "constraints.txt",
        "README.md", CLUSTER)  # fmt: skip
SHELL = (
    f"cd ~/project && export PATH={VENV}/bin:$PATH PYTHONPATH=~/project RAY_USAGE_STATS_ENABLED=0 HF_HUB_OFFLINE=1 &&"
)

GROUPS, WORDS = ("gay", "old", "blind", "deaf"), ("vile", "kind", "here")
"""The words of the laptop's own comments; the first of WORDS makes a comment toxic."""

LIMIT = 900
"""Seconds that the whole test may take."""

LOGS = "~/.bias-transfer/*.log /tmp/ray/session_latest/logs/monitor.* /tmp/ray/session_latest/logs/job-driver-*"

EDITS = {
    "head_ip: 192.0.2.1 ": "head_ip: 10.77.0.2 ",
    "[192.0.2.2, 192.0.2.3]": "[10.77.0.3, 10.77.0.4]",
    "YOUR_NAME": hosts.USER,
    "head.sh none": "head.sh /srv/shared",
    # The rest suits this machine: two cores, and an existing environment.
    "  - bash ~/bias-transfer/cluster/node.sh": f"  - BIAS_TRANSFER_VENV={VENV} bash ~/bias-transfer/cluster/node.sh",
    "ray start --head": "ray start --head --num-cpus=0",
    "ray start --address": "ray start --num-cpus=2 --address",
    "  - bash ~/bias-transfer/cluster/head.sh": "  - MLFLOW_WORKERS=2 bash ~/bias-transfer/cluster/head.sh",
}
"""Old -> new text in cluster_local.yaml: what a user edits, and what suits it to this machine."""


def main(folder: Path) -> None:
    """Run every step. Raises AssertionError or RuntimeError at the first that fails."""
    hosts.mount_memory(folder)
    laptop, head, *workers = hosts.start(["laptop", "head", "worker1", "worker2"], folder)
    prepare(laptop, folder)
    try:
        with step("ray up"):
            print(laptop.shell(f"{SHELL} ray up -y {CLUSTER}")[-1500:])
        with step(
            "the sweep is started, the laptop is cut off and the driver killed; the same command follows it to its end"
        ):
            follow(laptop, head)
        with step("what it recorded"):
            checks.recorded(laptop, head, workers, SHELL, CONFIG)
        with step("plain sweep on the head finds cluster and server, and has nothing to do"):
            checks.on_the_head(head)
        with step("what listens where"):
            checks.listening(laptop, [head, *workers], f"{SHELL} python {Path(__file__).with_name('probe.py')}")
        with step("ray down"):
            laptop.shell(f"{SHELL} ray exec {CLUSTER} 'bash ~/bias-transfer/cluster/stop.sh' && ray down -y {CLUSTER}")
            checks.nothing_left(head)
        with step("the head's disk is lost, as on AWS: a new set-up has the runs from the shared storage"):
            checks.restored(head, VENV)
    except BaseException:
        print(head.shell(f"tail -n 40 {LOGS}", check=False))
        raise
    print("7 passed, 0 failed")


def prepare(laptop: Host, folder: Path) -> None:
    """Copy the project to the laptop, with its cluster config edited as a user would."""
    home = folder / laptop.name / "root" / "home" / hosts.USER
    project = home / "project"
    for name in CODE:
        source, target = ROOT / name, project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copy(Path(__file__).with_name(CONFIG), project / CONFIG)
    write_comments(project / "comments")
    text = (project / CLUSTER).read_text()
    for old, new in EDITS.items():
        assert old in text, f"{CLUSTER} has no {old!r}"
        text = text.replace(old, new)
    (project / CLUSTER).write_text(text)
    owner = home.stat()
    for path in (project, *project.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def write_comments(folder: Path) -> None:
    """Write data of the user's own, which the config names."""
    folder.mkdir()
    for name, count in (("train", 120), ("dev", 30), ("test", 30)):
        texts = [
            f"{name}{number},my {GROUPS[number % 4]} friend is {WORDS[number % 3]} ({name} {number}),{int(number % 3 == 0)}"
            for number in range(count)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["rev_id,comment,toxic", *texts, ""]))


def follow(laptop: Host, head: Host) -> None:
    """Start the sweep, cut the laptop off, kill the driver, and follow it again to the end."""
    command = f"{SHELL} exec python -m bias_transfer.sweep --cluster {CLUSTER} {CONFIG} --max-concurrent 3 --no-report"
    first = laptop.start("bash", "-ic", f"cd; {command}")
    assert first.stdout
    for line in first.stdout:
        print("first: ", line, end="", flush=True)
        if "1 done" in line:
            break
    laptop.shell("pkill -KILL -f '^python -m bias_transfer.sweep'; pkill -KILL -x ssh; true")
    first.communicate(timeout=30)
    head.shell("pkill -KILL -f '^python -m bias_transfer.sweep'")
    second = laptop.shell(command)
    print(second)
    assert "The driver was ended by signal 9" in second, "the second call does not follow the job of the first"
    assert "http://127.0.0.1:5000" in second
    jobs = set(re.findall("submission_id='([^']+)'", head.shell("ray job list")))
    assert len(jobs) == 1, jobs


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("make cluster-test creates network namespaces: run it as root")
    if lacking := hosts.missing():
        sys.exit(f"make cluster-test needs these packages: apt-get install {' '.join(lacking)}")
    if INSIDE not in os.environ:
        alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with tempfile.TemporaryDirectory() as folder:
            words = [*alone, sys.executable, *sys.argv]
            sys.exit(subprocess.run(words, env={**os.environ, INSIDE: folder}, timeout=LIMIT).returncode)
    main(Path(os.environ[INSIDE]))
