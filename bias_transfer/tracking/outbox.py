"""Results that the store could not take, kept until they are sent, in STORAGE/outbox/EXPERIMENT/TRIAL.

STORAGE is BIAS_TRANSFER_STORAGE, a folder or a URI such as s3://bucket/prefix, else the cache's folder. An entry is a folder
with measures.parquet and entry.json; it is there when the latter is, which is written last. It holds no pickle, no password
and no text of the data.
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

from bias_transfer.tracking import results
from bias_transfer.tracking import store
from bias_transfer.spec import Measure
from bias_transfer.spec import Step
from bias_transfer.spec import Trial
from bias_transfer.spec import TrialResult
from bias_transfer.errors import UserError
from bias_transfer.spec import parse_trial
from bias_transfer.storage.filesystem import locate
from bias_transfer.storage.filesystem import named
from bias_transfer.storage.filesystem import shown
from bias_transfer.storage.filesystem import write
from bias_transfer.storage.filesystem import read as get

ENTRY, MEASURES = "entry.json", store.MEASURES


@dataclass(frozen=True)
class Entry:
    """What a trial came to, and whose it is."""

    experiment: str
    parent: str
    """The run id of the sweep's parent, or empty."""
    name: str
    """What the MLflow UI shows."""
    trial: Trial
    outcome: TrialResult | str
    """Its result, or the error that it failed with."""


def keep(entry: Entry, storage: str | None = None) -> str:
    """Write the entry, whole or not at all. A result is not replaced by an error. Returns where it lies, for messages.

    Raises OSError, ArrowException or UserError where the storage cannot be written.
    """
    filesystem, folder = _folder(storage, entry.experiment, entry.trial.id)
    there = filesystem.get_file_info([f"{folder}/{MEASURES}", f"{folder}/{ENTRY}"])
    if isinstance(entry.outcome, TrialResult):
        table = BytesIO()
        results.long_table(entry.outcome).to_parquet(table)
        write(filesystem, f"{folder}/{MEASURES}", table.getvalue())
    elif all(file.type == FileType.File for file in there):
        return place(storage)
    write(filesystem, f"{folder}/{ENTRY}", json.dumps(_content(entry), indent=1, default=float).encode())
    return place(storage)


def _content(entry: Entry) -> dict[str, Any]:
    """As Python writes JSON: floats come back bit for bit, and what is missing is NaN."""
    content = {name: getattr(entry, name) for name in ("experiment", "parent", "name")}
    content |= {"id": entry.trial.id, "trial": entry.trial.model_dump()}
    if isinstance(entry.outcome, str):
        return content | {"error": entry.outcome}
    parts = {name: getattr(entry.outcome, name) for name in ("facts", "headline", "warnings", "seconds")}
    return content | parts | {"curve": [asdict(step) for step in entry.outcome.curve]}


def read(experiment: str, trial_id: str, storage: str | None = None) -> Entry:
    """The entry. Raises ValueError where it is damaged, OSError or ArrowException where it cannot be read."""
    filesystem, folder = _folder(storage, experiment, trial_id)
    try:
        content = json.loads(get(filesystem, f"{folder}/{ENTRY}"))
        trial = parse_trial(content["trial"])
        if (content["experiment"], trial.id) != (experiment, trial_id):
            raise ValueError(f"it is of trial {trial.id} of {content['experiment']}")
        outcome: TrialResult | str = content.get("error") or _result(
            trial, content, get(filesystem, f"{folder}/{MEASURES}")
        )
        return Entry(experiment, content["parent"], content["name"], trial, outcome)
    except (KeyError, TypeError, UserError) as error:
        raise ValueError(str(error)) from error


def _result(trial: Trial, content: dict[str, Any], table: bytes) -> TrialResult:
    rows = pd.read_parquet(BytesIO(table)).drop(columns="trial").to_dict("records")
    return TrialResult(
        trial=trial,
        measures=tuple(Measure(**{str(name): value for name, value in row.items()}) for row in rows),
        curve=tuple(Step(**step) for step in content["curve"]),
        headline=content["headline"],
        facts=content["facts"],
        warnings=tuple(content["warnings"]),
        seconds=content["seconds"],
    )


def remove(experiment: str, trial_id: str, storage: str | None = None) -> None:
    """Forget an entry that the store has."""
    filesystem, folder = _folder(storage, experiment, trial_id)
    filesystem.delete_file(f"{folder}/{ENTRY}")  # first: what is left of it is no entry
    filesystem.delete_dir(folder)


def ids(experiment: str, storage: str | None = None) -> list[str]:
    """The trials of the experiment that lie here. Raises UserError where the storage cannot be read."""
    return [trial_id for own, trial_id in _entries(storage, experiment) if own == experiment]


def outcomes(experiment: str, storage: str | None = None) -> dict[str, str]:
    """Trial id -> the error that it failed with, or nothing for one that has its result here. One that is damaged is left out:
    it runs again. Raises UserError where the storage cannot be read."""
    found = dict[str, str]()
    for trial_id in ids(experiment, storage):
        with suppress(ValueError, OSError, ArrowException):
            outcome = read(experiment, trial_id, storage).outcome
            found[trial_id] = outcome if isinstance(outcome, str) else ""
    return found


def experiments(storage: str | None = None) -> list[str]:
    """The experiments of which something lies here."""
    return sorted({experiment for experiment, _ in _entries(storage)})


def _entries(storage: str | None, *parts: str) -> list[tuple[str, str]]:
    try:
        filesystem, folder = _folder(storage, *parts)
        found = filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    except (ArrowException, OSError) as error:
        raise UserError(f"the storage {place(storage)} cannot be read: {str(error).splitlines()[0]}") from None
    files = [file.path.split("/") for file in found if file.type == FileType.File]
    return sorted((path[-3], path[-2]) for path in files if path[-1] == ENTRY)


@contextmanager
def alone(experiment: str, storage: str | None = None) -> Iterator[None]:
    """One process at a time sends an experiment's entries, where they lie in a folder; elsewhere two may send one twice, which
    is counted once."""
    filesystem, folder = _folder(storage, experiment)
    if not (isinstance(filesystem, LocalFileSystem) and Path(folder).is_dir()):
        yield
        return
    with FileLock(Path(folder) / ".lock"):
        yield


def place(storage: str | None = None) -> str:
    """The outbox's folder or address, for messages."""
    return f"{shown(named(storage)).rstrip('/')}/outbox"


def _folder(storage: str | None, *parts: str) -> tuple[FileSystem, str]:
    return locate(named(storage), "outbox", *parts)
