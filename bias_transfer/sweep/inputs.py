"""Data, models and own tasks on a machine that has not their files: found by content, and fetched once a machine.

A trial names files by a path of the machine on which the sweep started. Here that machine packs the files that the trials'
digests cover, and a worker that has not the same content at that path runs the trial with a copy from its cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bias_transfer.storage import cache
from bias_transfer.models import hub
from bias_transfer.spec import Trial
from bias_transfer.spec import TrialResult
from bias_transfer.errors import UserError
from bias_transfer.tasks import readers
from bias_transfer.tasks.wiki import data
from bias_transfer.pipeline import Places
from bias_transfer.pipeline import resolve
from bias_transfer.pipeline import run_trial

Kept = Mapping[str, Any]
"""Digest -> what `fetch` makes a `Pack` of."""


FOLDER = "folder"
"""In the cache: what lies in a trial's folder is in one of this name."""


@dataclass(frozen=True)
class Pack:
    """The bytes that a digest stands for."""

    files: Mapping[str, np.ndarray]
    """Name -> content, uint8: plain files of one folder, neither links nor folders."""
    folder: bool
    """Whether a trial names the folder, or its one file."""


def named(trial: Trial) -> dict[str, tuple[str, str]]:
    """Field or option -> (what it names, digest), of a resolved trial: a path, or what the hub or the project itself has."""
    fields = {"data": (trial.data, trial.data_digest), "model": (trial.model, trial.model_digest)}
    if trial.task_digest:
        fields["task"] = (trial.task, trial.task_digest)
    options = trial.options
    return fields | {
        key: (str(value), str(options[f"{key}_digest"])) for key, value in options.items() if f"{key}_digest" in options
    }


def packs(trials: Sequence[Trial]) -> Iterator[tuple[str, Pack]]:
    """(digest, its files) for each file and folder of this machine that resolved trials name, each once.

    Raises UserError for a folder with a link that leaves it.
    """
    found = {digest: (key, path) for trial in trials for key, (path, digest) in named(trial).items()}
    for digest, (key, path) in found.items():
        if Path(path).exists():
            yield digest, pack(Path(path), hub.checkpoint_files if key == "model" else _data_files)


def pack(path: Path, covered: Callable[[Path], Sequence[Path]]) -> Pack:
    """A file, or of a folder the files that are `covered`. Raises UserError for a link that leaves the folder."""
    own = [path] if path.is_file() else covered(path)
    for file in own:
        if path.is_dir() and not _within(file, path):
            raise UserError(
                f"{file} is a link that leaves its folder, and is not sent to other machines. Copy it there."
            )
    return Pack({file.name: np.fromfile(file, dtype=np.uint8) for file in own}, folder=path.is_dir())


def _data_files(folder: Path) -> list[Path]:
    names = [f"{split}{kind}" for split in readers.SPLITS for kind in readers.READERS]
    return [folder / name for name in (*names, data.COMMENTS, data.ANNOTATIONS) if (folder / name).is_file()]


def _within(file: Path, folder: Path) -> bool:
    """Whether the file is in the folder when links are followed, or in the hub's cache as one of its snapshot's."""
    target, own = file.resolve(), folder.resolve()
    return target.parent == own or (own.parent.name == "snapshots" and target.parent == own.parents[1] / "blobs")


def unpack(packed: Pack, target: Path) -> None:
    """Write the files into the folder `target`, which is made. Raises UserError, before that, for a name with a path."""
    for name in packed.files:
        if name in ("", ".", "..") or Path(name).name != name:
            raise UserError(f"a file is named {name!r}, which leaves its folder: it is not written")
    target.mkdir(exist_ok=True)
    for name, content in packed.files.items():
        (target / name).write_bytes(content.data)


def run(trial: Trial, places: Places, kept: Kept, fetch: Callable[[Any], Pack]) -> TrialResult:
    """Run a resolved trial with what this machine has, and with what is `kept` for it elsewhere.

    The result is as if all lay here: it holds the trial as given. Raises UserError where what was fetched is not what the
    trial names.
    """
    if _at_hand(trial, kept):
        return run_trial(trial, places)
    moved = {
        key: (path, str(_fetched(places.cache, digest, kept[digest], fetch)))
        for key, (path, digest) in named(trial).items()
        if digest in kept
    }
    here = trial.with_fields(**{key: local for key, (_, local) in moved.items()})
    if resolve(here).id != trial.id:
        raise UserError(f"what was fetched for {trial.name} is not what it names. Start the sweep anew.")
    try:
        result = run_trial(here, places)
    except UserError as error:
        raise UserError(_renamed(str(error), moved.values())) from error
    warnings = tuple(_renamed(warning, moved.values()) for warning in result.warnings)
    return dataclasses.replace(result, trial=trial, warnings=warnings)


def _at_hand(trial: Trial, kept: Kept) -> bool:
    """Whether the trial's paths have its content on this machine; nothing is read where nothing is kept elsewhere."""
    if not any(digest in kept for _, digest in named(trial).values()):
        return True
    if not all(Path(path).exists() for path, digest in named(trial).values() if digest in kept):
        return False
    try:
        return resolve(trial).id == trial.id
    except UserError:
        return False


def _fetched(folder: Path, digest: str, reference: Any, fetch: Callable[[Any], Pack]) -> Path:
    """The local file or folder; others on this machine wait for one fetch."""

    def make(target: Path) -> None:
        packed = fetch(reference)
        unpack(packed, target / FOLDER if packed.folder else target)

    local = cache.entry(folder, "content", digest, make)
    (found,) = [path for path in local.iterdir() if path.name != cache.MANIFEST]
    return found


def _renamed(text: str, moved: Iterable[tuple[str, str]]) -> str:
    """With the names that the trial gives."""
    for path, local in moved:
        text = text.replace(local, path)
    return text
