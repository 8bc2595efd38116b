"""Where a task's examples come from (a generator, a file, a folder or the Hugging Face hub) and how all tasks read them."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.models import hub
from bias_transfer.spec import Option, Options
from bias_transfer.tasks import column_checks, duplicates, file_kinds, readers, split_files
from bias_transfer.tasks.base import Columns, Splits

ID = ("rev_id", "id")
"""Columns that name the examples; the first one that a table has is read."""

SPLIT = "split"
"""The column, in any case, by which a single file says itself which rows are train, dev and test."""

OTHER_COLUMNS = " Data in other columns can also be a custom task, whose file names its columns (docs/custom_task.md)."
"""How messages about a missing column end in a task that is not a custom one."""

TEXT, ROW = "text", "row"
"""Values of `data.group_by` that are no names of columns: equal texts stay together; each row is on its own."""

NOT_STORED = ("text", "label", "given", "stratum", "unit")
"""Columns of `DataSource.examples` that do not become additional columns of the data sets."""


class FileOptions(Options):
    """`data.NAME` for examples that are read from a file, a folder or the hub; a task's further options inherit from it."""

    split_seed: int = Field(default=0, ge=0)
    """Seed of the 80/10/10 split of a single file (ours), and of the dev set of a file whose column `split` has none. Data
    that have their own splits do not take it."""
    deduplicate: bool | None = None
    """Drops later copies of a text within train, and the rows of train whose text is in dev or test; in a single file, later
    copies before it is split."""

    group_by: str | None = None
    """What stays in one split where rows are split here: `text` (rows with the same text), a column (rows with the same value),
    or `row` (nothing). None: `text` where several ids have one text, else `row`."""


class CheckedFileOptions(FileOptions):
    """`data.NAME` of a task that holds columns against the texts."""

    trust_columns: bool | None = None
    """Takes the columns as they are where the texts contradict them, and warns."""


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
class Read:
    """Tables, and what is said about where they come from."""

    tables: Mapping[str, readers.Table]
    """By split; a single table, named "row", still has to be split."""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class Required:
    """The labels that each split must have."""

    labels: Sequence[int]
    names: Sequence[str]
    """Of all labels of the task."""
    remedy: str
    """How messages about a missing one end."""

    def check(self, source: str, labels: Sequence[int], least: int = 1) -> None:
        """Raises UserError unless each label occurs at least `least` times."""
        remedy = self.remedy if any(label not in labels for label in self.labels) else ""
        readers.check_classes(source, labels, self.labels, least, self.names, f" {remedy}".rstrip())


@dataclass(frozen=True)
class _Look:
    """A file that equals another with the same key in the same task."""

    key: str
    task: Callable[..., pd.DataFrame]
    examples: Callable[[readers.Table], pd.DataFrame] = field(compare=False)
    read: Callable[[str], Read] = field(compare=False)
    data: str = field(compare=False)


