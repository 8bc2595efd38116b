"""Ship input files to Ray workers, addressed by content hash, fetched once per machine.

A trial names files by a path on the machine where the sweep was started. That machine packs the files that the trials' digests
cover, and a worker that does not have the same content at that path runs the trial with a copy in its cache. A model that is
pre-trained for the trials is shipped like a file, since another CPU would give it other bits. So are the modules of plugins: a
worker runs those of the driver, whatever it would import by their names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bias_transfer.config import modules
from bias_transfer.config.modules import Plugin
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest as digest_of
from bias_transfer.memory import load_splits
from bias_transfer.models import hub
from bias_transfer.pipeline import find_pretrained, run_trial
from bias_transfer.resolved import Places, ResolvedTrial, resolve
from bias_transfer.spec import Trial, TrialResult
from bias_transfer.storage import cache
from bias_transfer.tasks import split_files
from bias_transfer.tasks.wiki import data

Shipped = Mapping[str, Any]
"""Digest -> a reference of which `fetch` makes a `Pack`; `stand_in_of` -> (digest, reference)."""


FOLDER = "folder"
"""Name of the folder, within a cache entry, that holds the files of a folder that a trial names."""


@dataclass(frozen=True)
class Pack:
    """The bytes that a digest stands for."""

    files: Mapping[str, np.ndarray]
    """Name -> content, uint8: plain files of one folder, neither links nor folders."""
    folder: bool
    """Whether a trial names the folder, or its one file."""


def named(trial: Trial) -> dict[str, tuple[str, str]]:
    """Field or option of a resolved trial -> (what it names, digest): a path, a hub id, or something built in."""
    fields = {"data": (trial.data, trial.data_digest), "model": (trial.model, trial.model_digest)}
    if trial.task_digest:
        fields["task"] = (trial.task, trial.task_digest)
    options = trial.options
    return fields | {
        key: (str(value), str(options[f"{key}_digest"])) for key, value in options.items() if f"{key}_digest" in options
    }


def packs(trials: Sequence[Trial]) -> Iterator[tuple[str, Pack]]:
    """(digest, files) for each file and folder on this machine that resolved trials name, each once.

    Raises UserError for a folder with a link that leaves it.
    """
    by_digest = {digest: (key, path) for trial in trials for key, (path, digest) in named(trial).items()}
    for digest, (key, path) in by_digest.items():
        if Path(path).exists():
            yield digest, pack(Path(path), hub.checkpoint_files if key == "model" else _data_files)


def plugin_packs(trials: Sequence[Trial]) -> Iterator[tuple[str, Pack]]:
    """(`plugins_digest`, sources) for the plugins that resolved trials name: all trials of a config name the same ones. Raises
    UserError if one has changed since."""
    for given, digest in {(trial.plugins, trial.plugins_digest) for trial in trials}:
        if digest is None:
            continue
        plugins = modules.find_all(given)
        if modules.digest_of(plugins) != digest:
            raise UserError(f"{', '.join(given or ())}: changed while the trials were checked. Start again.")
        sources = modules.sources_of(plugins).values()
        yield digest, Pack({source.flat: np.frombuffer(source.content, np.uint8) for source in sources}, folder=True)


def pack(path: Path, covered: Callable[[Path], Sequence[Path]]) -> Pack:
    """A file, or the files of a folder that `covered` lists. Raises UserError for a link that leaves the folder."""
    files = [path] if path.is_file() else covered(path)
    for file in files:
        if path.is_dir() and not _within(file, path):
            raise UserError(
                f"{file} is a link that leaves its folder, and is not sent to other machines. Copy the file into the folder."
            )
    return Pack(
        {split_files.flat_name(path, file): np.fromfile(file, dtype=np.uint8) for file in files}, folder=path.is_dir()
    )


def stand_in_of(trial: Trial) -> str:
    """What the stand-in of a resolved trial is pre-trained from, as a key; empty for a trial with a model from elsewhere."""
    if trial.model != "tiny":
        return ""
    made_from = [
        trial.task_digest or trial.task,
        trial.data_digest,
        trial.options_of("data"),
        trial.options_of("model"),
        trial.plugins_digest,  # one of them may be the task's
    ]
    return f"stand-in {digest_of(made_from)}"


def stand_ins(trials: Sequence[Trial], places: Places) -> dict[str, Path]:
    """`stand_in_of` -> the checkpoint folder, for each stand-in that resolved trials need: pre-trained on this machine, one
    after another, unless it is cached."""
    first = {key: trial for trial in reversed(trials) if (key := stand_in_of(trial))}
    folders = {}
    for key, trial in first.items():
        resolved = resolve(trial)
        folders[key] = Path(find_pretrained(resolved, load_splits(resolved), places).folder)
    return folders


def _data_files(folder: Path) -> list[Path]:
    pair = [folder / name for name in (data.COMMENTS, data.ANNOTATIONS) if (folder / name).is_file()]
    return pair or split_files.files_of(folder)


def _within(file: Path, folder: Path) -> bool:
    """Whether the file is in the folder when links are followed, or a blob of the same snapshot in the hub's cache."""
    target, parent = file.resolve(), folder.resolve()
    return target.is_relative_to(parent) or (
        parent.parent.name == "snapshots" and target.parent == parent.parents[1] / "blobs"
    )


