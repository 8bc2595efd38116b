"""The queue of results that could not be recorded while MLflow was unreachable, in STORAGE/outbox/EXPERIMENT/TRIAL.

STORAGE is BIAS_TRANSFER_STORAGE, a folder or a URI such as s3://bucket/prefix, else the cache's folder. An entry is a folder
with measures.parquet, entry.json and, if they were kept, predictions.parquet. entry.json is written last and removed first, so
that an entry exists exactly when it does. An entry contains no pickles, no passwords and no text of the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from bias_transfer.console import redacted
from bias_transfer.errors import UserError
from bias_transfer.spec import Measure, Step, Trial, TrialResult, parse_trial
from bias_transfer.storage.filesystem import locate, named, write
from bias_transfer.storage.filesystem import read as get
from bias_transfer.tracking import results, store

ENTRY, MEASURES, PREDICTIONS = "entry.json", store.MEASURES, store.PREDICTIONS


@dataclass(frozen=True)
class Entry:
    """The outcome of a trial, and the sweep that it belongs to."""

    experiment: str
    parent: str
    """The run id of the sweep's parent run, or empty."""
    name: str
    """The run's name in MLflow's UI."""
    trial: Trial
    outcome: TrialResult | str
    """The result, or the error message of a trial that failed."""
    arm: str = ""
    """The arm's name in MLflow's UI; empty: the trial's own."""


def add(entry: Entry, storage: str | None = None) -> str:
    """Write an entry, whole or not at all. An error does not replace a result. Returns the outbox's location, for messages.

    Raises OSError, ArrowException or UserError if the storage cannot be written.
    """
    filesystem, folder = _folder(storage, entry.experiment, entry.trial.id)
    existing = filesystem.get_file_info([f"{folder}/{MEASURES}", f"{folder}/{ENTRY}"])
    if isinstance(entry.outcome, TrialResult):
        # The table first: an entry counts as soon as it has an entry.json, and must then be complete.
        table = BytesIO()
        results.long_table(entry.outcome).to_parquet(table)
        write(filesystem, f"{folder}/{MEASURES}", table.getvalue())
        if entry.outcome.predictions is not None:
            write(filesystem, f"{folder}/{PREDICTIONS}", entry.outcome.predictions)
    # The trial ran again, for instance on another machine, and failed: the result that waits is worth more.
    elif all(file.type == FileType.File for file in existing):
        return location(storage)
    write(filesystem, f"{folder}/{ENTRY}", json.dumps(_content(entry), indent=1, default=float).encode())
    return location(storage)


def _content(entry: Entry) -> dict[str, Any]:
    """As Python's json module writes it: floats come back bit for bit, and a missing value is NaN."""
    content = {name: getattr(entry, name) for name in ("experiment", "parent", "name", "arm")}
    content |= {"id": entry.trial.id, "trial": entry.trial.model_dump()}
    if isinstance(entry.outcome, str):
        return content | {"error": entry.outcome}
    parts = {name: getattr(entry.outcome, name) for name in ("facts", "headline", "warnings", "seconds")}
    kept = {"predictions": True} if entry.outcome.predictions is not None else {}
    return content | parts | {"curve": [asdict(step) for step in entry.outcome.curve]} | kept


def read(experiment: str, trial_id: str, storage: str | None = None) -> Entry:
    """Read an entry. Raises ValueError if it is damaged, OSError or ArrowException if it cannot be read."""
    filesystem, folder = _folder(storage, experiment, trial_id)
    try:
        content = json.loads(get(filesystem, f"{folder}/{ENTRY}"))
        trial = parse_trial(content["trial"])
        if (content["experiment"], trial.id) != (experiment, trial_id):
            raise ValueError(f"it belongs to trial {trial.id} of {content['experiment']}")
        kept = get(filesystem, f"{folder}/{PREDICTIONS}") if content.get("predictions") else None
        outcome: TrialResult | str = content.get("error") or _result(
            trial, content, get(filesystem, f"{folder}/{MEASURES}"), kept
        )
        return Entry(experiment, content["parent"], content["name"], trial, outcome, content.get("arm", ""))
    except (KeyError, TypeError, UserError) as error:
        raise ValueError(str(error)) from error


def _result(trial: Trial, content: dict[str, Any], table: bytes, predictions: bytes | None) -> TrialResult:
    rows = pd.read_parquet(BytesIO(table)).drop(columns="trial").to_dict("records")
    return TrialResult(
        trial=trial,
        measures=tuple(Measure(**{str(name): value for name, value in row.items()}) for row in rows),
        curve=tuple(Step(**step) for step in content["curve"]),
        headline=content["headline"],
        facts=content["facts"],
        warnings=tuple(content["warnings"]),
        seconds=content["seconds"],
        predictions=predictions,
    )


def remove(experiment: str, trial_id: str, storage: str | None = None) -> None:
    """Remove an entry that MLflow has."""
    filesystem, folder = _folder(storage, experiment, trial_id)
    # entry.json first: if this process is killed in between, the rest of the folder is not taken for an entry.
    filesystem.delete_file(f"{folder}/{ENTRY}")
    filesystem.delete_dir(folder)


def ids(experiment: str, storage: str | None = None) -> list[str]:
    """The ids of an experiment's trials in the outbox. Raises UserError if the storage cannot be read."""
    return [trial_id for name, trial_id in _entries(storage, experiment) if name == experiment]


def outcomes(experiment: str, storage: str | None = None) -> dict[str, str]:
    """Trial id -> the error of a trial that failed, or an empty string for one with a result. Damaged entries are left out,
    so that their trials run again. Raises UserError if the storage cannot be read."""
    errors = dict[str, str]()
    for trial_id in ids(experiment, storage):
        with suppress(ValueError, OSError, ArrowException):
            outcome = read(experiment, trial_id, storage).outcome
            errors[trial_id] = outcome if isinstance(outcome, str) else ""
    return errors


def experiments(storage: str | None = None) -> list[str]:
    """The names of the experiments that have entries."""
    return sorted({experiment for experiment, _ in _entries(storage)})


def _entries(storage: str | None, *parts: str) -> list[tuple[str, str]]:
    """(experiment, trial id) of every entry below the outbox's folder `parts`."""
    try:
        filesystem, folder = _folder(storage, *parts)
        files = filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    except (ArrowException, OSError) as error:
        raise UserError(f"the storage {location(storage)} cannot be read: {str(error).splitlines()[0]}") from None
    paths = [file.path.split("/") for file in files if file.type == FileType.File]
    return sorted((path[-3], path[-2]) for path in paths if path[-1] == ENTRY)


@contextmanager
def locked(experiment: str, storage: str | None = None) -> Iterator[None]:
    """Let one process at a time send an experiment's entries, if the outbox is a folder. In a bucket there is no lock: two
    processes may record the same result twice, which counts once."""
    filesystem, folder = _folder(storage, experiment)
    if not (isinstance(filesystem, LocalFileSystem) and Path(folder).is_dir()):
        yield
        return
    with FileLock(Path(folder) / ".lock"):
        yield


def location(storage: str | None = None) -> str:
    """The outbox's folder or URI, as messages may show it."""
    return f"{redacted(named(storage)).rstrip('/')}/outbox"


def _folder(storage: str | None, *parts: str) -> tuple[FileSystem, str]:
    return locate(named(storage), "outbox", *parts)
