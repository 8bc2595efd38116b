"""What a sweep's worker does with one trial: run it, unless it is done, and record the result in MLflow or the outbox."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bias_transfer.console import Report, silent
from bias_transfer.spec import CHECKPOINT_MINUTES, Trial, parse_trial

PATIENCE = 300.0
"""Seconds for which a finished trial waits for an MLflow that is unreachable, before its result goes to the outbox."""


@dataclass(frozen=True)
class Where:
    """Where a sweep's workers record: no part of a trial."""

    experiment: str
    parent: str
    """The run id of the sweep's parent."""
    uri: str
    """The MLflow tracking URI."""
    patience: float = PATIENCE
    storage: str | None = None
    """Where the outbox and the checkpoints are stored; None: each machine's own default."""
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    keep_models: bool = False
    """Whether fine-tuned classifiers are stored, next to the checkpoints."""
    keep_predictions: bool = False
    """Whether runs have the predictions of every example as an artifact."""


def work(
    config: dict[str, Any],
    where: Where,
    shipped: Mapping[str, Any],
    fetch: Callable[[Any], Any],
    report: Report = silent,
    warn: Callable[[str], object] = lambda text: None,
) -> dict[str, str]:
    """Run one trial and record it; returns the fields of a `delivery.TrialEnd`.

    What the trial raises is recorded and returned, not raised: Tune would run the trial again. shipped, fetch: how the
    trial's input files are fetched where this machine does not have them (`inputs.run`). report, warn: receive
    the stages of the trial, and its warnings.
    """
    from bias_transfer.pipeline import forget
    from bias_transfer.resolved import Places
    from bias_transfer.sweep import inputs
    from bias_transfer.tracking import delivery, outbox, recorder, retry, store

    _leave_broken_device()
    trial = parse_trial(config["fields"])
    places = Places(
        report=report,
        storage=where.storage,
        checkpoint_minutes=where.checkpoint_minutes,
        keep_models=where.keep_models,
        keep_predictions=where.keep_predictions,
    )
    # Its process may have died after the result had been queued: Ray then starts the trial again.
    if _is_pending(trial, where):
        return asdict(delivery.TrialEnd("pending", "its result waits in the outbox", outbox.location(where.storage)))
    run_id: str | None = ""
    # If MLflow is unreachable now, the trial runs all the same: its result is delivered when it ends.
    with suppress(Exception):
        client = store.client_of(where.uri)
        run_id = recorder.begin(client, where.experiment, trial, where.parent, config["name"], config["arm"])
    if run_id is None:
        return asdict(delivery.TrialEnd("done", "another sweep ran it"))
    try:
        outcome: Any = inputs.run(trial, places, shipped, fetch)
        for text in outcome.warnings:
            warn(f"{config['name']}: {text}")
    except Exception as error:
        # A full disk is this machine's fault, not the trial's: it is not recorded as a failure of the trial.
        if retry.full_disk(error) is not None:
            return asdict(delivery.TrialEnd("incomplete", delivery.describe(error, "this machine")))
        outcome = _failure(error)
    entry = outbox.Entry(where.experiment, where.parent, config["name"], trial, outcome, config["arm"])
    delivered = delivery.deliver(entry, where.uri, where.patience, run_id or None, where.storage)
    # The checkpoint goes last: until the result is stored somewhere, it is all that is left of the trial if the process dies.
    if delivered.state in ("done", "pending"):
        forget(trial, places)
    return asdict(delivered)


def _is_pending(trial: Trial, where: Where) -> bool:
    from bias_transfer.tracking import outbox

    with suppress(Exception):
        entry = outbox.read(where.experiment, trial.id, where.storage)
        return not isinstance(entry.outcome, str)
    return False


def _failure(error: Exception) -> str:
    """The error in one line, with the place in the code where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    hint = "; lower micro_batch_size" if isinstance(error, MemoryError) or "out of memory" in str(error).lower() else ""
    return f"{type(error).__name__}: {error}{hint} ({Path(frame.filename).name}:{frame.lineno})"


def _leave_broken_device() -> None:
    """End this process if an earlier trial left the GPU unusable for it, as a failed assertion in a kernel does: the trial
    starts again in a fresh process."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        # An exception would be recorded as this trial's failure.
        os._exit(1)