@dataclass(frozen=True)
class DataSource:
    """Everything that `data` can name in one task. Its three methods are fields of the `Task`."""

    classes: int
    """Number of labels."""
    examples: Callable[[readers.Table, Any], pd.DataFrame]
    """(table, options) -> the columns text, label (int), given (`given_ids`, or missing); optionally stratum, which a split of
    a single file keeps balanced in addition to the labels; and additional columns of strings, which the data sets keep."""
    allowed: str
    """The last sentence of error messages: what `data` may be."""
    generator: Generator | None = None
    """None: the task has no synthetic data."""
    folder_form: FolderForm | None = None
    file_options: type[FileOptions] = FileOptions
    """`data.NAME` for examples that are not generated."""
    checks: Mapping[str, column_checks.ColumnCheck] = field(default_factory=dict)
    """Column of `examples` -> how it is held against the texts; `file_options` is a `CheckedFileOptions` then."""
    names: tuple[str, ...] = ()
    """Of the labels, for messages."""
    subset: str = ""
    """How messages about a label that does not occur say that `data.subset` allows it; empty for a task without that option."""
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a column is for -> the names under which `examples` looks for it."""

    def options(self, data: str) -> type[Options]:
        """The options `data.NAME` that this data takes. Raises UserError for `synthetic` where there is no generator."""
        if data != "synthetic":
            return self.file_options
        if self.generator is None:
            raise UserError(f"data: a custom task has no synthetic data. Name your data with data=FILE. {self.allowed}")
        return self.generator.options

    def identify(self, data: str) -> str:
        """SHA-256 of the content that `load` reads; the commit of a hub data set; `synthetic` for itself.

        Raises UserError for data that do not exist.
        """
        if self.options(data) is not self.file_options:
            return data
        path = locate(data, self.allowed)
        if path is None:
            return hub.revision(data, "dataset")
        form = self.folder_form
        return split_files.content_digest(path, form.files if form and form.matches(path) else None)

    def load(self, data: str, options: Any) -> Splits:
        """The examples, in memory. A single file is split by its column `split`, or else 80/10/10 by label (and stratum), see
        `readers.split_frame`.

        options: an instance of `self.options(data)`. Raises UserError for other options, and for data that cannot be used,
        naming the file, the line and what is allowed.
        """
        expected: Any = self.options(data)
        if type(options) is not expected:
            raise UserError(f"data {data!r} takes {expected.__name__}, not {type(options).__name__}.")
        if self.generator and data == "synthetic":
            return self.generator.generate(options)
        options = self.settled(data, options)
        read = self._read(data)
        frames = {name: self.examples(table, options) for name, table in read.tables.items()}
        required = self._required(frames, options)
        trusted = isinstance(options, CheckedFileOptions) and bool(options.trust_columns)
        warnings, facts = _check_columns(read.tables, frames, self.checks, trusted)
        read = replace(read, warnings=(*read.warnings, *warnings), facts={**read.facts, **facts})
        return splits(data, read, _with_units(read.tables, frames, options), required, options)

    def settled(self, data: str, options: Any) -> Any:
        """The options, with `group_by: text` where a text has several ids and rows are split here.

        So the id of such a trial says how its rows were split. Raises nothing: what is wrong with the data is said by `load`.
        """
        unset = isinstance(options, FileOptions) and not (options.group_by or options.deduplicate)
        if not unset or not Path(data).exists():
            return options
        try:
            key = digest([data, self.identify(data), options.model_dump()])
            look = _Look(key, self.examples, lambda table: self.examples(table, options), self._read, data)
            grouped = _texts_have_several_ids(look)
        except UserError:
            return options
        return options.model_copy(update={"group_by": TEXT}) if grouped else options

    def _required(self, frames: Mapping[str, pd.DataFrame], options: Any) -> Required:
        """All labels; with `data.subset`, those that occur in any split."""
        if not getattr(options, "subset", None):
            return Required(range(self.classes), self.names, self.subset)
        found = sorted({label for frame in frames.values() for label in frame["label"]})
        if len(found) < 2:
            raise UserError(f"data.subset: {self.names[found[0]]} alone occurs. At least two labels are needed.")
        return Required(found, self.names, "")

    def columns(self, data: str) -> Columns | None:
        """The columns that are read, of the first table; None for generated data. Raises UserError as `load` does."""
        if self.options(data) is not self.file_options:
            return None
        table = next(iter(self._read(data).tables.values()))
        read = dict[str, str]()
        for role, names in {**self.roles, "id": ID}.items():
            with suppress(UserError):  # columns that may be missing
                read[role] = readers.find_column(table, role, names)
        return Columns(read, tuple(str(name) for name in table.frame if name not in read.values()))

    def _read(self, data: str) -> Read:
        path = locate(data, self.allowed)
        if path is None:
            return _from_hub(data)
        if self.folder_form and self.folder_form.matches(path):
            return Read(self.folder_form.read(path), (f"{path}: read {' and '.join(self.folder_form.files)}.",))
        if path.is_file():
            return _from_table(readers.read_table(path))
        if saved := split_files.saved_table(path):
            return _from_table(readers.together(str(path), [readers.read_table(file) for file in saved]))
        return _from_files(split_files.choose(path).complete(), f"{path}/")


@functools.lru_cache(maxsize=32)  # the trials of a sweep share their data
def _texts_have_several_ids(look: _Look) -> bool:
    """Whether rows are split here of which some have the same text under different ids."""
    frames = {name: look.examples(table) for name, table in look.read(look.data).tables.items()}
    if {"dev", "test"} <= frames.keys():
        return False
    return _ids_are_usable(frames) and bool(frames["row" if "row" in frames else "train"]["text"].duplicated().any())


def _with_units(
    tables: Mapping[str, readers.Table], frames: Mapping[str, pd.DataFrame], options: FileOptions
) -> dict[str, pd.DataFrame]:
    """Adds the column unit: what rows share that stay in one split; none where each row is on its own."""
    column = options.group_by
    if column in (None, ROW):
        return dict(frames)
    if {"dev", "test"} <= frames.keys():
        raise UserError("data.group_by has no effect: the data have their own splits. Leave the option out.")
    if column == TEXT:
        return {name: frame.assign(unit=frame["text"]) for name, frame in frames.items()}
    cells = {
        name: table.frame[readers.find_column(table, "data.group_by", (str(column),))] for name, table in tables.items()
    }
    return {name: frame.assign(unit=cells[name].tolist()) for name, frame in frames.items()}


def locate(data: str, allowed: str) -> Path | None:
    """The file or folder that `data` names; None for a hub id. Raises UserError for anything else; it ends in `allowed`."""
    path = Path(data)
    if path.exists():
        return path
    # A mistyped path must not be looked up on the hub: a hub id has a slash, no suffix of a data file and no leading dot.
    if "/" in data and hub.HUB_ID.fullmatch(data) and not _looks_like_a_file(path) and data[0] != ".":
        return None
    near = " Did you mean 'synthetic'?" if difflib.get_close_matches(data, ["synthetic"]) else hub.did_you_mean(data)
    raise UserError(f"data {data!r} is neither a file nor a folder here, and cannot be a hub id.{near} {allowed}")


def _looks_like_a_file(path: Path) -> bool:
    return bool(file_kinds.kind_of(path)) or path.suffix.lower() in file_kinds.NO_TABLE


def _from_hub(data: str) -> Read:
    chosen = split_files.choose(readers.snapshot(data))
    missing = [" or ".join(split_files.NAMES[name]) for name in ("train", "test") if name not in chosen.files]
    if missing and list(chosen.files) != ["train"]:
        has = ", ".join([*chosen.taken, *chosen.left][:9]) or f"no {file_kinds.ALLOWED.removeprefix('a ')}"
        raise UserError(
            f"the hub data set {data} has no file {', '.join(missing)}; it has {has}. Allowed: one file (or shards) each for "
            "train, dev and test, or for train and test, or for train alone, which is then split."
        )
    read = _from_files(chosen, f"{data}/")
    # A fact of hub data alone: their commit, which is in the id, decides it. What else is in a folder may differ between
    # machines, while results with the same id are equal.
    facts = {**read.facts, "data.files_left": ", ".join(chosen.left)}
    if list(read.tables) == ["train"]:
        alone = _from_table(read.tables["train"])
        return Read(alone.tables, (*read.notes, *alone.notes), facts={**facts, **alone.facts})
    return replace(read, facts=facts)


def _from_files(chosen: split_files.Chosen, prefix: str) -> Read:
    """One table per split. prefix: what stands before a file's name in messages."""
    tables = dict[str, readers.Table]()
    for name, files in chosen.files.items():
        source = f"{prefix}{files[0].relative_to(chosen.folder).as_posix()}"
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        tables[name] = readers.together(f"{source}{more}", [readers.read_table(file) for file in files])
    left = f"Left unread: {', '.join(chosen.left)}." if chosen.left else "No other tables are there."
    note = f"{prefix.rstrip('/')}: read {', '.join(chosen.taken)}. {left}"
    return Read(tables, (note,), tuple(_marked_otherwise(tables)), {"data.files": ", ".join(chosen.taken)})


