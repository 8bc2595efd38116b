"""A sweep in a SLURM allocation: bring Ray up on its nodes, run the driver, stop it before the time limit, and requeue the job.

python -m bias_transfer.cluster.allocation SCRIPT COMMAND CONFIG [OPTION ...]      the batch script's last line
SCRIPT: a copy of the batch script, to be submitted again where the site forbids requeueing. COMMAND: by which the user starts
the sweep again. The driver is `python -m bias_transfer.sweep CONFIG OPTION ...`.

    USR1 (SLURM sends it before the time limit)   the driver is stopped as by Ctrl-C, and the job requeued if trials are missing
    INT, TERM (scancel)                           the driver is stopped, and the job ends
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

from bias_transfer.cluster import slurm
from bias_transfer.cluster.environment import ALLOCATION, CLOSED, QUIET
from bias_transfer.cluster.node import PEER, UP, end_group, own_address
from bias_transfer.errors import Exit, UserError

STARTING = 300.0
"""Seconds that Ray and MLflow have to come up, on a slow file system too."""

STOPPING = 75.0
"""Seconds that the driver has to end after it was asked to."""

ENDING = 25.0
"""Seconds that each of the other parts has, such as Ray on the nodes; together less than `slurm.LEAD`."""

POLL = 0.2
"""Seconds between two looks at the processes."""

HELD = 150.0
"""Seconds for which a driver waits for the lease of one that was killed: it is stale after one minute."""

AGAIN = 5
"""How often a driver that a signal ended (out of memory, say) is started again."""

WORKERS_AT_A_TIME = "64"
"""Trials that Tune asks Ray for ahead of time, so that many GPUs are filled at once."""

SQLITE = "sqlite:///"

DRIVER = (sys.executable, "-m", "bias_transfer.sweep")
"""The words before CONFIG and the options."""

PORT = "@bias-transfer port"
"""With this, MLflow's server says on which port it listens."""

Value = TypeVar("Value")


class FailedError(Exception):
    """Ray or MLflow did not come up, or ended."""


class AskedError(Exception):
    """A signal asks for the end while Ray is coming up."""


@dataclass(frozen=True)
class Job:
    """The job that this process runs in."""

    id: str
    restarts: int
    """How often it was requeued."""
    nodes: tuple[str, ...]
    """The head first, on which the batch script runs."""

    @property
    def temp(self) -> Path:
        """Ray's folder on every node. A socket's path has at most 107 characters, so it is short; and not /tmp/ray, which may
        be another user's."""
        return Path(f"/tmp/bt-{os.getuid()}-{self.id}.{self.restarts}")  # noqa: S108 - node.py creates it safely


def this_job(variables: Mapping[str, str]) -> Job:
    """The job that SLURM's variables describe. Raises UserError outside of a job."""
    if not (number := variables.get("SLURM_JOB_ID")):
        raise UserError(
            "this is the batch script's part of `bias-transfer sweep --slurm`, and runs in a SLURM job alone"
        )
    names = slurm.output("scontrol", "show", "hostnames", variables["SLURM_JOB_NODELIST"]).split()
    head = variables.get("SLURMD_NODENAME") or names[0]
    others = (name for name in names if name != head)
    return Job(number, int(variables.get("SLURM_RESTART_COUNT") or 0), (head, *others))


def main(script: str, command: str, *words: str) -> int:
    """Run the sweep in this allocation. Returns the driver's exit status."""
    asked = _listen()
    job = this_job(os.environ)
    print(f"Job {job.id}, start {job.restarts + 1}, on {len(job.nodes)} nodes: {' '.join(job.nodes)}", flush=True)
    try:
        status = _run(job, command, words, asked)
    except AskedError:
        if signal.SIGUSR1 in asked:
            print("The time limit came before the sweep had begun. Raise it: --sbatch time=HOURS:00:00", flush=True)
        return Exit.STOPPED
    except FailedError as error:
        print(f"Error: {error}", flush=True)
        return Exit.FAILED
    if signal.SIGUSR1 in asked and is_missing(status):
        return _go_on(job, script)
    return status


def is_missing(status: int) -> bool:
    """Whether trials may be missing that another start would run, by the exit status of a driver that was stopped."""
    return status not in (Exit.DONE, Exit.MISTAKE, Exit.HELD)


