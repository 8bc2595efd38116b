"""What a trial came to reaches the store, now or later: recorded, else kept in the outbox, from where it is sent."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import Literal

from bias_transfer.tracking import outbox
from mlflow import MlflowClient
from bias_transfer.tracking import recorder
from bias_transfer.tracking import retry
from bias_transfer.tracking import runs
from bias_transfer.tracking import store
from bias_transfer.tracking import sweeps
from bias_transfer.tracking.outbox import Entry
from bias_transfer.errors import UserError

State = Literal["done", "failed", "kept", "died", "undone"]
"""kept: done or failed, and in the outbox. died: its process could not say what became of it. undone: neither recorded nor kept
(a full disk): the next start runs it."""


@dataclass(frozen=True)
class Outcome:
    """Where a trial of a sweep stands."""

    state: State
    why: str = ""
    """The error of a trial that failed or is undone; of one that is kept, why the store did not take it."""
    place: str = ""
    """Where it is kept."""


def record(client: MlflowClient, entry: Entry, run_id: str | None = None) -> None:
    """Into the store. run_id: the trial's run, if it was started."""
    run_id = run_id or recorder.start(client, entry.experiment, entry.trial, entry.parent, entry.name)
    if isinstance(entry.outcome, str):
        recorder.fail(client, run_id, entry.outcome)
    else:
        recorder.record(client, run_id, entry.outcome)


def deliver(entry: Entry, uri: str, patience: float, run_id: str | None = None, storage: str | None = None) -> Outcome:
    """Into the store, within so many seconds, else into the outbox. Never raises: what can be saved is.

    Where entries of the experiment are waiting already, the store is known to be away, and is tried but once.
    """
    try:
        seconds = 0.0 if _waiting(entry.experiment, storage) else patience
        retry.patiently(lambda: record(store.client_of(uri), entry, run_id), seconds)
    except Exception as error:
        return _kept(entry, storage, told(error, store.shown(uri)))
    return Outcome("failed", entry.outcome) if isinstance(entry.outcome, str) else Outcome("done")


def _waiting(experiment: str, storage: str | None) -> bool:
    try:
        return bool(outbox.ids(experiment, storage))
    except UserError:
        return False


def _kept(entry: Entry, storage: str | None, why: str) -> Outcome:
    try:
        return Outcome("kept", why, f"{outbox.keep(entry, storage)} on {socket.gethostname()}")
    except Exception as error:
        return Outcome("undone", f"neither recorded ({why}) nor kept ({told(error, outbox.place(storage))})")


def told(error: BaseException, place: str) -> str:
    """The error in a line; of a full disk, which: the file that could not be written, else this place."""
    full = retry.full_disk(error)
    if full is not None:
        return f"the disk of {full or place} is full"
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:300]}"


@dataclass(frozen=True)
class Sent:
    """What became of the entries of an experiment."""

    sent: int = 0
    there: int = 0
    """The store had them already."""
    left: tuple[str, ...] = ()
    """What stays in the outbox, and why."""


def send(client: MlflowClient, experiment: str, parent: str = "", storage: str | None = None) -> Sent:
    """Send what the outbox holds of an experiment. An entry is removed when the store has it, and not before.

    parent: for trials whose own parent the store does not have. Raises what the store raises where it is away.
    """
    sent, there, left = 0, 0, list[str]()
    if not outbox.ids(experiment, storage):
        return Sent()
    with outbox.alone(experiment, storage):
        done = runs.finished(client, experiment)
        for trial_id in outbox.ids(experiment, storage):
            try:
                if trial_id in done:
                    there += 1
                else:
                    entry = outbox.read(experiment, trial_id, storage)
                    own = entry.parent if entry.parent and sweeps.has_parent(client, entry.parent) else parent
                    record(client, replace(entry, parent=own))
                    sent += 1
                outbox.remove(experiment, trial_id, storage)
            except Exception as error:
                if retry.transient(error):
                    raise
                left.append(f"{trial_id}: {told(error, store.shown(client.tracking_uri))}")
    return Sent(sent, there, tuple(left))