def _from_table(table: readers.Table) -> Read:
    """A single table: by its column `split`, if it has one, else to be split."""
    column = _split_column(table)
    if column is None:
        return Read(
            {"row": table}, (f"{table.source}: split 80/10/10 by data.split_seed.",), facts={"data.split": "split_seed"}
        )
    names = {name: split for split, several in split_files.NAMES.items() for name in several}
    cells = table.frame[column].str.strip().str.lower()
    if unknown := list(table.frame.index[~cells.isin(names)]):
        raise UserError(
            f"{table.at(unknown)}: unknown split in {column!r}. Allowed: {', '.join(names)}. Rename the column if it means "
            "something else."
        )
    own = cells.map(names)
    tables = {
        name: readers.Table(table.source, table.frame[own == name]) for name in readers.SPLITS if (own == name).any()
    }
    if list(tables) == ["train"]:
        note = f"{table.source}: its column {column!r} says train for all rows, so it is split 80/10/10 by data.split_seed."
        return Read({"row": table}, (note,), facts={"data.split": "split_seed"})
    if lacking := [name for name in ("train", "test") if name not in tables]:
        raise UserError(f"{table.source}: its column {column!r} has no row of {' and '.join(lacking)}.")
    sizes = ", ".join(f"{len(part.frame)} {name}" for name, part in tables.items())
    dev = "" if "dev" in tables else " It has no dev rows: a tenth of train is held out for it."
    note = f"{table.source}: split by its own column {column!r}: {sizes}.{dev}"
    return Read(tables, (note,), facts={"data.split": f"column {column}"})