def _listen() -> list[int]:
    """The signals that have come so far: a list that grows."""
    asked: list[int] = []

    def note(signal_number: int, frame: FrameType | None) -> None:
        asked.append(signal_number)

    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return asked


def _run(job: Job, command: str, words: Sequence[str], asked: list[int]) -> int:
    """Ray up, the driver, Ray down. Returns the driver's exit status."""
    variables = {**os.environ, **secured(), "PYTHONUNBUFFERED": "1", ALLOCATION: command}
    variables.pop("RAY_ADDRESS", None)  # of another Ray
    with ExitStack() as stack:
        file = _shared_file(job)
        if file:
            address = own_address(job.nodes[0], job.nodes[1])
            variables |= guarding(address)
            server = _server(file, address, variables)
            stack.callback(server.close)
        variables["RAY_ADDRESS"], steps = _start_ray(job, variables, asked, stack)
        if file:
            port = _until(lambda: server.first, [server], asked)
            variables["MLFLOW_TRACKING_URI"] = f"http://{address}:{port}"
        status = _drive([*DRIVER, *words], variables, steps, asked)
    if file:
        print(f"MLflow's server ended with the job. The runs are in {file}: --tracking-uri {SQLITE}{file}", flush=True)
    return status


def secured() -> dict[str, str]:
    """Ray's settings, and a token for this job alone: it is in the environment of its processes, and in no file."""
    return {**QUIET, **CLOSED, "TUNE_MAX_PENDING_TRIALS_PG": WORKERS_AT_A_TIME, "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def guarding(address: str) -> dict[str, str]:
    """What server and clients of a SQLite file need: a token, and that no proxy of the site stands between them."""
    direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), address]))
    user = {"MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""}  # they would be sent in the token's place
    return {"MLFLOW_TRACKING_TOKEN": secrets.token_hex(32), "no_proxy": direct, "NO_PROXY": direct, **user}


def _shared_file(job: Job) -> str:
    """The SQLite file that several nodes would write; empty if there is one node alone, or a server."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return uri.removeprefix(SQLITE) if uri.startswith(SQLITE) and len(job.nodes) > 1 else ""


class Part:
    """A process of the job whose lines are printed, but for those that begin with `mark`, which are collected."""

    def __init__(self, name: str, words: Sequence[str], variables: Mapping[str, str], mark: str) -> None:
        self.name, self.marked, self._mark = name, list[str](), mark
        # Standard input is how a node learns of the end: also if this process is killed.
        self.process = subprocess.Popen(  # noqa: S603 - our words
            words, env=dict(variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout  # noqa: S101 - a pipe was asked for
        for line in self.process.stdout:
            if line.startswith(self._mark):
                self.marked.append(line.removeprefix(self._mark).strip())
            else:
                print(line, end="", flush=True)

    @property
    def first(self) -> str:
        """The first line that was collected; empty as long as there is none."""
        return self.marked[0] if self.marked else ""

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def close(self) -> None:
        """Close standard input, wait for the end, and kill what is left."""
        assert self.process.stdin  # noqa: S101 - a pipe was asked for
        with suppress(OSError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDING)
        end_group(self.process, patience=2)


def _server(file: str, address: str, variables: Mapping[str, str]) -> Part:
    words = [sys.executable, "-W", "ignore", "-m", "bias_transfer.tracking.guarded_server", file, address]
    return Part("MLflow's server", words, variables, PORT)


def _step(name: str, nodes: Sequence[str], words: Sequence[str], variables: Mapping[str, str]) -> Part:
    """Run node.py once on each of the nodes, with all that the job has there."""
    count = len(nodes)
    srun = [
        "srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", f"--nodelist={','.join(nodes)}", "--overlap",
        "--export=ALL", "--cpu-bind=none", "--no-kill", "--kill-on-bad-exit=0",
    ]  # fmt: skip
    return Part(name, [*srun, sys.executable, "-m", "bias_transfer.cluster.node", *words], variables, UP)


def _start_ray(job: Job, variables: Mapping[str, str], asked: list[int], stack: ExitStack) -> tuple[str, list[Part]]:
    """Start Ray on the head, then on all other nodes, and wait until it is up everywhere. Returns its address."""
    head, *others = job.nodes
    step = _step("Ray's head", [head], [str(job.temp)], {**variables, PEER: others[0] if others else ""})
    stack.callback(step.close)
    # "ADDRESS NODE: 4 cores, 2 GPUs"
    address = _until(lambda: step.first, [step], asked).split()[0]
    print(step.first.partition(" ")[2], flush=True)
    if not others:
        return address, [step]
    rest = _step(f"Ray on {len(others)} other nodes", others, [str(job.temp), address], variables)
    stack.callback(rest.close)
    _until(lambda: len(rest.marked) == len(others), [rest, step], asked)
    print(*(line.partition(" ")[2] for line in rest.marked), sep="\n", flush=True)
    return address, [step, rest]


def _until(ready: Callable[[], Value], parts: Sequence[Part], asked: list[int]) -> Value:
    """Wait until the first of the parts is ready, and return what `ready` does then. Raises AskedError and FailedError."""
    end = time.monotonic() + STARTING
    while not (value := ready()):
        if asked:
            raise AskedError
        for part in parts:
            if part.ended:
                raise FailedError(f"{part.name} did not come up, or ended; its last lines are above.")
        if time.monotonic() > end:
            raise FailedError(f"{parts[0].name} did not come up within {STARTING:g} s.{_there(parts[0])}")
        time.sleep(POLL)
    return value


def _there(part: Part) -> str:
    names = " ".join(line.split()[1].rstrip(":") for line in part.marked)
    return f" Up: {names}. Leave a broken node out: --sbatch exclude=NODE" if names else ""


def _drive(words: Sequence[str], variables: Mapping[str, str], steps: Sequence[Part], asked: list[int]) -> int:
    """Run the driver, and again where another start can help. Returns its exit status."""
    free, again = time.monotonic() + HELD, 0
    while True:
        status = _run_driver(words, variables, steps, asked)
        if status == Exit.HELD and not asked and time.monotonic() < free:
            print("Tried again in 15 s: the lease of a driver that was killed is free after a minute.", flush=True)
            _sleep(15, asked)
        elif status < 0 and not asked and again < AGAIN and not steps[0].ended:
            again += 1
            print(f"The driver was ended by signal {-status} and is started again ({again} of {AGAIN}).", flush=True)
        else:
            return status if status >= 0 else 128 - status


def _sleep(seconds: float, asked: list[int]) -> None:
    end = time.monotonic() + seconds
    while not asked and time.monotonic() < end:
        time.sleep(POLL)


def _run_driver(words: Sequence[str], variables: Mapping[str, str], steps: Sequence[Part], asked: list[int]) -> int:
    """Run the driver once, and stop it when a signal asks for it, or Ray's head has ended."""
    driver = subprocess.Popen(words, env=dict(variables), stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    running = list(steps)
    while driver.poll() is None:
        if asked:
            return _stop(driver)
        if steps[0].ended:
            print(f"Error: {steps[0].name} has ended, and with it the sweep. Start it again.", flush=True)
            return max(_stop(driver), Exit.FAILED)
        for step in [step for step in running if step.ended]:
            print(f"{step.name} has ended. The sweep goes on where Ray still runs.", flush=True)
            running.remove(step)
        time.sleep(POLL)
    return driver.returncode


def _stop(driver: subprocess.Popen[bytes]) -> int:
    """Stop the driver as Ctrl-C does: it records what has ended, and gives its lease back."""
    driver.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        driver.wait(STOPPING)
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    return driver.wait()


def _go_on(job: Job, script: str) -> int:
    """Requeue the job, or submit it again where the site forbids that. Returns this start's exit status."""
    # SLURM may end this process as soon as it is asked.
    print(
        f"The time limit is near, and trials are missing: job {job.id} is requeued, and goes on with them.", flush=True
    )
    try:
        slurm.output("scontrol", "requeue", job.id)
    except UserError as refused:
        try:
            number = slurm.send(Path(script), slurm.options_of(Path(script).read_text(encoding="utf-8")))
        except (UserError, OSError) as error:
            print(f"Error: {refused}; nor could it be submitted again: {error}. Start the sweep again.", flush=True)
            return Exit.FAILED
        print(f"It could not be requeued ({refused}), and was submitted again as job {number}.", flush=True)
    return Exit.STOPPED


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except UserError as problem:
        sys.exit(f"Error: {problem}")
