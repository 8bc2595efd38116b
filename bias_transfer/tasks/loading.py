"""Where a task's examples come from (a generator, a file, a folder or the Hugging Face hub) and how all tasks read them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from bias_transfer.errors import UserError
from bias_transfer.models import hub
from bias_transfer.spec import Options
from bias_transfer.tasks import readers
from bias_transfer.tasks.base import Splits

ID = ("rev_id", "id")
"""Columns that name the examples; the first one that a table has is read."""

NOT_STORED = ("text", "label", "given", "stratum")
"""Columns of `DataSource.examples` that do not become additional columns of the data sets."""


class FileOptions(Options):
    """`data.NAME` for examples that are read from a file, a folder or the hub."""

    split_seed: int = Field(default=0, ge=0)
    """Seed of the 80/10/10 split of a single file (ours). Data that have their own splits do not take it."""


@dataclass(frozen=True)
class Generator:
    """The generator behind `data: synthetic`."""

    options: type[Options]
    """`data.NAME` for synthetic examples."""
    generate: Callable[[Any], Splits]


@dataclass(frozen=True)
class FolderForm:
    """A published form of folder that has other files than train, dev and test."""

    files: tuple[str, ...]
    """Names of the files: a folder that has them all is in this form."""
    read: Callable[[Path], dict[str, readers.Table]]
    """folder -> one table per split."""

    def matches(self, folder: Path) -> bool:
        """Whether the folder is in this form. Raises UserError for a folder that has only some of the files."""
        missing = [name for name in self.files if not (folder / name).is_file()]
        if missing and len(missing) < len(self.files):
            raise UserError(f"{folder}: has no {' and no '.join(missing)}. Needed: {' and '.join(self.files)}.")
        return not missing


@dataclass(frozen=True)
class DataSource:
    """Everything that `data` can name in one task. Its three methods are fields of the `Task`."""

    classes: int
    """Number of labels."""
    examples: Callable[[readers.Table], pd.DataFrame]
    """A table -> the columns text, label (int), given (`given_ids`, or missing); optionally stratum, which a split of a single
    file keeps balanced in addition to the labels; and additional columns of strings, which the data sets keep."""
    allowed: str
    """The last sentence of error messages: what `data` may be."""
    generator: Generator | None = None
    """None: the task has no synthetic data."""
    folder_form: FolderForm | None = None

    def options(self, data: str) -> type[Options]:
        """The options `data.NAME` that this data takes. Raises UserError for `synthetic` where there is no generator."""
        if data != "synthetic":
            return FileOptions
        if self.generator is None:
            raise UserError(f"data: a custom task has no synthetic data. Name your data with data=FILE. {self.allowed}")
        return self.generator.options

    def identify(self, data: str) -> str:
        """SHA-256 of the content that `load` reads; the commit of a hub data set; `synthetic` for itself.

        Raises UserError for data that do not exist.
        """
        if self.options(data) is not FileOptions:
            return data
        path = locate(data, self.allowed)
        if path is None:
            return hub.revision(data, "dataset")
        form = self.folder_form
        return readers.content_digest(path, form.files if form and form.matches(path) else None)

    def load(self, data: str, options: Any) -> Splits:
        """The examples, in memory. A single file is split 80/10/10 by label (and stratum), see `readers.split_frame`.

        options: an instance of `self.options(data)`. Raises UserError for other options, and for data that cannot be used,
        naming the file, the line and what is allowed.
        """
        expected: Any = self.options(data)
        if type(options) is not expected:
            raise UserError(f"data {data!r} takes {expected.__name__}, not {type(options).__name__}.")
        if self.generator and data == "synthetic":
            return self.generator.generate(options)
        tables = self._tables(data)
        return splits(
            data, tables, {name: self.examples(table) for name, table in tables.items()}, self.classes, options
        )

    def _tables(self, data: str) -> dict[str, readers.Table]:
        """By split; a single table, named "row", still has to be split."""
        path = locate(data, self.allowed)
        if path is None:
            return _hub_tables(data)
        if self.folder_form and self.folder_form.matches(path):
            return self.folder_form.read(path)
        if path.is_file():
            return {"row": readers.read_table(path)}
        return {name: readers.read_table(file) for name, file in readers.split_files(path).items()}


def locate(data: str, allowed: str) -> Path | None:
    """The file or folder that `data` names; None for a hub id. Raises UserError for anything else; it ends in `allowed`."""
    path = Path(data)
    if path.exists():
        return path
    # A mistyped path must not be looked up on the hub: a hub id has a slash, no suffix of a data file and no leading dot.
    if "/" in data and hub.HUB_ID.fullmatch(data) and path.suffix not in readers.READERS and data[0] != ".":
        return None
    near = " Did you mean 'synthetic'?" if difflib.get_close_matches(data, ["synthetic"]) else hub.did_you_mean(data)
    raise UserError(f"data {data!r} is neither a file nor a folder here, and cannot be a hub id.{near} {allowed}")


def _hub_tables(data: str) -> dict[str, readers.Table]:
    by_split = readers.read_hub(data)
    names = {"train": "train", "dev": "dev" if "dev" in by_split else "validation", "test": "test"}
    if set(by_split) == {"train"}:
        return {"row": by_split["train"]}
    if missing := [name for name in names.values() if name not in by_split]:
        raise UserError(
            f"the hub data set {data} has no split {', '.join(missing)}; it has {', '.join(by_split)}. "
            "Allowed: train, validation (or dev) and test, or train alone, which is then split."
        )
    return {split: by_split[name] for split, name in names.items()}


def given_ids(table: readers.Table) -> list[str] | None:
    """The ids that the data give to the examples: the cells of the first column of `ID`; None where there is none."""
    return next((table.frame[name].tolist() for name in ID if name in table.frame), None)


def splits(
    data: str,
    tables: Mapping[str, readers.Table],
    frames: dict[str, pd.DataFrame],
    classes: int,
    options: FileOptions,
) -> Splits:
    """The examples of the frames (see `DataSource.examples`); a single frame is split.

    Raises UserError for splits with different columns, and for a split without one of the classes.
    """
    extra = _extra_columns(data, frames)
    frames = _with_ids(frames)
    if len(tables) > 1:
        _check_given_splits(data, tables, frames, classes, options)
    else:
        (table,), (frame,) = tables.values(), frames.values()
        readers.check_classes(table.source, frame["label"].tolist(), classes, least=3)
        frames = readers.split_frame(frame, frame["key"].tolist(), options.split_seed)
    train, dev, test = (readers.to_dataset(frames[name], *extra) for name in readers.SPLITS)
    return Splits(train, dev, test, pretraining=tuple(frames["train"]["text"]), heldout=tuple(frames["dev"]["text"]))


def _extra_columns(data: str, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """The columns that all splits have in addition to those of every task."""
    columns = {split: [str(name) for name in frame if name not in NOT_STORED] for split, frame in frames.items()}
    longest = max(columns.values(), key=len)
    if lacking := [split for split in columns if columns[split] != longest]:
        names = ", ".join(name for name in longest if name not in columns[lacking[0]])
        raise UserError(f"{data}: {' and '.join(lacking)} without the column {names}, which another split has.")
    return longest


def _with_ids(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Adds the columns id (the given one if all examples have one and no two share it, else SPLIT:NUMBER) and key, by which
    a single file is split: the given id, else the text, so that the order of rows does not matter."""
    given = [identifier for frame in frames.values() for identifier in frame["given"]]
    usable = all(given) and len(set(given)) == len(given)
    return {
        name: frame.assign(
            id=frame["given"] if usable else [f"{name}:{number}" for number in range(len(frame))],
            key=frame["given"] if usable else frame["text"],
        )
        for name, frame in frames.items()
    }


def _check_given_splits(
    data: str,
    tables: Mapping[str, readers.Table],
    frames: Mapping[str, pd.DataFrame],
    classes: int,
    options: FileOptions,
) -> None:
    if options.split_seed:
        raise UserError(f"data.split_seed has no effect: {data} has its own splits. Leave the option out.")
    for name, frame in frames.items():
        readers.check_classes(f"{tables[name].source}, split {name}", frame["label"].tolist(), classes)
