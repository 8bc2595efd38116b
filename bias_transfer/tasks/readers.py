"""Read examples from files, folders and hub data sets, strictly: errors say what is wrong and where.

Messages name files, columns and lines and never quote a text: much of the data is offensive or personal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
from datasets import Dataset, Features, Value
from huggingface_hub import snapshot_download

from bias_transfer.errors import UserError, unknown
from bias_transfer.hashing import digest
from bias_transfer.models.hub import did_you_mean, revision
from bias_transfer.tasks import delimited

SPLITS = ("train", "dev", "test")
_FEATURES = Features({"id": Value("string"), "text": Value("string"), "label": Value("int64")})


@dataclass(frozen=True)
class Table:
    """A table whose cells are strings, exactly as in the file ("NA" is a text); a missing value of a typed file is ""."""

    source: str
    """The file (or data set and split), as messages name it."""
    frame: pd.DataFrame
    """The index is the line in the file, or the row where there are no lines, counted from 1; its name says which."""

    def at(self, places: Iterable[int]) -> str:
        """The source with up to five of these lines, as in 'train.csv: lines 3, 9'."""
        return _at(self.source, str(self.frame.index.name), list(places))


def _at(source: str, unit: str, places: Sequence[int]) -> str:
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return f"{source}: {unit}{'s' if len(places) > 1 else ''} {', '.join(map(str, places[:5]))}{more}"


def read_table(path: Path) -> Table:
    """A .csv, .tsv or .parquet file. Raises UserError for a file that is not well-formed, and for one without rows."""
    if path.suffix not in READERS:
        raise UserError(f"{path}: {unknown('kind of file', path.suffix, READERS)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file.{did_you_mean(str(path))}")
    table = READERS[path.suffix](path)
    if table.frame.empty:
        raise UserError(f"{path}: the file has no examples. It needs a header and at least one row.")
    return table


def _read_delimited(path: Path, delimiter: str) -> Table:
    rows = delimited.parse(str(path), _decode(path), delimiter)
    header = rows.header
    _check_header(path, header)
    ragged = [line for line, cells in zip(rows.lines, rows.cells, strict=True) if len(cells) != len(header)]
    if ragged:
        place = _at(str(path), "line", ragged)
        raise UserError(f"{place}: the number of fields is not that of the header ({len(header)}).")
    lines = pd.Index(rows.lines, name="line")
    return Table(str(path), pd.DataFrame(rows.cells, columns=header, dtype="str", index=lines))


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
        raise UserError(f"{path}: not a readable Parquet file ({type(error).__name__}).") from None
    _check_header(path, content.column_names)
    return _typed(str(path), content.to_pydict())


def _typed(source: str, columns: Mapping[str, Sequence[object]]) -> Table:
    cells = {name: ["" if value is None else str(value) for value in values] for name, values in columns.items()}
    frame = pd.DataFrame(cells, dtype="str")
    return Table(source, frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"), axis=0))


def _check_header(path: Path, header: Sequence[str]) -> None:
    if doubled := {name for name in header if list(header).count(name) > 1}:
        raise UserError(
            f"{path}: the header has {_names(doubled)} more than once. Each column needs a name of its own."
        )


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".parquet": _read_parquet,
}


def snapshot(data: str) -> Path:
    """The folder with the tables of a hub data set, at the commit that `hub.revision` gives. Raises UserError."""
    name, commit = data.partition("@")[0], revision(data, "dataset")
    try:
        # A snapshot gives the same bytes with and without a network.
        return Path(
            snapshot_download(
                name, repo_type="dataset", revision=commit, allow_patterns=[f"*{kind}" for kind in READERS]
            )
        )
    except Exception as error:  # whatever the transport in use raises
        raise UserError(f"the hub data set {name}@{commit[:8]} cannot be loaded ({type(error).__name__}).") from error


def together(source: str, tables: Sequence[Table]) -> Table:
    """The shards of a split as one table, whose rows are counted over all of them."""
    if len(tables) == 1:
        return Table(source, tables[0].frame)
    columns = list(tables[0].frame)
    if different := [table.source for table in tables if list(table.frame) != columns]:
        raise UserError(f"{different[0]}: has other columns than {tables[0].source}, which is of the same split.")
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    return Table(source, frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"), axis=0))


def find_column(table: Table, role: str, names: Sequence[str]) -> str:
    """The one column of the table that has one of these names. Raises UserError for none and for several.

    role: what messages call the column ("text").
    """
    candidates = [name for name in table.frame.columns if name in names]
    if len(candidates) == 1:
        return str(candidates[0])
    if candidates:
        several = ", ".join(candidates)
        raise UserError(f"{table.source}: several columns could be the {role}: {several}. Keep one of them.")
    has = _names(table.frame.columns)
    raise UserError(f"{table.source}: no column for the {role}. It has: {has}. Allowed: {', '.join(names)}.")


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


def check_labels(table: Table, column: str, codes: Mapping[str, int]) -> list[int]:
    """The labels as numbers. codes: value in lower case -> label. Raises UserError for any other value."""
    labels = table.frame[column].str.strip().str.lower().map(codes)
    if labels.isna().any():
        bad = table.frame.index[labels.isna()]
        raise UserError(f"{table.at(bad)}: unknown label in {column!r}. Allowed: {', '.join(codes)}.")
    return [int(label) for label in labels]


def check_classes(source: str, labels: Sequence[int], classes: int, least: int = 1) -> None:
    """Raises UserError unless each label 0 .. classes - 1 occurs at least `least` times."""
    counts = {label: labels.count(label) for label in range(classes)}
    if rare := {label: count for label, count in counts.items() if count < least}:
        listed = ", ".join(f"label {label} occurs {count} times" for label, count in rare.items())
        raise UserError(f"{source}: {listed}; each label must occur at least {least} times.")


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
