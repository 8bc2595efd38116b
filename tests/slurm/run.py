"""`make slurm-test`: `sweep --slurm` on a SLURM of three hosts of this machine, cancelled, requeued, and with a node killed.

The hosts are those of tests/cluster/hosts.py, each with a network, processes and files of its own. It needs root and the
packages of hosts.NEEDED and controller.NEEDED. The last line is counted from SLURM's own account, the logs, and MLflow.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cluster"))

import checks  # noqa: E402
import controller  # noqa: E402
import hosts  # noqa: E402
from hosts import Host, step  # noqa: E402

ROOT = HERE.parents[1]
VENV = Path(sys.executable).parents[1]
INSIDE = "BIAS_TRANSFER_SLURM_TEST"
NAMES = ("login", "n1", "n2")
CONFIG, TRIALS = "small.yaml", 16
WORK = "/srv/shared/work"
"""The folder from which the sweep is submitted; all hosts see it."""

CODE = ":".join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(":")
SHELL = f"cd {WORK} && export PATH={VENV}/bin:$PATH PYTHONPATH={CODE} HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1 &&"
SWEEP = (
    f"python -m bias_transfer.sweep --slurm {CONFIG} --sbatch nodes=2 --sbatch cpus_per_task=1 --sbatch gpus_per_node=1 "
    "--sbatch mem=4G --sbatch time=2:00:00 --sbatch 'comment=a \"quoted\" comment' --setup 'export FROM_SETUP=1' --no-report"
)
"""SLURM counts devices that are no GPUs; the trials compute on the CPU."""

LIMIT = 3000
"""Seconds that the whole test may take."""

PATIENCE = 900
"""Seconds for any one event; two cores may be shared with other work."""

SLURMS = ("sshd", "slurmd", "srun", "slurmstepd")
"""Processes whose ports are not the project's."""

START = re.compile(r"^Job \d+, start (\d+), on 2 nodes", re.MULTILINE)
DONE = re.compile(r"^done\b.*?(\S+ \+ \S+ s\d wiki tiny); \d+ done", re.MULTILINE)
NEAR = "The time limit is near, and trials are missing"

READ = """
from collections import Counter
from bias_transfer.tracking import store
sweep = sweeps.read("small")
table = sweeps.measures(sweep)
client = store.connect()
experiment = client.get_experiment_by_name("small").experiment_id
finished = Counter(run.data.tags.get(store.TRIAL) for run in store.search(client, experiment, "status = 'FINISHED'"))
finished.pop(None, None)  # the parent run
keys = ["trial", "stage", "metric", "group", "template"]
ids = [trial.id for trial in sweep.trials]
print(json.dumps({"trials": len(ids), "lost": [key for key in ids if not finished[key]],
    "double": [key for key in ids if finished[key] > 1], "twice": int(table.duplicated(keys).sum()),
    "rows": {key: rows(table[table.trial == key]) for key in (ids[0], ids[7], ids[-1])}}))
"""


def main(folder: Path) -> None:
    """Run every step. Raises AssertionError or RuntimeError at the first that fails."""
    hosts.mount_memory(folder)
    login, *nodes = hosts.start(NAMES, folder)
    prepare(folder)
    controller.start(login, nodes, folder)
    try:
        with step("submitted, and cancelled half-way"):
            first = submit(login)
            wait_for_done(first, 1)
            listening(login, nodes)
            wait_for_done(first, 3)
            assert all(f"{node.name}: 1 cores, 1 GPUs, 4.0 GiB\n" in log(first) for node in nodes)
            login.shell(f"scancel {first}")
            controller.until(lambda: controller.idle(login, nodes), "idle nodes after scancel", PATIENCE)
            nothing_left(nodes)
        with step("submitted again; the time limit's signal comes, and the job is requeued"):
            second = submit(login)
            wait_for_done(second, 3)
            login.shell(f"scancel --batch --signal=USR1 {second}")
            restart(login, second, 1)
            nothing_left(nodes, running=True)
        with step("the node with the batch script, Ray's head and MLflow's server is killed"):
            wait_for_done(second, 7)
            head = next(node for node in nodes if node.name == controller.job(login, second)["BatchHost"])
            controller.kill(head)
            controller.until(
                lambda: controller.job(login, second)["Restarts"] == "2", "requeue after the loss", PATIENCE
            )
            controller.start_node(head)
            restart(login, second, 2)
        with step("the rest"):
            controller.until(lambda: state(login, second) not in ("RUNNING", "COMPLETING"), "end of the job", PATIENCE)
            nothing_left(nodes)
        print(log(second)[-2500:])
        summary(login, nodes, [first, second])
    except BaseException:
        for file in sorted((folder / "shared/work/slurm").glob("*/*.log")):
            print(file.name, file.read_text()[-6000:], sep="\n")
        for host in (login, *nodes):
            print(host.name, host.root("bash", "-c", "tail -n 30 /var/log/slurm*.log; ps -ef | tail -n 40"), sep="\n")
        raise


def prepare(folder: Path) -> None:
    """Put the config where all hosts see it."""
    work = folder / "shared/work"
    work.mkdir()
    shutil.copy(HERE / CONFIG, work)
    owner = (folder / "login/root/home" / hosts.USER).stat()
    for path in (work, work / CONFIG):
        os.chown(path, owner.st_uid, owner.st_gid)


def submit(login: Host) -> str:
    """Submit the sweep. Returns the job's number."""
    said = login.shell(f"{SHELL} {SWEEP}")
    print(said, flush=True)
    return re.search(r"^Job (\d+):", said, re.MULTILINE)[1]


def log(job: str) -> str:
    """What a job has printed so far, at all its starts."""
    files = [*Path(os.environ[INSIDE], "shared/work/slurm").glob(f"*/{job}.log")]
    return files[0].read_text(errors="replace") if files else ""