def _marked_otherwise(tables: Mapping[str, readers.Table]) -> list[str]:
    """Warnings of rows whose column `split` names another split than their file."""
    warnings = []
    for split, table in tables.items():
        if (column := _split_column(table)) is not None:
            others = {name for other, names in split_files.NAMES.items() if other != split for name in names}
            if count := int(table.frame[column].str.strip().str.lower().isin(others).sum()):
                warnings.append(
                    f"{table.source}: {count} rows are of another split by their column {column!r}. The file's name decides: "
                    f"they are read as {split}."
                )
    return warnings


def _split_column(table: readers.Table) -> str | None:
    return next((str(name) for name in table.frame if str(name).lower() == SPLIT), None)


def _check_columns(
    tables: Mapping[str, readers.Table],
    frames: Mapping[str, pd.DataFrame],
    checks: Mapping[str, column_checks.ColumnCheck],
    trusted: bool,
) -> tuple[list[str], dict[str, Option]]:
    """(warnings, facts) of columns held against the texts, split by split. Raises UserError for a column that they contradict,
    unless it is trusted."""
    facts, warnings = dict[str, Option](), list[str]()
    for column, check in checks.items():
        by_split = list[column_checks.Agreement]()
        for name, frame in frames.items():
            by_value = column_checks.compare(check, frame["text"].tolist(), frame[column].tolist())
            source, agreement = _source(tables, name), column_checks.total(by_value.values())
            if not trusted:
                column_checks.require(source, check, agreement)
            elif sentence := column_checks.contradiction(source, check, agreement):
                warnings.append(f"{sentence}. It is taken as it is, since data.trust_columns is set.")
            if sentence := column_checks.doubtful(source, check, by_value):
                warnings.append(sentence)
            by_split.append(agreement)
        total = column_checks.total(by_split)
        facts[f"texts.{check.column}.informative"] = total.informative
        facts[f"texts.{check.column}.contradicting"] = total.contradicting
    return warnings, facts


def _source(tables: Mapping[str, readers.Table], name: str) -> str:
    return tables[name].source if name == "row" else f"{tables[name].source}, split {name}"


def given_ids(table: readers.Table) -> list[str] | None:
    """The ids that the data give to the examples: the cells of the first column of `ID`; None where there is none."""
    return next((table.frame[name].tolist() for name in ID if name in table.frame), None)


