"""One node of a SLURM allocation: Ray, with the cores, GPUs and memory that the job has here, until standard input ends.

python -m bias_transfer.cluster.node TEMP [HEAD]      `srun` starts it on every node; HEAD: the address of the head's Ray
TEMP is Ray's folder on this node, which is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from bias_transfer.cluster.submit import ray_command
from bias_transfer.errors import UserError

UP = "@bias-transfer ray"
"""What the allocation looks for: when Ray has come up, the node prints this and the cluster's address."""

FILES = 65536
"""Open files that Ray's processes may need; many systems allow 1024 unless more is asked for."""

STORE = 0.2
"""Share of the memory for Ray's object store. It holds the files that workers fetch from the driver, and little else."""

MIB = 2**20

TEAR_DOWN = 15.0
"""Seconds that Ray has to end by itself."""


@dataclass(frozen=True)
class Share:
    """What a job has of a node."""

    cores: int
    gpus: int
    memory: int | None
    """Bytes; None where SLURM does not limit the memory."""


def share(variables: Mapping[str, str], usable: int) -> Share:
    """What the job has of this node, by SLURM's variables. Ray itself would count the whole node's.

    usable: the cores that this process may use, which are fewer where the cluster binds processes to cores.
    """
    cores = min(int(variables.get("SLURM_CPUS_PER_TASK") or variables.get("SLURM_CPUS_ON_NODE") or usable), usable)
    gpus = _gpus(variables)
    return Share(cores, gpus, _memory(variables, cores, gpus))


def _gpus(variables: Mapping[str, str]) -> int:
    """GPUs that the job can see here; SLURM leaves the variables out for a job without any."""
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if name in variables:
            return len([item for item in variables[name].split(",") if item and item != "NoDevFiles"])
    return int(variables.get("SLURM_GPUS_ON_NODE") or 0)


def _memory(variables: Mapping[str, str], cores: int, gpus: int) -> int | None:
    units = {"SLURM_MEM_PER_NODE": 1, "SLURM_MEM_PER_CPU": cores, "SLURM_MEM_PER_GPU": gpus}
    sizes = [int(variables.get(name) or 0) * count * MIB for name, count in units.items()]
    return next((size for size in sizes if size), None)


def own_address(name: str, peer: str) -> str:
    """The address by which other nodes reach this one. name: SLURM's name of it. peer: another node; empty if there is none.

    Debian's /etc/hosts gives a machine's own name a loopback address; then it is the one from which the peer is reached.
    Raises OSError if neither name is known.
    """
    if not peer:
        return "127.0.0.1"
    address = socket.gethostbyname(name)
    if not address.startswith("127."):
        return address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as towards:
        towards.connect((peer, 9))  # sends nothing
        return str(towards.getsockname()[0])


def command(mine: Share, address: str, temp: Path, head: str | None) -> list[str]:
    """The words that start Ray. No port is fixed, so that two jobs, or two users, can share a node."""
    words = [
        ray_command(), "start", "--block", "--disable-usage-stats", f"--node-ip-address={address}", f"--temp-dir={temp}",
        "--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0",
        f"--num-cpus={mine.cores}", f"--num-gpus={mine.gpus}",
    ]  # fmt: skip
    if mine.memory:
        store = int(STORE * mine.memory)
        words += [f"--memory={mine.memory - store}", f"--object-store-memory={max(store, 80 * MIB)}"]
    return [*words, *([f"--address={head}"] if head else ["--head", "--port=0", "--include-dashboard=false"])]


def main(temp: Path, head: str | None = None) -> int:
    """Run Ray on this node. Returns 0 if standard input has ended, 1 if Ray ended before."""
    signal.signal(signal.SIGTERM, _end)  # `scancel`: the folder is removed all the same
    name, mine = os.environ["SLURMD_NODENAME"], share(os.environ, len(os.sched_getaffinity(0)))
    # A worker's peer is the head; the head's, whichever node comes first among the others.
    peer = head.rpartition(":")[0] if head else os.environ.get(PEER, "")
    _allow_files()
    _make_folder(temp)
    process = subprocess.Popen(  # noqa: S603 - our words
        command(mine, own_address(name, peer), temp, head), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    said: deque[str] = deque(maxlen=20)
    try:
        assert process.stdout  # noqa: S101 - a pipe was asked for
        threading.Thread(target=said.extend, args=(process.stdout,), daemon=True).start()
        return _watch(process, temp, name, mine, said)
    finally:
        # Once more would interrupt the removal.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_group(process, TEAR_DOWN)
        shutil.rmtree(temp, ignore_errors=True)


PEER = "BIAS_TRANSFER_PEER"
"""Environment variable that names another node to the head."""


def _end(signal_number: int, frame: FrameType | None) -> None:
    sys.exit(128 + signal_number)


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _make_folder(temp: Path) -> None:
    """An empty folder that nobody else can read, without what a killed start of this job left here. Raises UserError if
    another user's folder is in its place."""
    for old in temp.parent.glob(f"{temp.stem}.*"):
        shutil.rmtree(old, ignore_errors=True)
    try:
        temp.mkdir(mode=0o700)
    except FileExistsError:
        raise UserError(f"{temp} on {socket.gethostname()} is another user's, and Ray needs it") from None


def _watch(process: subprocess.Popen[str], temp: Path, name: str, mine: Share, said: deque[str]) -> int:
    over = threading.Event()
    threading.Thread(target=_await_end, args=(sys.stdin, over), daemon=True).start()
    address, announced = temp / "ray_current_cluster", False
    while not over.wait(0.5):
        if process.poll() is not None:
            print(f"{name}: Ray ended by itself:", *said, sep="\n", flush=True)
            return 1
        if not announced and address.is_file() and (found := address.read_text().strip()):
            print(f"{UP} {found} {name}: {_describe(mine)}", flush=True)
            announced = True
    return 0


def _await_end(stream: IO[str], over: threading.Event) -> None:
    with contextlib.suppress(OSError, ValueError):
        stream.read()
    over.set()


def _describe(mine: Share) -> str:
    memory = f", {mine.memory / 2**30:.1f} GiB" if mine.memory else ""
    return f"{mine.cores} cores, {mine.gpus} GPUs{memory}"


def end_group(process: subprocess.Popen[str], patience: float) -> None:
    """End a process that leads its own session, and after `patience` seconds kill all that is left of its group."""
    process.terminate()
    end = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]))
    except (UserError, OSError) as problem:
        sys.exit(f"Error: {problem}")
