"""Reading examples from files, folders and hub data sets: strict, and clear about what is wrong and where.

Messages name files, columns and lines, never a text: much of the data is offensive or personal.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
from datasets import Dataset, DatasetDict, Features, Value, load_dataset
from huggingface_hub import snapshot_download

from bias_transfer.hashing import file_digest
from bias_transfer.models.hub import did_you_mean
from bias_transfer.models.hub import revision
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.errors import unknown

SPLITS = ("train", "dev", "test")
_FEATURES = Features({"id": Value("string"), "text": Value("string"), "label": Value("int64")})


@dataclass(frozen=True)
class Table:
    """Cells as strings, as they stand in the file ("NA" is a text); a missing value of a typed file is ""."""

    source: str
    """The file (or data set and split), as messages name it."""
    frame: pd.DataFrame
    """Its index gives the line of the file, or the row where there are no lines, from 1."""

    def at(self, places: Iterable[int]) -> str:
        """The file with up to five of these lines, as in 'train.csv: lines 3, 9'."""
        return _at(self.source, str(self.frame.index.name), list(places))


def _at(source: str, unit: str, places: Sequence[int]) -> str:
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return f"{source}: {unit}{'s' if len(places) > 1 else ''} {', '.join(map(str, places[:5]))}{more}"


def read_table(path: Path) -> Table:
    """A .csv, .tsv or .parquet file. Raises UserError for what is not well-formed, and for a table without rows."""
    if path.suffix not in READERS:
        raise UserError(f"{path}: {unknown('kind of file', path.suffix, READERS)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file.{did_you_mean(str(path))}")
    table = READERS[path.suffix](path)
    if table.frame.empty:
        raise UserError(f"{path}: no example in it. It needs a header and at least one row.")
    return table


def _read_delimited(path: Path, delimiter: str) -> Table:
    reader = csv.reader(io.StringIO(_decode(path), newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        line = reader.line_num + 1
        for row in reader:
            if row:  # else a blank line
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "A field with a quotation mark or line break in it stands in quotation marks, inner ones doubled."
        raise UserError(f"{path}: line {reader.line_num} ends a row that cannot be read: {error}. {hint}") from None
    _check_header(path, header)
    ragged = [line for line, row in zip(lines, rows, strict=True) if len(row) != len(header)]
    if ragged:
        place = _at(str(path), "line", ragged)
        raise UserError(f"{place}: not as many fields as in the header ({len(header)}). Every row needs as many.")
    return Table(str(path), pd.DataFrame(rows, columns=header, dtype="str", index=pd.Index(lines, name="line")))


def _decode(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8. Save the file as UTF-8.") from None


def _read_parquet(path: Path) -> Table:
    try:
        content = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: no Parquet file, or a damaged one ({type(error).__name__}).") from None
    _check_header(path, content.column_names)
    return _typed(str(path), content.to_pydict())


def _typed(source: str, columns: Mapping[str, Sequence[object]]) -> Table:
    cells = {name: ["" if value is None else str(value) for value in values] for name, values in columns.items()}
    frame = pd.DataFrame(cells, dtype="str")
    return Table(source, frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"), axis=0))


def _check_header(path: Path, header: Sequence[str]) -> None:
    if doubled := {name for name in header if list(header).count(name) > 1}:
        raise UserError(f"{path}: its header has {_names(doubled)} more than once. Each column needs its own name.")


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".parquet": _read_parquet,
}


def split_files(folder: Path) -> dict[str, Path]:
    """The train, dev and test file of a folder, of any kind that can be read. Other files are never looked at."""
    found = {name: [file for kind in READERS if (file := folder / f"{name}{kind}").is_file()] for name in SPLITS}
    if wrong := [name for name in SPLITS if len(found[name]) != 1]:
        raise UserError(
            f"{folder}: needs exactly one file each for train, dev and test (as {', '.join(READERS)}), but has "
            + ", ".join(f"{len(found[name]) or 'none'} for {name}" for name in wrong)
            + ". Name a single file to have it split."
        )
    return {name: paths[0] for name, paths in found.items()}


def content_digest(path: Path, names: Iterable[str] | None = None) -> str:
    """SHA-256 of what is read: a file's bytes and kind, or the bytes of a folder's files of these names (default: its
    train, dev and test file). Where they lie never enters.
    """
    if path.is_file():
        return digest({path.suffix: file_digest(path)})
    names = [file.name for file in split_files(path).values()] if names is None else names
    return digest({name: file_digest(path / name) for name in names})


def read_hub(data: str) -> dict[str, Table]:
    """All splits of a hub data set, at the commit that `hub.revision` gives. Raises UserError."""
    name, commit = data.partition("@")[0], revision(data, "dataset")
    try:
        # A complete snapshot, read as a folder: the same bytes with and without a network. load_dataset(name) would
        # take any prepared version when offline.
        loaded = load_dataset(snapshot_download(name, repo_type="dataset", revision=commit))
    except Exception as error:  # its builders raise what their formats raise; a message may quote a text
        raise UserError(f"the hub data set {name}@{commit[:8]} cannot be loaded ({type(error).__name__}).") from error
    if not isinstance(loaded, DatasetDict):
        raise UserError(f"the hub data set {name} has no splits.")
    return {split: _typed(f"{name} ({split})", dataset.to_dict()) for split, dataset in loaded.items()}


def find_column(table: Table, what: str, names: Sequence[str]) -> str:
    """The one column of the table that has one of these names. Raises UserError for none and for several."""
    found = [name for name in table.frame.columns if name in names]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise UserError(f"{table.source}: several columns could be the {what}: {', '.join(found)}. Keep one of them.")
    has = _names(table.frame.columns)
    raise UserError(f"{table.source}: no column for the {what}. It has: {has}. Allowed: {', '.join(names)}.")


def _names(columns: Iterable[str]) -> str:
    """Names of columns; those that do not look like one (a file without a header) are not shown."""
    names = sorted(set(columns))
    shown = [name for name in names if re.fullmatch(r"\w{1,30}", name)]
    hidden = f"{len(names) - len(shown)} that do not look like names" if len(shown) < len(names) else ""
    return ", ".join([*shown, *([hidden] if hidden else [])])


def check_texts(table: Table, column: str) -> list[str]:
    """The texts, as they are. Raises UserError for an empty one."""
    empty = table.frame.index[table.frame[column].str.strip() == ""]
    if len(empty):
        raise UserError(f"{table.at(empty)}: no text in {column!r}. Every example needs one.")
    return list(table.frame[column])


def check_labels(table: Table, column: str, codes: Mapping[str, int]) -> list[int]:
    """The labels as numbers, by `codes` (lower case). Raises UserError for any other value."""
    labels = table.frame[column].str.strip().str.lower().map(codes)
    if labels.isna().any():
        bad = table.frame.index[labels.isna()]
        raise UserError(f"{table.at(bad)}: no label that is allowed in {column!r}. Allowed: {', '.join(codes)}.")
    return [int(label) for label in labels]


def check_classes(source: str, labels: Sequence[int], classes: int, least: int = 1) -> None:
    """Raises UserError unless each label 0 .. classes - 1 occurs at least so many times."""
    counts = {label: labels.count(label) for label in range(classes)}
    if few := {label: count for label, count in counts.items() if count < least}:
        told = ", ".join(f"label {label} occurs {count} times" for label, count in few.items())
        raise UserError(f"{source}: {told}; each label is needed at least {least} times.")


def split_frame(frame: pd.DataFrame, keys: Sequence[str], seed: int) -> dict[str, pd.DataFrame]:
    """80/10/10 into train, dev and test, stratified by the column `label`, and by `stratum` within it where there is one.

    Within a label, examples are ranked by a hash of seed and key: neither the order of rows nor the platform matters. Each
    split gets an example of a label with three or more; of a stratum that has too few for that, train is served first.
    """
    ranked = sorted(range(len(frame)), key=lambda row: digest([seed, keys[row]]))
    labels = frame["label"].tolist()
    strata = frame["stratum"].tolist() if "stratum" in frame else [""] * len(frame)
    rows: dict[str, list[int]] = {name: [] for name in SPLITS}
    for label in set(labels):
        own = _interleaved([row for row in ranked if labels[row] == label], strata)
        tenth = max(1, round(len(own) / 10))
        for name, part in zip(SPLITS, (own[2 * tenth :], own[:tenth], own[tenth : 2 * tenth]), strict=True):
            rows[name] += part
    return {name: frame.iloc[sorted(rows[name])] for name in SPLITS}


def _interleaved(rows: Sequence[int], strata: Sequence[str]) -> list[int]:
    """The rows in an order in which every stretch has about each stratum's share; within a stratum, as they were."""
    place = dict[int, float]()
    for stratum in {strata[row] for row in rows}:
        own = [row for row in rows if strata[row] == stratum]
        place |= {row: (rank + 0.5) / len(own) for rank, row in enumerate(own)}
    return sorted(rows, key=lambda row: place[row])


def to_dataset(frame: pd.DataFrame, *extra: str) -> Dataset:
    """An in-memory data set with the columns id, text and label, and the named ones, of strings."""
    features = Features({**_FEATURES, **{name: Value("string") for name in extra}})
    return Dataset.from_dict({name: frame[name].tolist() for name in features}, features=features)
