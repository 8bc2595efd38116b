"""A sweep in an allocation, with stand-ins for SLURM's commands and for the driver: what is started, stopped and requeued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bias_transfer.cluster import allocation, slurm
from bias_transfer.cluster.slurm import Batch
from bias_transfer.errors import Exit

START = "{python}\nimport json, os, signal, sys, time\n" + (
    "def note(*what):\n    with open({log!r}, 'a') as file: file.write(json.dumps(what) + '\\n')\n"
)

SRUN = """
names = next(word for word in sys.argv if word.startswith("--nodelist=")).partition("=")[2].split(",")
note("up", *names, sys.argv[sys.argv.index("bias_transfer.cluster.node") + 1:])
if {srun!r} == "fails":
    sys.exit("srun: error: no such node")
if {srun!r} == "hangs":
    time.sleep(60)
for name in names:
    print(f"@bias-transfer ray 10.0.0.1:4000 {{name}}: 1 cores, 0 GPUs", flush=True)
if {srun!r} == "ends" and "n1" in names:
    time.sleep(1.5)
    sys.exit(1)
sys.stdin.read()
note("down", *names)
"""

SCONTROL = """
if sys.argv[1] == "show":
    print("n1", "n2", sep="\\n")
else:
    note(*sys.argv[1:])
    sys.exit("scontrol: error: Requested operation is presently disabled" if {refuses} else 0)
"""

SBATCH = """
note("sbatch", *sys.argv[1:], [name for name in os.environ if name.startswith("SLURM")])
print("18")
"""

DRIVER = """
count = sum('"driver"' in line for line in open({log!r}))
note("driver", os.environ["RAY_ADDRESS"], len(os.environ["RAY_AUTH_TOKEN"]), sys.argv[1:])
ends = {ends!r}.split()
how = ends[min(count, len(ends) - 1)]
if how.startswith("asked"):
    def end(*_):
        note("SIGINT")
        sys.exit(int(how.removeprefix("asked")))
    signal.signal(signal.SIGINT, end)
    print("driver waits", flush=True)
    time.sleep(60)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(how))
"""

RUN = """
import sys
from bias_transfer.cluster import allocation
allocation.DRIVER = ({driver!r},)
allocation._sleep = lambda seconds, asked: None
sys.exit(allocation.main({script!r}, "bias-transfer sweep --slurm small.yaml", "small.yaml", "--limit", "2"))
"""


@dataclass
class Allocation:
    """A running allocation of n1 and n2."""

    process: subprocess.Popen[str]
    folder: Path

    def end(self) -> tuple[int, str, list]:
        """(exit status, output, what the stand-ins noted)"""
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out, self.notes()

    def notes(self) -> list:
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    def signal_when(self, what: str, number: int) -> None:
        """Send a signal as soon as `what` was noted."""
        end = time.monotonic() + 60
        while not any(note[0] == what for note in self.notes()):
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(1.0)
        self.process.send_signal(number)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """(how drivers end, what srun does, whether requeueing is refused) -> an Allocation."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "RAY"))]:
        monkeypatch.delenv(name)
    variables = {
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURMD_NODENAME": "n1",
        "SLURM_CPUS_PER_TASK": "1",
    }
    begun: list[Allocation] = []

    def start(ends: str, srun: str = "", refuses: bool = False) -> Allocation:
        log = tmp_path / "log.jsonl"
        log.touch()
        for name, code in {"srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH, "driver": DRIVER}.items():
            values = {"python": f"#!{sys.executable}", "log": str(log), "srun": srun, "refuses": refuses, "ends": ends}
            (tmp_path / name).write_text((START + code).format(**values))
            (tmp_path / name).chmod(0o755)
        script = tmp_path / "job.sh"
        script.write_text(
            slurm.text(Batch("small", tmp_path, tmp_path, (("time", "60"),), (), ("c",), "again", "http://m"))
        )
        code = RUN.format(driver=str(tmp_path / "driver"), script=str(script))
        environment = {
            **os.environ,
            **variables,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": "http://m",
        }
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)  # fmt: skip
        begun.append(Allocation(process, tmp_path))
        return begun[-1]

    yield start
    for one in begun:
        one.process.kill()
        one.process.communicate()