def unpack(packed: Pack, target: Path) -> None:
    """Write the files into a new folder `target`. Raises UserError, before it writes, for a name with a path in it."""
    # The pack may come from another machine: a name such as ../x must not leave the cache.
    for name in packed.files:
        if name in ("", ".", "..") or Path(name).name != name:
            raise UserError(f"a file is named {name!r}, which leaves its folder: it is not written")
    target.mkdir(exist_ok=True)
    for name, content in packed.files.items():
        (target / name).write_bytes(content.data)


def run(trial: Trial, places: Places, shipped: Shipped, fetch: Callable[[Any], Pack]) -> TrialResult:
    """Run a resolved trial with the files of this machine, and with those that were shipped where it does not have them.

    The result is as if all files were here: it holds the trial as given. Raises UserError if what was fetched is not what
    the trial names.
    """
    if stand_in := shipped.get(stand_in_of(trial)):
        content, reference = stand_in
        places = dataclasses.replace(places, stand_in=_fetched(places.cache, content, reference, fetch))
    plugins = _plugins(trial, places.cache, shipped, fetch)
    files = {key: (path, digest) for key, (path, digest) in named(trial).items() if digest in shipped}
    if not files:
        return run_trial(resolve(trial, plugins) if plugins else trial, places)
    if (resolved := _at_hand(trial, files, plugins)) is not None:
        return run_trial(resolved, places)
    moved = {
        key: (path, str(_fetched(places.cache, digest, shipped[digest], fetch)))
        for key, (path, digest) in files.items()
    }
    local = resolve(trial.with_fields(**{key: copy for key, (_, copy) in moved.items()}), plugins)
    if local.id != trial.id:
        raise UserError(f"the files fetched for {trial.name} are not those that it names. Start the sweep again.")
    try:
        result = run_trial(local, places)
    except UserError as error:
        raise UserError(_with_given_names(str(error), moved.values())) from error
    warnings = tuple(_with_given_names(warning, moved.values()) for warning in result.warnings)
    return dataclasses.replace(result, trial=trial, warnings=warnings)


def _plugins(trial: Trial, folder: Path, shipped: Shipped, fetch: Callable[[Any], Pack]) -> tuple[Plugin, ...] | None:
    """The trial's plugins as they were shipped; None for a trial without, and where nothing was shipped."""
    digest = trial.plugins_digest
    if digest is None or digest not in shipped:
        return None
    return modules.from_flat(_fetched(folder, digest, shipped[digest], fetch), trial.plugins or ())


def _at_hand(
    trial: Trial, files: Mapping[str, tuple[str, str]], plugins: tuple[Plugin, ...] | None
) -> ResolvedTrial | None:
    """The trial, resolved, if the paths of these files have its content on this machine."""
    if not all(Path(path).exists() for path, _ in files.values()):
        return None
    try:
        resolved = resolve(trial, plugins)
    except UserError:  # another file, or a damaged one, is at that path here
        return None
    return resolved if resolved.id == trial.id else None


def _fetched(folder: Path, digest: str, reference: Any, fetch: Callable[[Any], Pack]) -> Path:
    """The local file or folder. Several workers of one machine wait for one fetch."""

    def make(target: Path) -> None:
        packed = fetch(reference)
        unpack(packed, target / FOLDER if packed.folder else target)

    entry = cache.entry(folder, "content", digest, make)
    (fetched,) = [path for path in entry.iterdir() if path.name != cache.MANIFEST]
    return fetched


def _with_given_names(text: str, moved: Iterable[tuple[str, str]]) -> str:
    """The text with the paths that the trial gives in place of those of the copies."""
    for path, copy in moved:
        text = text.replace(copy, path)
    return text
