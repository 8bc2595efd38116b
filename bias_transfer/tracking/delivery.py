"""Record the results of trials in MLflow; while it is unreachable, queue them in the outbox and send them later."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import Literal

from mlflow import MlflowClient

from bias_transfer.console import redacted
from bias_transfer.errors import UserError
from bias_transfer.tracking import outbox, recorder, retry, runs, store, sweeps
from bias_transfer.tracking.outbox import Entry

State = Literal["done", "failed", "pending", "died", "incomplete"]
"""pending: done or failed, and waiting in the outbox. died: its process ended without reporting. incomplete: it has no result,
or one that could not be written anywhere (a full disk); the next start runs the trial again."""


@dataclass(frozen=True)
class TrialEnd:
    """How a trial of a sweep ended."""

    state: State
    why: str = ""
    """The error of a trial that failed, died or is incomplete; of one that is pending, why it could not be recorded."""
    place: str = ""
    """Where a pending result waits: the outbox, and the host whose outbox it is."""


def record(client: MlflowClient, entry: Entry, run_id: str | None = None) -> None:
    """Record an entry in MLflow. run_id: the trial's run, if it was started."""
    run_id = run_id or recorder.start(client, entry.experiment, entry.trial, entry.parent, entry.name, entry.arm)
    if isinstance(entry.outcome, str):
        recorder.fail(client, run_id, entry.outcome)
    else:
        recorder.record(client, run_id, entry.outcome)


def deliver(entry: Entry, uri: str, patience: float, run_id: str | None = None, storage: str | None = None) -> TrialEnd:
    """Record an entry in MLflow, trying for `patience` seconds, else add it to the outbox. Never raises: a trial's hours of
    work are not lost to a server that restarts."""
    try:
        # Other entries that wait show that MLflow is unreachable: one try is enough, instead of the full time per trial.
        seconds = 0.0 if _others_wait(entry.experiment, storage) else patience
        retry.patiently(lambda: record(store.client_of(uri), entry, run_id), seconds)
    except Exception as error:
        return _queue(entry, storage, describe(error, redacted(uri)))
    return TrialEnd("failed", entry.outcome) if isinstance(entry.outcome, str) else TrialEnd("done")


def _others_wait(experiment: str, storage: str | None) -> bool:
    try:
        return bool(outbox.ids(experiment, storage))
    except UserError:
        return False


def _queue(entry: Entry, storage: str | None, why: str) -> TrialEnd:
    try:
        return TrialEnd("pending", why, f"{outbox.add(entry, storage)} on {socket.gethostname()}")
    except Exception as error:
        reason = f"neither recorded ({why}) nor queued ({describe(error, outbox.location(storage))})"
        return TrialEnd("incomplete", reason)


def describe(error: BaseException, place: str) -> str:
    """An error in one line. For a full disk, the file that could not be written, or `place` if the error names none."""
    full = retry.full_disk(error)
    if full is not None:
        return f"the disk of {full or place} is full"
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:300]}"


@dataclass(frozen=True)
class Sent:
    """How many entries of an experiment's outbox were sent."""

    sent: int = 0
    already_recorded: int = 0
    """Entries that MLflow had, since a process was cut off between recording and removing them."""
    left: tuple[str, ...] = ()
    """Trial id and error of each entry that stays in the outbox."""


def send(client: MlflowClient, experiment: str, parent: str = "", storage: str | None = None) -> Sent:
    """Record an experiment's entries in MLflow. An entry is removed from the outbox only after MLflow has it.

    parent: the parent run for trials whose own parent MLflow does not have, as on a new server. Raises what MLflow's client
    raises if MLflow is unreachable.
    """
    sent, already_recorded, left = 0, 0, list[str]()
    if not outbox.ids(experiment, storage):
        return Sent()
    with outbox.locked(experiment, storage):
        done = runs.finished(client, experiment)
        # Listed again under the lock: another process may have sent some in the meantime.
        for trial_id in outbox.ids(experiment, storage):
            try:
                if trial_id in done:
                    already_recorded += 1
                else:
                    record(client, _with_parent(client, outbox.read(experiment, trial_id, storage), parent))
                    sent += 1
                outbox.remove(experiment, trial_id, storage)
            except Exception as error:
                # One damaged entry does not hold up the others; an unreachable MLflow would fail for each of them.
                if retry.transient(error):
                    raise
                left.append(f"{trial_id}: {describe(error, redacted(client.tracking_uri))}")
    return Sent(sent, already_recorded, tuple(left))


def _with_parent(client: MlflowClient, entry: Entry, parent: str) -> Entry:
    known = entry.parent and sweeps.has_parent(client, entry.parent)
    return entry if known else replace(entry, parent=parent)