def wait_for_done(job: str, count: int) -> None:
    """Wait until the job has reported that number of trials as done."""
    controller.until(lambda: len(DONE.findall(log(job))) >= count, f"{count} trials that job {job} did", PATIENCE)


def state(login: Host, job: str) -> str:
    return controller.job(login, job)["JobState"]


def restart(login: Host, job: str, restarts: int) -> None:
    """Wait until the job is requeued, and let it start now."""

    def pending() -> bool:
        found = controller.job(login, job)
        return (found["Restarts"], found["JobState"]) == (str(restarts), "PENDING")

    controller.until(pending, "requeued job", PATIENCE)
    controller.start_now(login, job)
    controller.until(lambda: state(login, job) != "PENDING", "second start", PATIENCE)
    assert state(login, job) == "RUNNING", controller.job(login, job)


def listening(login: Host, nodes: list[Host]) -> None:
    """While the driver is halted, beyond loopback and SLURM's own daemons no port answers without a token: neither Ray's nor
    MLflow's."""
    driver = "^[^ ]*python -m bias_transfer.sweep"
    for node in nodes:
        node.root("bash", "-c", f"pkill -STOP -f '{driver}' || true")
    listeners = {
        f"{node.address}:{port}": process
        for node in nodes
        for address, port, process in checks.sockets(node)
        if not checks.is_loopback(address) and process not in SLURMS
    }
    places = sorted(listeners)
    probe = HERE.parent / "cluster" / "probe.py"
    answers = json.loads(login.shell(f"{SHELL} python {probe} {' '.join(places)}").splitlines()[-1])
    for place, answer in answers.items():
        assert not answer["grpc"].get("OK"), f"{place} answers without a token: {answer['grpc']['OK']}"
        pages = [path for path, status in answer["http"].items() if status < 400 and path != checks.HEALTH]
        assert not pages, f"{place} shows pages without a token: {pages}"
    silent = [
        f"{place} ({listeners[place]})"
        for place, answer in answers.items()
        if not answer["grpc"].get("UNAUTHENTICATED") and 401 not in answer["http"].values()
    ]
    assert len(silent) <= 1, (
        f"{silent}: one is the halted driver's; the others answer to nobody, or speak something else"
    )
    served = [place for place, answer in answers.items() if {*answer["http"].values()} == {401}]
    assert len(places) > 4
    assert served, "MLflow's server was not found"
    print(f"{len(places)} ports beyond loopback, of Ray and MLflow: none answers without a token", *silent, flush=True)
    for node in nodes:
        node.root("bash", "-c", f"pkill -CONT -f '{driver}' || true")


def nothing_left(nodes: list[Host], running: bool = False) -> None:
    """Of an earlier start of a job, no process and no folder is left on the nodes. running: another start runs already."""
    for node in nodes:
        folders = node.root("bash", "-c", "ls -d /tmp/bt-* 2>/dev/null; true").split()
        processes = node.root("bash", "-c", f"ps -u {hosts.USER} -o args= || true").splitlines()
        assert len(folders) <= running, (node.name, folders)
        assert running or not processes, (node.name, processes)


def summary(login: Host, nodes: list[Host], jobs: list[str]) -> None:
    """Count what happened and what was recorded, and compare three trials with plain runs. Raises AssertionError."""
    states = [state(login, job) for job in jobs]
    requeued, killed = starts(login, jobs[-1])
    found = checks.python(login, READ, SHELL)
    again = [name for name, count in Counter(DONE.findall("".join(map(log, jobs)))).items() if count > 1]
    lost = len(found["lost"]) + TRIALS - found["trials"]
    double = len(found["double"]) + len(again) + found["twice"]
    alone = {key: checks.python(nodes[0], checks.ALONE.replace("CONFIG", CONFIG).replace("TRIAL", key), SHELL)
             for key in found["rows"]}  # fmt: skip
    equal = all(len(alone[key]) > 20 and alone[key] == rows for key, rows in found["rows"].items())
    print(f"{len(alone)} trials, {sum(map(len, alone.values()))} measures compared with plain runs")
    line = (
        f"cancelled {states.count('CANCELLED')}, requeued {requeued}, node killed {killed}: lost {lost}, double {double}, "
        f"bits {'equal' if equal else 'DIFFER'}"
    )
    assert states == ["CANCELLED", "COMPLETED"], states
    print(line)
    assert line == "cancelled 1, requeued 1, node killed 1: lost 0, double 0, bits equal", (found, again)


def starts(login: Host, job: str) -> tuple[int, int]:
    """(starts after the time limit's signal, other starts) of a job, beyond its first: SLURM's number of them, told apart by
    what the start before had printed."""
    _, *rest = START.split(log(job))
    numbers, texts = rest[::2], rest[1::2]
    assert [*map(int, numbers)] == [*range(1, 2 + int(controller.job(login, job)["Restarts"]))], numbers
    near = sum(NEAR in text for text in texts[:-1])
    return near, len(texts) - 1 - near


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("make slurm-test creates network namespaces: run it as root")
    if lacking := sorted({*hosts.missing(), *controller.missing()} - {"postgresql"}):
        sys.exit(f"make slurm-test needs these packages: apt-get install --no-install-recommends {' '.join(lacking)}")
    if INSIDE not in os.environ:
        alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with tempfile.TemporaryDirectory() as folder:
            words = [*alone, sys.executable, *sys.argv]
            try:
                status = subprocess.run(words, env={**os.environ, INSIDE: folder}, timeout=LIMIT).returncode
            finally:
                controller.remove_cgroups(NAMES)
            sys.exit(status)
    main(Path(os.environ[INSIDE]))
