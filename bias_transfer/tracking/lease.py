"""One driver per sweep: a lease on the sweep's parent run, which the driver renews while it lives."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from bias_transfer.errors import Exit, UserError
from bias_transfer.hashing import digest
from bias_transfer.tracking.store import SWEEP, search

LEASE = "bias_transfer.driver"
"""The parent run's tag that holds the lease, as JSON."""

BEAT, STALE, SETTLE = 15.0, 60.0, 1.0
"""Seconds: between two heartbeats; until a heartbeat is stale, which is four of them, so that a busy server costs no driver its
lease; between writing a lease and reading it back."""


class HeldError(UserError):
    """Another driver is running the sweep."""

    status = Exit.HELD


@dataclass(frozen=True)
class Lease:
    """The driver of a sweep: its process, and when that was last seen."""

    host: str
    machine: str
    """Digest of the boot and the process namespace: equal on machines that see each other's processes, which hosts of one
    name need not."""
    pid: int
    begun: str
    """Start time of the process in the machine's clock ticks: a later process may get the same number."""
    since: float
    """When the lease was taken, in seconds since 1970, like `beat`."""
    beat: float
    """The last heartbeat."""

    @property
    def owner(self) -> str:
        """The driver, for messages."""
        return f"process {self.pid} on {self.host}"

    def same(self, other: Lease | None) -> bool:
        """Whether both leases belong to the same driver."""
        return other is not None and replace(self, beat=other.beat) == other


def holder(run: Any) -> Lease | None:
    """The lease on a parent run, whether or not its driver still lives. None for a tag that cannot be parsed."""
    content = run.data.tags.get(LEASE)
    try:
        return Lease(**json.loads(content)) if content else None
    except (ValueError, TypeError):
        return None


def alive(lease: Lease) -> bool | None:
    """Whether the driver's process lives; None if this machine cannot see it."""
    if lease.machine != _machine():
        return None
    return _begun(lease.pid) == lease.begun


@contextmanager
def held(client: MlflowClient, parent: str) -> Iterator[threading.Event]:
    """Hold the sweep's lease. Yields an event that is set if another driver takes the lease over, which may happen when this
    process was suspended for a minute. Raises HeldError.

    MLflow has no locks. Two drivers that start at the same moment both write, wait for `SETTLE` seconds and read back: the
    one that wrote last goes on. If a write takes longer than that, both go on until the next heartbeat, when one of them
    finds the other's lease and stops. Trials that both ran are counted once.
    """
    lease = _take(client, parent)
    ended, lost = threading.Event(), threading.Event()
    heart = threading.Thread(target=_beat, args=(client, parent, lease, ended, lost), daemon=True)
    heart.start()
    try:
        yield lost
    finally:
        ended.set()
        # A heartbeat on its way would write the tag again after it has been deleted.
        heart.join(BEAT)
        # A lease that another driver has taken over is not ours to delete.
        if not lost.is_set():
            # While MLflow is unreachable the tag stays; the next driver sees that this process is gone.
            with suppress(Exception):
                client.delete_tag(parent, LEASE)


def check_free(client: MlflowClient, parents: Iterable[Any], again: str) -> None:
    """Raises HeldError if a driver that lives holds the lease of one of these parent runs.

    again: what to do when it has ended, as a sentence begins.
    """
    for run in parents:
        lease = holder(run)
        if lease and _lives(client, run.info.run_id, lease):
            raise _held(lease, again)


def _take(client: MlflowClient, parent: str) -> Lease:
    former = _holder(client, parent)
    if former and _lives(client, parent, former):
        raise _held(former)
    now = time.time()
    lease = Lease(socket.gethostname(), _machine(), os.getpid(), _begun(os.getpid()) or "", now, now)
    _write(client, parent, lease)
    time.sleep(SETTLE)
    # A twin first: it has a lease of its own, which reading this one back would never meet.
    _drop_twin(client, parent)
    latest = _holder(client, parent)
    if latest and not lease.same(latest):
        raise _held(latest)
    return lease


def _lives(client: MlflowClient, parent: str, lease: Lease) -> bool:
    """Whether the lease's driver lives. On this machine its process decides, elsewhere its heartbeat."""
    seen = alive(lease)
    if seen is not None:
        return seen
    # A stale heartbeat may come from a machine whose clock lags, or that could not reach MLflow: wait for one more.
    if time.time() - lease.beat < STALE:
        return True
    time.sleep(BEAT + SETTLE)
    later = _holder(client, parent)
    return later is not None and later != lease


def _drop_twin(client: MlflowClient, parent: str) -> None:
    """Delete this parent run if another start of the same grid created one at the same moment and was first: HeldError."""
    run = client.get_run(parent)
    sweep_id = run.data.tags.get(SWEEP, "")
    twins = search(client, run.info.experiment_id, f"tags.`{SWEEP}` = '{sweep_id}'")
    first = min(twins, key=begun_first, default=run)
    if first.info.run_id != parent:
        client.delete_run(parent)
        raise _held(holder(first))


def begun_first(run: Any) -> tuple[int, str]:
    """Sort key of the parent runs of one grid: the first one is the sweep's."""
    return int(run.info.start_time), str(run.info.run_id)


def _beat(client: MlflowClient, parent: str, lease: Lease, ended: threading.Event, lost: threading.Event) -> None:
    while not ended.wait(BEAT) and not lost.is_set():
        # While MLflow is unreachable the heartbeat fails; the driver's own requests report it.
        with suppress(Exception):
            latest = _holder(client, parent)
            if latest and not lease.same(latest):
                lost.set()
            elif not ended.is_set():
                _write(client, parent, replace(lease, beat=time.time()))


def _holder(client: MlflowClient, parent: str) -> Lease | None:
    return holder(client.get_run(parent))


def _write(client: MlflowClient, parent: str, lease: Lease) -> None:
    content = json.dumps(asdict(lease))
    try:
        client.set_tag(parent, LEASE, content)
    except MlflowException:
        # MLflow inserts a new tag and updates an old one: of two inserts at the same moment one fails and must update.
        client.set_tag(parent, LEASE, content)


def _held(lease: Lease | None, again: str = "Start the sweep again") -> HeldError:
    driver = "another driver, which started at the same moment"
    if lease:
        since = datetime.fromtimestamp(lease.since, UTC)
        driver = f"{lease.owner} since {since:%Y-%m-%d %H:%M} UTC (last heartbeat {time.time() - lease.beat:.0f} s ago)"
    return HeldError(
        f"this sweep is being run by {driver}. Follow it: bias-transfer status EXPERIMENT. {again} "
        f"when that driver has ended; if its machine is gone, one minute after its last heartbeat."
    )


def _machine() -> str:
    """`Lease.machine` of this process."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    identity = [boot.read_text().strip(), str(space.readlink())] if boot.exists() and space.is_symlink() else []
    return digest([socket.gethostname(), *identity])[:12]


def _begun(pid: int) -> str | None:
    """When the process began, in clock ticks since boot; None if there is no such process, or it ended (a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _begun_elsewhere(pid)
    return None if fields[0] in "ZX" else fields[19]


def _begun_elsewhere(pid: int) -> str | None:
    """Without /proc (macOS): "running" if there is a process of that number; when it began is not known."""
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"
