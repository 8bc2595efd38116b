"""Which files of a folder hold train, dev and test: those with exactly these names, in a folder and on the hub alike.

A folder that `save_to_disk` of the library datasets wrote has its Arrow files in a folder per split, or no splits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bias_transfer.errors import UserError
from bias_transfer.hashing import digest, file_digest
from bias_transfer.tasks.file_kinds import ALLOWED, FIRST, kind_of, stem
from bias_transfer.tasks.readers import SPLITS

NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
"""Split -> the names of its file, without the suffix. They also are the values that a column `split` may have."""

PLACES = ("", "data")
"""Where the files are looked for: in the folder itself, and if it has none of them, in its `data`."""

SAVED = "data"
"""The name of Arrow files that `save_to_disk` writes."""

_SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?")
"""The hub's name of a part of a split: train-00000-of-00002.parquet."""

Rule = Callable[[Path], str]
"""Table file -> the name that is compared with `NAMES`."""


@dataclass(frozen=True)
class Chosen:
    """The files of a folder, by split."""

    folder: Path
    files: dict[str, tuple[Path, ...]]
    """Split -> its file, or its shards in their order; without the splits that the folder does not have."""
    left: tuple[str, ...]
    """Other tables, relative to the folder: they are not read."""

    @property
    def taken(self) -> tuple[str, ...]:
        """The names of the files that are read, without their folder (`flat_name`)."""
        return tuple(flat_name(self.folder, file) for files in self.files.values() for file in files)

    def complete(self) -> Chosen:
        """Itself. Raises UserError unless it has train and test: dev can be held out from train."""
        if lacking := [split for split in ("train", "test") if split not in self.files]:
            others = f" Other files there: {', '.join(self.left[:9])}." if self.left else ""
            raise UserError(
                f"{self.folder}: needs exactly one file each for train and test, and mostly for dev, but has "
                f"{', '.join(f'none for {split}' for split in lacking)}. Names: {_names()}; each is {ALLOWED}.{others} Name a "
                "single file to have it split."
            )
        return self


def _names() -> str:
    return "; ".join(" or ".join(names) for names in NAMES.values())


def choose(folder: Path) -> Chosen:
    """The split files of a folder. Raises UserError for two files of one split, and for a split without one of its shards.

    Files of the kinds in `FIRST`, in lower case, are looked for first: a folder may also have the same data in another form.
    """
    if saved := _saved_splits(folder):
        return Chosen(folder, saved, ())
    tables = [path for path in sorted({*folder.glob("*"), *folder.glob("*/*")}) if kind_of(path) and path.is_file()]
    files = dict[str, tuple[Path, ...]]()
    for rule in (_first, _any):
        for place in PLACES:
            here = [path for path in tables if path.parent == folder / place]
            if not files and any(_of_split(folder, here, split, rule) for split in SPLITS):
                files = {split: found for split in SPLITS if (found := _found(folder, here, split))}
    taken = {path for paths in files.values() for path in paths}
    every = not taken or any(path.suffix not in FIRST for path in taken)
    left = (path for path in tables if path not in taken and (every or path.suffix in FIRST))
    return Chosen(folder, files, tuple(path.relative_to(folder).as_posix() for path in left))


def _first(path: Path) -> str:
    return path.stem if path.suffix in FIRST else ""


def _any(path: Path) -> str:
    return stem(path).lower()


def _found(folder: Path, tables: Sequence[Path], split: str) -> tuple[Path, ...]:
    return _of_split(folder, tables, split, _first) or _of_split(folder, tables, split, _any)


def _of_split(folder: Path, tables: Iterable[Path], split: str, rule: Rule) -> tuple[Path, ...]:
    whole = {path: rule(path) for path in tables}
    stems = {path: (match["name"] if (match := _SHARD.fullmatch(name)) else name) for path, name in whole.items()}
    files = tuple(path for path, name in stems.items() if name in NAMES[split])
    shards = [match for path in files if (match := _SHARD.fullmatch(whole[path]))]
    if not files or (len(files) == 1 and not shards):
        return files
    names = {(stems[path], kind_of(path)) for path in files}
    if len(names) > 1 or len(shards) < len(files) or len({shard["count"] for shard in shards}) > 1:
        raise UserError(
            f"{folder}: has {len(files)} for {split}: {', '.join(path.name for path in files[:5])}. It needs exactly one file "
            f"each for train, dev and test, under one of the names {_names()}. Name a single file to have it split."
        )
    _check_all_there(folder, split, shards)
    return files


def _check_all_there(folder: Path, split: str, shards: Sequence[re.Match[str]]) -> None:
    numbers, count = [int(shard["number"]) for shard in shards], int(shards[0]["count"])
    if numbers != list(range(count)):
        raise UserError(f"{folder}: has {len(shards)} of the {count} files of {split}, a split in shards.")


def _saved_splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of a data set with splits that `save_to_disk` wrote: TRAIN/data-00000-of-00001.arrow; else nothing."""
    by_name = {name: saved for names in NAMES.values() for name in names if (saved := saved_table(folder / name))}
    files = {split: [by_name[name] for name in names if name in by_name] for split, names in NAMES.items()}
    if doubled := [split for split, found in files.items() if len(found) > 1]:
        raise UserError(
            f"{folder}: has several folders for {doubled[0]}. It needs one, under one of the names {_names()}."
        )
    return {split: found[0] for split, found in files.items() if found}


def saved_table(folder: Path) -> tuple[Path, ...]:
    """The files of a data set without splits that `save_to_disk` wrote, in their order; none for any other folder.

    Raises UserError for a data set without one of its files.
    """
    files = sorted(folder.glob(f"{SAVED}-*.arrow"))
    shards = [match for file in files if (match := _SHARD.fullmatch(file.stem))]
    if shards:
        _check_all_there(folder, folder.name, shards)
    return tuple(files) if shards else ()


def flat_name(folder: Path, file: Path) -> str:
    """The name of a file of the folder in a copy that has all of them side by side, which is the same data: one that
    `save_to_disk` wrote for a split gets the split's name, as in train-00000-of-00001.arrow; any other file keeps its own."""
    saved = file.parent != folder and file.suffix == ".arrow" and file.name.startswith(f"{SAVED}-")
    return f"{file.parent.name}{file.name.removeprefix(SAVED)}" if saved else file.name


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that are read. Raises UserError as `choose` does."""
    return [*saved_table(folder)] or [file for files in choose(folder).complete().files.values() for file in files]


def content_digest(path: Path, names: Iterable[str] | None = None) -> str:
    """SHA-256 of the content that is read: a file's bytes and kind, or the bytes of the folder's files with these names (by
    default its train, dev and test files). The path does not enter.
    """
    if path.is_file():
        return digest({kind_of(path) or path.suffix: file_digest(path)})
    if names is not None:
        return digest({name: file_digest(path / name) for name in names})
    return digest({flat_name(path, file): file_digest(file) for file in files_of(path)})
