"""Which files of a folder hold train, dev and test: those with exactly these names, in a folder and on the hub alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bias_transfer.errors import UserError
from bias_transfer.hashing import digest, file_digest
from bias_transfer.tasks.readers import READERS, SPLITS

NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
"""Split -> the names of its file, without the suffix. They also are the values that a column `split` may have."""

PLACES = ("", "data")
"""Where the files are looked for: in the folder itself, and if it has none of them, in its `data`."""

_SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?")
"""The hub's name of a part of a split: train-00000-of-00002.parquet."""


@dataclass(frozen=True)
class Chosen:
    """The files of a folder, by split."""

    folder: Path
    files: dict[str, tuple[Path, ...]]
    """Split -> its file, or its shards in their order; without the splits that the folder does not have."""
    left: tuple[str, ...]
    """Other files of a kind in `READERS`, relative to the folder: they are not read."""

    @property
    def taken(self) -> tuple[str, ...]:
        """The names of the files that are read, without their folder."""
        return tuple(file.name for files in self.files.values() for file in files)

    def complete(self) -> Chosen:
        """Itself. Raises UserError unless it has train, dev and test."""
        if lacking := [split for split in SPLITS if split not in self.files]:
            others = f" Other files there: {', '.join(self.left[:9])}." if self.left else ""
            raise UserError(
                f"{self.folder}: needs exactly one file each for train, dev and test (as {', '.join(READERS)}), but has "
                f"{', '.join(f'none for {split}' for split in lacking)}. Names: {_names()}.{others} Name a single file to "
                "have it split."
            )
        return self


def _names() -> str:
    return "; ".join(" or ".join(names) for names in NAMES.values())


def choose(folder: Path) -> Chosen:
    """The split files of a folder. Raises UserError for two files of one split, and for a split without one of its shards."""
    paths = sorted({*folder.glob("*"), *folder.glob("*/*")})
    tables = [path for path in paths if path.suffix in READERS and path.is_file()]
    files = dict[str, tuple[Path, ...]]()
    for place in PLACES:
        here = [path for path in tables if path.parent == folder / place]
        files = {split: found for split in SPLITS if (found := _of_split(folder, here, split))}
        if files:
            break
    taken = {path for paths in files.values() for path in paths}
    left = tuple(path.relative_to(folder).as_posix() for path in tables if path not in taken)
    return Chosen(folder, files, left)


def _of_split(folder: Path, tables: Iterable[Path], split: str) -> tuple[Path, ...]:
    stems = {path: (match["name"] if (match := _SHARD.fullmatch(path.stem)) else path.stem) for path in tables}
    files = tuple(path for path, stem in stems.items() if stem in NAMES[split])
    shards = [match for path in files if (match := _SHARD.fullmatch(path.stem))]
    if not files or (len(files) == 1 and not shards):
        return files
    counts = {(stems[path], path.suffix) for path in files}
    numbers = [(int(shard["number"]), int(shard["count"])) for shard in shards]
    if len(counts) > 1 or len(shards) < len(files) or len({count for _, count in numbers}) > 1:
        raise UserError(
            f"{folder}: has {len(files)} for {split}: {', '.join(path.name for path in files[:5])}. It needs exactly one file "
            f"each for train, dev and test, under one of the names {_names()}. Name a single file to have it split."
        )
    if [number for number, _ in numbers] != list(range(numbers[0][1])):
        raise UserError(f"{folder}: has {len(numbers)} of the {numbers[0][1]} files of {split}, a split in shards.")
    return files


def content_digest(path: Path, names: Iterable[str] | None = None) -> str:
    """SHA-256 of the content that is read: a file's bytes and kind, or the bytes of the folder's files with these names (by
    default its train, dev and test files). The path does not enter.
    """
    if path.is_file():
        return digest({path.suffix: file_digest(path)})
    if names is not None:
        return digest({name: file_digest(path / name) for name in names})
    files = choose(path).complete().files.values()
    return digest({file.name: file_digest(file) for split in files for file in split})