def test_ray_is_brought_up_on_all_nodes_and_taken_down_after_the_driver(start):
    status, out, notes = start("0").end()
    assert status == 0
    temp = f"/tmp/bt-{os.getuid()}-17.0"
    driver = ["driver", "10.0.0.1:4000", 64, ["small.yaml", "--limit", "2"]]
    assert notes[:3] == [["up", "n1", [temp]], ["up", "n2", [temp, "10.0.0.1:4000"]], driver]
    assert sorted(notes[3:]) == [["down", "n1"], ["down", "n2"]]
    assert "Job 17, start 1, on 2 nodes: n1 n2" in out
    assert "n2: 1 cores, 0 GPUs" in out


@pytest.mark.parametrize(("ends", "requeued"), [(130, True), (Exit.FAILED, True), (Exit.PENDING, True), (0, False)])
def test_the_time_limit_stops_the_driver_and_requeues_the_job_if_trials_are_missing(start, ends, requeued):
    job = start(f"asked{ends:d}")
    job.signal_when("driver", signal.SIGUSR1)
    status, out, notes = job.end()
    assert [note[0] for note in notes] == ["up", "up", "driver", "SIGINT", "down", "down", *["requeue"] * requeued]
    assert notes[-1] == ["requeue", "17"] or not requeued
    assert status == (Exit.STOPPED if requeued else 0)
    assert ("job 17 is requeued" in out) == requeued


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_cancelled_job_stops_the_driver_and_is_not_requeued(start, number):
    job = start("asked130")
    job.signal_when("driver", number)
    status, _, notes = job.end()
    assert status == 130
    assert [note[0] for note in notes] == ["up", "up", "driver", "SIGINT", "down", "down"]


def test_where_requeueing_is_refused_the_job_is_submitted_again(start):
    job = start("asked130", refuses=True)
    job.signal_when("driver", signal.SIGUSR1)
    _, out, notes = job.end()
    assert "submitted again as job 18" in out
    assert "presently disabled" in out
    name, *words, variables = notes[-1]
    assert name == "sbatch"
    assert {"--parsable", "--time=60", "--requeue", f"--signal=B:USR1@{slurm.LEAD}"} <= set(words)
    assert words[-1] == str(job.folder / "job.sh")
    assert variables == [], "SLURM's variables of this job would be taken for the new one's"


def test_a_time_limit_during_the_start_is_not_repeated_for_ever(start):
    job = start("0", srun="hangs")
    job.signal_when("up", signal.SIGUSR1)
    status, out, notes = job.end()
    assert status == 130
    assert "before the sweep had begun. Raise it" in out
    assert [note[0] for note in notes] == ["up"]


def test_a_ray_that_does_not_come_up_is_one_sentence(start):
    status, out, _ = start("0", srun="fails").end()
    assert status == 1
    assert "no such node" in out
    assert out.splitlines()[-1].startswith("Error: Ray's head did not come up")


def test_a_ray_that_ends_stops_the_driver(start):
    status, out, notes = start("asked130", srun="ends").end()
    assert status == 130
    assert ["SIGINT"] in notes
    assert "Error: Ray's head has ended" in out


def test_a_driver_waits_for_a_lease_and_starts_again_after_a_signal(start):
    status, out, notes = start("3 3 killed 0").end()
    assert status == 0
    assert [note[0] for note in notes].count("driver") == 4
    assert "started again (1 of 5)" in out


@pytest.mark.parametrize(
    ("uri", "nodes", "file"),
    [
        ("sqlite:////f/m.db", "n1 n2", "/f/m.db"),
        ("sqlite:////f/m.db", "n1", ""),
        ("http://m", "n1 n2", ""),
        ("", "n1 n2", ""),
    ],
)
def test_a_file_is_served_where_several_nodes_would_write_it(monkeypatch, uri, nodes, file):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert allocation._shared_file(allocation.Job("1", 0, tuple(nodes.split()))) == file


def test_requests_to_the_served_file_pass_by_a_proxy_with_a_token_of_their_own(monkeypatch):
    monkeypatch.setenv("no_proxy", "intern")
    first, second = allocation.guarding("10.0.0.1"), allocation.guarding("10.0.0.1")
    assert first["no_proxy"] == first["NO_PROXY"] == "intern,10.0.0.1"
    assert first["MLFLOW_TRACKING_TOKEN"] != second["MLFLOW_TRACKING_TOKEN"]
    assert allocation.secured()["RAY_AUTH_TOKEN"] != allocation.secured()["RAY_AUTH_TOKEN"]


def test_outside_of_a_job_it_says_so():
    ended = subprocess.run(
        [sys.executable, "-m", "bias_transfer.cluster.allocation", "job.sh", "again", "small.yaml"],
        env={name: value for name, value in os.environ.items() if not name.startswith("SLURM")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: this is the batch script's part")
