"""One driver a sweep: a lease on its parent run, which the driver renews while it lives."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from bias_transfer.errors import Exit
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.tracking.store import SWEEP
from bias_transfer.tracking.store import search

LEASE = "bias_transfer.driver"
"""The parent run's tag that holds it, as JSON."""

BEAT, STALE, SETTLE = 15.0, 60.0, 1.0
"""Seconds: between two beats; after which a beat is old; between writing a lease and reading it back."""


class HeldError(UserError):
    """Another driver runs the sweep."""

    status = Exit.HELD


@dataclass(frozen=True)
class Lease:
    """Who runs a sweep."""

    host: str
    machine: str
    """Tells hosts of one name apart, and what can see each other's processes from what cannot."""
    pid: int
    begun: str
    """When the process began, in the machine's own ticks: another one may get its number later."""
    since: float
    """Seconds since 1970, like `beat`."""
    beat: float

    @property
    def owner(self) -> str:
        """As it is shown to people."""
        return f"process {self.pid} on {self.host}"

    def same(self, other: Lease | None) -> bool:
        """Whether both are of one driver."""
        return other is not None and replace(self, beat=other.beat) == other


def holder(run: Any) -> Lease | None:
    """The lease on a parent run, whether or not its driver still lives."""
    told = run.data.tags.get(LEASE)
    try:
        return Lease(**json.loads(told)) if told else None
    except (ValueError, TypeError):
        return None


def alive(lease: Lease) -> bool | None:
    """Whether the driver's process lives; None where that cannot be seen from here."""
    if lease.machine != _machine():
        return None
    return _begun(lease.pid) == lease.begun


@contextmanager
def held(client: MlflowClient, parent: str) -> Iterator[threading.Event]:
    """Hold the sweep's lease. Yields an event that is set if another driver took it over, as it may when this process did not
    run for a minute. Raises HeldError.

    The store knows no locks. Two drivers that start at the same moment both write, wait for `SETTLE` seconds and read back:
    the one that wrote last goes on. Should one's write take longer than that, both go on until the next beat: then one of
    them finds the other's lease and stops. Trials that both ran are counted once.
    """
    own = _take(client, parent)
    ended, lost = threading.Event(), threading.Event()
    beating = threading.Thread(target=_beat, args=(client, parent, own, ended, lost), daemon=True)
    beating.start()
    try:
        yield lost
    finally:
        ended.set()
        beating.join(BEAT)
        if not lost.is_set():
            with suppress(Exception):  # the store is away: the next driver sees that this process is gone
                client.delete_tag(parent, LEASE)


def _take(client: MlflowClient, parent: str) -> Lease:
    there = _holder(client, parent)
    if there and _lives(client, parent, there):
        raise _held(there)
    now = time.time()
    own = Lease(socket.gethostname(), _machine(), os.getpid(), _begun(os.getpid()) or "", now, now)
    _write(client, parent, own)
    time.sleep(SETTLE)
    _drop_twin(client, parent)
    after = _holder(client, parent)
    if after and not own.same(after):
        raise _held(after)
    return own


def _lives(client: MlflowClient, parent: str, lease: Lease) -> bool:
    """A process that can be seen decides. Of one that cannot, a fresh beat is believed; an old one may be that of a machine
    whose clock lags, or that could not reach the store: it is watched for one beat more."""
    seen = alive(lease)
    if seen is not None:
        return seen
    if time.time() - lease.beat < STALE:
        return True
    time.sleep(BEAT + SETTLE)
    later = _holder(client, parent)
    return later is not None and later != lease


def _drop_twin(client: MlflowClient, parent: str) -> None:
    """Of two parents that two first starts made at the same moment, the one that began first is the sweep's."""
    run = client.get_run(parent)
    sweep_id = run.data.tags.get(SWEEP, "")
    twins = search(client, run.info.experiment_id, f"tags.`{SWEEP}` = '{sweep_id}'")
    first = min(twins, key=begun_first, default=run)
    if first.info.run_id != parent:
        client.delete_run(parent)
        raise _held(holder(first))


def begun_first(run: Any) -> tuple[int, str]:
    """The order of parents of one grid."""
    return int(run.info.start_time), str(run.info.run_id)


def _beat(client: MlflowClient, parent: str, own: Lease, ended: threading.Event, lost: threading.Event) -> None:
    while not ended.wait(BEAT) and not lost.is_set():
        with suppress(Exception):  # the store is away: that is not this thread's to tell
            there = _holder(client, parent)
            if there and not own.same(there):
                lost.set()
            elif not ended.is_set():
                _write(client, parent, replace(own, beat=time.time()))


def _holder(client: MlflowClient, parent: str) -> Lease | None:
    return holder(client.get_run(parent))


def _write(client: MlflowClient, parent: str, lease: Lease) -> None:
    told = json.dumps(asdict(lease))
    try:
        client.set_tag(parent, LEASE, told)
    except MlflowException:  # MLflow inserts a new tag: of two that do so at one moment, one fails and must update it
        client.set_tag(parent, LEASE, told)


def _held(lease: Lease | None) -> HeldError:
    who = "another driver, which started at the same moment"
    if lease:
        since = datetime.fromtimestamp(lease.since, UTC)
        who = f"{lease.owner} since {since:%Y-%m-%d %H:%M} UTC (last sign of life {time.time() - lease.beat:.0f} s ago)"
    return HeldError(
        f"this sweep is being run by {who}. Watch it: python -m bias_transfer.status EXPERIMENT. Start again when it has "
        f"ended; if its machine is gone, a minute after its last sign of life."
    )


def _machine() -> str:
    """This boot of this machine, and what processes are seen from here."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    seen = [boot.read_text().strip(), str(space.readlink())] if boot.exists() and space.is_symlink() else []
    return digest([socket.gethostname(), *seen])[:12]


def _begun(pid: int) -> str | None:
    """When the process began; None where there is none (or only what is left of one that ended)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _begun_elsewhere(pid)
    return None if words[0] in "ZX" else words[19]


def _begun_elsewhere(pid: int) -> str | None:
    """Without /proc (macOS): whether there is a process of that number, not when it began."""
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"
