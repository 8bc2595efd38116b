"""What a worker of a sweep does with one trial: run it and record it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def work(config: dict[str, Any], where: dict[str, Any], kept: Mapping[str, Any], fetch: Callable[[Any], Any]) -> None:
    """In a worker: one trial, recorded. What it raises is recorded in its run and marks the trial as failed.

    kept, fetch: what the trials' files are fetched by, where this machine has them not (`content.run`).
    """
    from bias_transfer import content, tracking
    from bias_transfer.spec import parse_trial
    from bias_transfer.trial import Places, forget

    places = Places(storage=where["storage"], checkpoint_minutes=where["checkpoint_minutes"])
    client = tracking.connect(where["uri"])
    trial = parse_trial(config["trial"]["fields"])
    run_id = tracking.start(client, where["experiment"], trial, where["parent"], config["trial"]["name"])
    try:
        result = content.run(trial, places, kept, fetch)
    except Exception as error:
        tracking.fail(client, run_id, _told(error))
        raise
    tracking.record(client, run_id, result)
    forget(trial, places)


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
