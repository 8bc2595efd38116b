"""What a worker of a sweep does with one trial: run it, unless it is done, and see that its result reaches the store."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bias_transfer.spec import CHECKPOINT_MINUTES
from bias_transfer.spec import Trial
from bias_transfer.spec import parse_trial

PATIENCE = 300.0
"""Seconds for which a finished trial waits for a store that is away, before its result is kept in the outbox."""


@dataclass(frozen=True)
class Where:
    """Where a sweep's workers record: no part of a trial."""

    experiment: str
    parent: str
    """The run id of the sweep's parent."""
    uri: str
    """Of the MLflow store."""
    patience: float = PATIENCE
    storage: str | None = None
    """The outbox's and the checkpoints'; None: each machine's own default."""
    checkpoint_minutes: float = CHECKPOINT_MINUTES


def work(config: dict[str, Any], where: Where, kept: Mapping[str, Any], fetch: Callable[[Any], Any]) -> dict[str, str]:
    """One trial. What it raises is recorded and returned, not raised, or Tune would run it again. Returns the fields of a
    `delivery.Outcome`.

    kept, fetch: what the trial's files are fetched by, where this machine has them not (`content.run`).
    """
    from bias_transfer.sweep import inputs
    from bias_transfer.tracking import delivery
    from bias_transfer.tracking import outbox
    from bias_transfer.tracking import recorder
    from bias_transfer.tracking import retry
    from bias_transfer.tracking import store
    from bias_transfer.tracking.outbox import Entry
    from bias_transfer.pipeline import Places
    from bias_transfer.pipeline import forget

    _leave_broken_device()
    trial = parse_trial(config["fields"])
    places = Places(storage=where.storage, checkpoint_minutes=where.checkpoint_minutes)
    if _kept(trial, where):
        return asdict(delivery.Outcome("kept", "an earlier start kept it", outbox.place(where.storage)))
    run_id: str | None = ""
    with suppress(Exception):  # the store is away: the trial runs all the same
        run_id = recorder.begin(store.client_of(where.uri), where.experiment, trial, where.parent, config["name"])
    if run_id is None:
        return asdict(delivery.Outcome("done", "another sweep ran it"))
    try:
        outcome: Any = inputs.run(trial, places, kept, fetch)
    except Exception as error:
        if retry.full_disk(error) is not None:
            return asdict(delivery.Outcome("undone", delivery.told(error, "this machine")))
        outcome = _told(error)
    entry = Entry(where.experiment, where.parent, config["name"], trial, outcome)
    delivered = delivery.deliver(entry, where.uri, where.patience, run_id or None, where.storage)
    if delivered.state in ("done", "kept"):
        forget(trial, places)
    return asdict(delivered)


def _kept(trial: Trial, where: Where) -> bool:
    from bias_transfer.tracking import outbox

    with suppress(Exception):
        entry = outbox.read(where.experiment, trial.id, where.storage)
        return not isinstance(entry.outcome, str)
    return False


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    hint = "; lower micro_batch_size" if isinstance(error, MemoryError) or "out of memory" in str(error).lower() else ""
    return f"{type(error).__name__}: {error}{hint} ({Path(where.filename).name}:{where.lineno})"


def _leave_broken_device() -> None:
    """End this process where an earlier trial left the GPU unusable for it, as a failed assertion in a kernel does: the trial
    starts again in a fresh one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        os._exit(1)  # not an exception, which would be this trial's
