"""Read examples from files, folders and hub data sets, strictly: errors say what is wrong and where.

Messages name files, columns and lines and never quote a text: much of the data is offensive or personal.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
from datasets import Dataset, Features, Value
from huggingface_hub import snapshot_download

from bias_transfer.errors import UserError, unknown
from bias_transfer.hashing import digest
from bias_transfer.models.hub import did_you_mean, revision
from bias_transfer.tasks import delimited, file_kinds, json_rows, label_cells

MOST_LISTED = 3
"""More labels than this are listed by their names alone."""

LIKE = 0.6
"""Names of columns that are less alike, on the scale of difflib, are not taken for each other's misspelling (ours)."""

SPLITS = ("train", "dev", "test")
_FEATURES = Features({"id": Value("string"), "text": Value("string"), "label": Value("int64")})


@dataclass(frozen=True)
class Table:
    """A table whose cells are strings, exactly as in the file ("NA" is a text); a missing value of a typed file is ""."""

    source: str
    """The file (or data set and split), as messages name it."""
    frame: pd.DataFrame
    """The index is the line in the file, or the row where there are no lines, counted from 1; its name says which."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Column whose values are no texts -> why."""

    def at(self, places: Iterable[int]) -> str:
        """The source with up to five of these lines, as in 'train.csv: lines 3, 9'."""
        return _at(self.source, str(self.frame.index.name), list(places))


def _at(source: str, unit: str, places: Sequence[int]) -> str:
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return f"{source}: {unit}{'s' if len(places) > 1 else ''} {', '.join(map(str, places[:5]))}{more}"


def read_table(path: Path) -> Table:
    """A file of one of `file_kinds.KINDS`, or such a file compressed.

    Raises UserError for a file that is not well-formed, for one without rows, and for one that is no table, saying what it is.
    """
    kind = file_kinds.kind_of(path)
    if not kind and (problem := file_kinds.NO_TABLE.get(path.suffix.lower())):
        raise UserError(f"{path} {problem}")
    if not kind:
        raise UserError(f"{path}: {unknown('kind of file', path.suffix, READERS)} Any of them may end in .gz or .zst.")
    if not path.is_file():
        raise UserError(f"{path}: no such file.{did_you_mean(str(path))}")
    table = READERS[file_kinds.inner_kind(kind)](path)
    if table.frame.empty:
        raise UserError(f"{path}: the file has no examples. It needs a header and at least one row.")
    return table


def _read_delimited(path: Path, delimiter: str) -> Table:
    rows = delimited.trimmed(delimited.parse(str(path), file_kinds.read_text(path), delimiter))
    header = rows.header
    _check_header(path, header)
    ragged = [line for line, cells in zip(rows.lines, rows.cells, strict=True) if len(cells) != len(header)]
    if ragged:
        place = _at(str(path), "line", ragged)
        raise UserError(f"{place}: the number of fields is not that of the header ({len(header)}).")
    lines = pd.Index(rows.lines, name="line")
    return Table(str(path), pd.DataFrame(rows.cells, columns=header, dtype="str", index=lines))


def _read_json(path: Path) -> Table:
    objects = json_rows.parse(str(path), file_kinds.read_text(path))
    names = dict.fromkeys(name for row in objects.rows for name in row)
    _check_header(path, [*names])
    columns = {name: [row.get(name) for row in objects.rows] for name in names}
    return _typed(str(path), columns, pd.Index(objects.places, name=objects.unit))


def _read_arrow(path: Path, kind: str, read: Callable[[pyarrow.BufferReader], pyarrow.Table]) -> Table:
    content = file_kinds.read_bytes(path)
    try:
        table = read(pyarrow.BufferReader(content))
        table.validate(full=True)  # a damaged file may name places outside itself, where reading would end the process
        columns = table.to_pydict()
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        OverflowError,
    ) as error:  # ValueError: a text that is not UTF-8
        file_kinds.refuse_others(path, content)
        raise UserError(f"{path}: not a readable {kind} file ({type(error).__name__}).") from None
    _check_header(path, table.column_names)
    return _typed(str(path), columns, pd.RangeIndex(1, table.num_rows + 1, name="row"))