def splits(data: str, read: Read, frames: dict[str, pd.DataFrame], required: Required, options: FileOptions) -> Splits:
    """The examples of the frames (see `DataSource.examples`); a single frame is split.

    Raises UserError for splits with different columns, for a split without one of the classes, and for dev or test sets that
    are mostly in train.
    """
    extra = _extra_columns(data, frames)
    frames = _with_ids(frames)
    notes, warnings, facts = list(read.notes), list(read.warnings), dict(read.facts)
    if options.deduplicate:
        rows = sum(map(len, frames.values()))
        frames = duplicates.drop(frames)
        facts["duplicates.dropped"] = dropped = rows - sum(map(len, frames.values()))
        notes.append(f"{data}: data.deduplicate dropped {dropped} of {rows} rows.")
    given = frames.keys() - {"row"}
    if options.split_seed and {"dev", "test"} <= given:
        raise UserError(f"data.split_seed has no effect: {data} has its own splits. Leave the option out.")
    if units := _units(frames):
        notes.append(f"{data}: rows with the same {_named(options)} stay in one split: {units}.")
    frames = _split(read.tables, frames, required, options)
    counts = duplicates.count(frames)
    if given:
        duplicates.check_leakage(data, frames, counts)
    facts |= {f"duplicates.{name}": number for name, number in counts.items()}
    if warning := duplicates.warning(data, counts, dropped=bool(options.deduplicate)):
        warnings.append(warning)
    train, dev, test = (readers.to_dataset(frames[name], *extra) for name in readers.SPLITS)
    notes.append(f"{data}: {len(train)} train, {len(dev)} dev and {len(test)} test examples.")
    return Splits(
        train,
        dev,
        test,
        pretraining=tuple(frames["train"]["text"]),
        heldout=tuple(frames["dev"]["text"]),
        notes=tuple(notes),
        warnings=tuple(warnings),
        facts=facts,
    )


def _split(
    tables: Mapping[str, readers.Table], frames: dict[str, pd.DataFrame], required: Required, options: FileOptions
) -> dict[str, pd.DataFrame]:
    """Train, dev and test: what is not given is held out from the one frame that is, or from train."""
    lacking = [name for name in ("dev", "test") if name not in frames]
    pool = "row" if "row" in frames else "train"
    for name, frame in frames.items():
        required.check(_source(tables, name), frame["label"].tolist(), len(lacking) + 1 if name == pool else 1)
    if not lacking:
        return frames
    held_out = _held_out(frames[pool], options, lacking)
    for name, frame in held_out.items():
        required.check(f"{_source(tables, pool)}, held out as {name}", frame["label"].tolist())
    return {name: held_out[name] if name in held_out else frames[name] for name in readers.SPLITS}


def _held_out(frame: pd.DataFrame, options: FileOptions, lacking: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The frame as train and the lacking splits. Where rows share units, a tenth of the units, not of the rows, is held out."""
    if "unit" not in frame:
        return readers.split_frame(frame, frame["key"].tolist(), options.split_seed, lacking)
    rows = frame.groupby("unit", sort=False)
    units = pd.DataFrame({name: rows[name].agg(_most) for name in ("label", "stratum") if name in frame})
    parts = readers.split_frame(units, units.index.tolist(), options.split_seed, lacking)
    return {name: frame[frame["unit"].isin(part.index)] for name, part in parts.items()}


def _most(values: pd.Series[Any]) -> Any:
    """The most frequent value, of several the first in order."""
    return values.mode().iloc[0]


def _units(frames: Mapping[str, pd.DataFrame]) -> str:
    """'600 rows, 200 different ones', where rows share units; else empty."""
    pool = frames.get("row", frames.get("train"))
    if pool is None or "unit" not in pool:
        return ""
    return f"{len(pool)} rows, {pool['unit'].nunique()} different ones"


def _named(options: FileOptions) -> str:
    return TEXT if options.group_by == TEXT else f"value in {options.group_by!r}"


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
    usable = _ids_are_usable(frames)
    return {
        name: frame.assign(
            id=frame["given"] if usable else [f"{name}:{number}" for number in range(len(frame))],
            key=frame["given"] if usable else frame["text"],
        )
        for name, frame in frames.items()
    }


def _ids_are_usable(frames: Mapping[str, pd.DataFrame]) -> bool:
    given = [identifier for frame in frames.values() for identifier in frame["given"]]
    return all(given) and len(set(given)) == len(given)