def _parquet(content: pyarrow.BufferReader) -> pyarrow.Table:
    return pyarrow.parquet.ParquetFile(content).read()


def _arrow(content: pyarrow.BufferReader) -> pyarrow.Table:
    """A stream, as `save_to_disk` writes it, or a file, as pandas does."""
    try:
        return pyarrow.ipc.open_stream(content).read_all()
    except pyarrow.ArrowInvalid:
        content.seek(0)
        return pyarrow.ipc.open_file(content).read_all()


def _typed(source: str, columns: Mapping[str, Sequence[object]], index: pd.Index) -> Table:
    unreadable = {name: problem for name, values in columns.items() if (problem := _problem(values))}
    cells = {
        name: [""] * len(values) if name in unreadable else [_cell(value) for value in values]
        for name, values in columns.items()
    }
    return Table(source, pd.DataFrame(cells, dtype="str", index=index), unreadable)


def _problem(values: Sequence[object]) -> str | None:
    """Why the values of a column are no cells; None where they are."""
    kinds = {type(value) for value in values}
    if kinds & {bytes, bytearray, memoryview}:
        return "holds bytes and not text: decode them, as in column.str.decode('utf-8')"
    if dict in kinds or any(isinstance(part, dict | list) for value in values if type(value) is list for part in value):
        return "holds nested values: write each as a column of its own"
    if any(type(value) is str and not _is_unicode(value) for value in values):
        return "holds half of a surrogate pair (as in \\ud83d), which is no character"
    return None


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _cell(value: object) -> str:
    """The value as a file of texts has it; a list of tokens with spaces between them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    return "" if value is None or value != value else str(value)  # NaN is a missing value


def _check_header(path: Path, header: Sequence[str]) -> None:
    if doubled := {name for name in header if list(header).count(name) > 1}:
        raise UserError(
            f"{path}: the header has {_names(doubled)} more than once. Each column needs a name of its own."
        )
    if not all(map(_is_unicode, header)):
        raise UserError(f"{path}: the name of a column holds half of a surrogate pair, which is no character.")


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".txt": partial(_read_delimited, delimiter="\t"),
    ".parquet": partial(_read_arrow, kind="Parquet", read=_parquet),
    ".arrow": partial(_read_arrow, kind="Arrow", read=_arrow),
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
}
"""Kind of file, without compression -> its reader."""


def snapshot(data: str) -> Path:
    """The folder with the tables of a hub data set, at the commit that `hub.revision` gives. Raises UserError."""
    name, commit = data.partition("@")[0], revision(data, "dataset")
    try:
        # A snapshot gives the same bytes with and without a network.
        folder = _download(name, commit, file_kinds.FIRST)
        if not any(file_kinds.kind_of(path) in file_kinds.FIRST for path in folder.rglob("*")):
            folder = _download(name, commit, file_kinds.KINDS)
        return folder
    except Exception as error:  # whatever the transport in use raises
        raise UserError(f"the hub data set {name}@{commit[:8]} cannot be loaded ({type(error).__name__}).") from error


def _download(name: str, commit: str, kinds: Sequence[str]) -> Path:
    packed = ("", *file_kinds.DECOMPRESS) if kinds == file_kinds.KINDS else ("",)
    patterns = [f"*{kind}{suffix}" for kind in kinds for suffix in packed]
    return Path(snapshot_download(name, repo_type="dataset", revision=commit, allow_patterns=patterns))


def together(source: str, tables: Sequence[Table]) -> Table:
    """The shards of a split as one table, whose rows are counted over all of them."""
    unreadable = {name: problem for table in tables for name, problem in table.unreadable.items()}
    if len(tables) == 1:
        return Table(source, tables[0].frame, unreadable)
    columns = list(tables[0].frame)
    if different := [table.source for table in tables if list(table.frame) != columns]:
        raise UserError(f"{different[0]}: has other columns than {tables[0].source}, which is of the same split.")
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    return Table(source, frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"), axis=0), unreadable)


def find_column(table: Table, role: str, names: Sequence[str], remedy: str = "") -> str:
    """The one column of the table that has one of these names, or one of them in another case.

    role: what messages call the column ("text"); remedy: how the message for none ends. Raises UserError for none, for several,
    and for one whose values are no texts.
    """
    lowered = {name.lower() for name in names}
    candidates = [name for name in table.frame.columns if name in names]
    candidates = candidates or [name for name in table.frame.columns if name.strip().lower() in lowered]
    if len(candidates) > 1:
        several = ", ".join(candidates)
        raise UserError(f"{table.source}: several columns could be the {role}: {several}. Keep one of them.")
    if not candidates:
        has, near = _names(table.frame.columns), _nearest(table.frame.columns, names)
        raise UserError(
            f"{table.source}: no column for the {role}. It has: {has}. Allowed: {', '.join(names)}.{near}{remedy}"
        )
    if problem := table.unreadable.get(candidates[0]):
        raise UserError(f"{table.source}: the column {candidates[0]!r} {problem}.")
    return str(candidates[0])


def _nearest(columns: Iterable[str], names: Sequence[str]) -> str:
    """' The nearest is ...', for the column whose name is most like one of these; empty if none is like any."""
    likeness = {
        (column, name): max(SequenceMatcher(None, column.lower(), name).ratio(), 0.6 * (name in column.lower()))
        for column in columns
        for name in names
        if re.fullmatch(r"\w{1,30}", column)
    }
    column, name = max(likeness, key=lambda pair: likeness[pair], default=("", ""))
    if not column or likeness[column, name] < LIKE:
        return ""
    return f" The nearest is {column!r}: if it is the right one, rename it to {name!r}."


def spelled(table: Table, needed: Sequence[Sequence[str]], optional: Sequence[str] = ()) -> Table:
    """The table with the names of columns as the project spells them, where one of the needed columns is there in another case
    alone. All other tables stay as they are: what a table is read as today must not depend on its other columns.

    needed: the allowed names of each needed column.
    """
    if all(any(name in table.frame for name in names) for names in needed):
        return table
    spelling = {name.lower(): name for names in (*needed, optional) for name in names}
    new = {str(column): spelling.get(str(column).strip().lower(), str(column)) for column in table.frame}
    if len(set(new.values())) < len(new):
        return table
    unreadable = {new[column]: problem for column, problem in table.unreadable.items()}
    return replace(table, frame=table.frame.rename(columns=new), unreadable=unreadable)


def _names(columns: Iterable[str]) -> str:
    """Names of columns, for messages. Those that do not look like names are only counted: in a file without a header they are
    texts."""
    names = sorted(set(columns))
    shown = [name for name in names if re.fullmatch(r"\w{1,30}", name)]
    hidden = f"{len(names) - len(shown)} that do not look like names" if len(shown) < len(names) else ""
    return ", ".join([*shown, *([hidden] if hidden else [])])


def check_texts(table: Table, column: str) -> list[str]:
    """The texts, unchanged. Raises UserError for an empty one."""
    empty = table.frame.index[table.frame[column].str.strip() == ""]
    if len(empty):
        raise UserError(f"{table.at(empty)}: no text in {column!r}. Every example needs one.")
    return list(table.frame[column])


def check_labels(table: Table, column: str, codes: Mapping[str, int], threshold: str = "") -> list[int]:
    """The labels as numbers. codes: value in lower case -> label (`label_cells.coded`).

    threshold: how to say from which number on an example has a label, for messages. Raises UserError for an empty cell and for
    any other value.
    """
    cells = labelled(table, column)
    labels = label_cells.coded(cells, codes)
    if labels.isna().any():
        bad = cells[labels.isna()]
        if threshold and label_cells.fractional(cells):
            raise UserError(f"{table.at(bad.index)}: the labels in {column!r} are numbers with fractions. {threshold}")
        raise UserError(
            f"{table.at(bad.index)}: unknown label in {column!r}. Allowed: {', '.join(codes)}.{_near_label(bad, codes)}"
        )
    return [int(label) for label in labels]


def _near_label(cells: pd.Series[str], codes: Mapping[str, int]) -> str:
    """What the cells hold, if it looks like names of classes, with the nearest match of the first one."""
    shown = label_cells.shown(cells)
    near = difflib.get_close_matches(cells.iloc[0].strip().lower(), list(codes), n=1) if shown else []
    return f" The cells have other values{shown}.{f' Did you mean {near[0]!r}?' if near else ''}" if shown else ""


def labelled(table: Table, column: str) -> pd.Series[str]:
    """The column, of which no cell is empty. Raises UserError with the rows of those that are."""
    cells = table.frame[column]
    empty = cells.index[cells.str.strip() == ""]
    if len(empty):
        raise UserError(
            f"{table.at(empty)}: no label in {column!r}: {len(empty)} of {len(cells)} cells are empty. Label these rows, or "
            "leave them out."
        )
    return cells


def labels_from(table: Table, column: str, threshold: float) -> list[int]:
    """1 for each number of at least the threshold, else 0. Raises UserError for a cell that is no number."""
    cells = labelled(table, column)
    values = label_cells.numbers(cells)
    if values.isna().any():
        raise UserError(f"{table.at(cells.index[values.isna()])}: no number in {column!r}, which has a threshold.")
    return [int(value >= threshold) for value in values]


def check_classes(
    source: str,
    labels: Sequence[int],
    classes: Iterable[int],
    least: int = 1,
    names: Sequence[str] = (),
    remedy: str = "",
) -> None:
    """Raises UserError unless each of these labels occurs at least `least` times. names: of all labels, for messages."""
    counts = {label: labels.count(label) for label in classes}
    if rare := {label: count for label, count in counts.items() if count < least}:
        listed = ", ".join(
            f"label {label} occurs {count} times{f' ({names[label]})' if names else ''}"
            for label, count in rare.items()
        )
        if names and len(rare) > MOST_LISTED:
            few = ", ".join(f"{names[label]}{f' ({count} times)' if count else ''}" for label, count in rare.items())
            listed = f"{len(rare)} of {len(counts)} labels occur too rarely or never: {few}"
        raise UserError(f"{source}: {listed}; each label must occur at least {least} times.{remedy}")


def split_frame(
    frame: pd.DataFrame, keys: Sequence[str], seed: int, held: Sequence[str] = ("dev", "test")
) -> dict[str, pd.DataFrame]:
    """Split into train and a tenth for each of the splits `held`, stratified by the column `label`, and within a label by the
    column `stratum`, if there is one. By default: 80/10/10.

    Within a label, examples are ranked by a hash of seed and key, so that neither the order of rows nor the platform matters.
    keys: (rows,), one per example. Each split gets an example of every label that has enough; the examples of a stratum with
    too few for all splits go to train first.
    """
    ranked = sorted(range(len(frame)), key=lambda row: digest([seed, keys[row]]))
    labels = frame["label"].tolist()
    strata = frame["stratum"].tolist() if "stratum" in frame else [""] * len(frame)
    rows: dict[str, list[int]] = {name: [] for name in ("train", *held)}
    for label in set(labels):
        of_label = _interleaved([row for row in ranked if labels[row] == label], strata)
        tenth = max(1, round(len(of_label) / 10))
        for number, name in enumerate(held):
            rows[name] += of_label[number * tenth : (number + 1) * tenth]
        rows["train"] += of_label[len(held) * tenth :]
    return {name: frame.iloc[sorted(part)] for name, part in rows.items()}


def _interleaved(rows: Sequence[int], strata: Sequence[str]) -> list[int]:
    """The rows in an order in which every stretch has about each stratum's share; within a stratum, their order stays."""
    position = dict[int, float]()
    for stratum in {strata[row] for row in rows}:
        members = [row for row in rows if strata[row] == stratum]
        position |= {row: (rank + 0.5) / len(members) for rank, row in enumerate(members)}
    return sorted(rows, key=lambda row: position[row])


def to_dataset(frame: pd.DataFrame, *extra: str) -> Dataset:
    """An in-memory data set with the columns id, text and label, and the `extra` columns of strings."""
    features = Features({**_FEATURES, **{name: Value("string") for name in extra}})
    return Dataset.from_dict({name: frame[name].tolist() for name in features}, features=features)
