"""Files that a measure reads: found, unchanged since the trial was resolved, and read strictly.

Messages name the option, the file and the line, and never quote a text: much of these data is offensive.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bias_transfer.errors import UserError, unknown
from bias_transfer.models.hub import did_you_mean

DELIMITERS = {".csv": ",", ".tsv": "\t"}
KINDS = (*DELIMITERS, ".jsonl")


class Row(NamedTuple):
    """The cells of the columns that were asked for."""

    where: str
    """As messages name it: "pairs.csv: line 3"."""
    cells: tuple[str, ...]
    """Without white space around them."""


def content_digest(option: str, path: str) -> str:
    """SHA-256 of the file's bytes. Raises UserError for a file that does not exist."""
    return hashlib.sha256(_content(option, path)).hexdigest()


def check_unchanged(option: str, path: str, digest: str | None) -> None:
    """Raises UserError for a file that is no longer the one of which `content_digest` was taken."""
    if content_digest(option, path) != digest:
        raise UserError(f"{path} has changed since the trial was resolved. Start the trial again.")


def text(option: str, path: str) -> str:
    """The file's text, which is UTF-8. Raises UserError, naming the line."""
    content = _content(option, path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8. Save the file as UTF-8.") from None


def rows(option: str, path: str, columns: Sequence[str], form: str = "", kind: str | None = None) -> list[Row]:
    """The rows of a .csv, .tsv or .jsonl file, in its order; blank lines are skipped.

    columns: the names that are read; others are ignored. form: how messages go on about these ("as in ..."). kind: the suffix
    by which it is read; None: its own. Raises UserError, naming the line, for a file of another kind, without rows or without a
    column, and for a row that cannot be read or has an empty cell.
    """
    kind = kind or Path(path).suffix
    if kind not in KINDS:
        raise UserError(f"{option}: {path}: {unknown('kind of file', kind, KINDS)}")
    content = text(option, path)
    if kind == ".jsonl":
        found = list(_records(path, content, columns, form))
    else:
        found = list(_table(path, content, columns, form, DELIMITERS[kind]))
    if not found:
        raise UserError(f"{path}: no row in it. The file needs at least one, with {', '.join(columns)}.")
    for row in found:
        if empty := [name for name, cell in zip(columns, row.cells, strict=True) if not cell]:
            raise UserError(f"{row.where} ends a row without {', '.join(empty)}. Every row needs {', '.join(columns)}.")
    return found


def _table(path: str, content: str, columns: Sequence[str], form: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        places = [header.index(name) for name in _check_columns(path, header, columns, form)]
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            if row and len(row) != len(header):
                raise UserError(f"{where} ends a row of {len(row)} fields; the header has {len(header)}.")
            if row:
                yield Row(where, tuple(row[place].strip() for place in places))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} ends a row that cannot be read: {error}.") from None


def _records(path: str, content: str, columns: Sequence[str], form: str) -> Iterator[Row]:
    # Not splitlines, which also cuts at separators that JSON allows within a string.
    for number, line in enumerate(content.split("\n"), start=1):
        where = f"{path}: line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise UserError(f"{where} is no JSON object. Each line of a .jsonl file is one, with {', '.join(columns)}.")
        cells = [record[name] for name in _check_columns(where, list(record), columns, form)]
        if any(not isinstance(cell, str) for cell in cells):
            raise UserError(f"{where}: {', '.join(columns)} must be texts.")
        yield Row(where, tuple(cell.strip() for cell in cells))


def _check_columns(where: str, header: Sequence[str], columns: Sequence[str], form: str) -> Sequence[str]:
    if missing := [name for name in columns if header.count(name) != 1]:
        raise UserError(f"{where}: {', '.join(missing)} must each be one column. Needed: {', '.join(columns)}{form}.")
    return columns


def words(option: str, path: str) -> tuple[str, ...]:
    """The words of a list, in lower case, each once: the lines of a text file, or the column `lemma` of a .csv, .tsv or .jsonl
    file, as in HurtLex (Bassignana et al. 2018). Raises UserError for a list without words."""
    if Path(path).suffix in KINDS:
        found = [cell for row in rows(option, path, ("lemma",), ", as in HurtLex") for cell in row.cells]
    else:
        found = [line.strip() for line in text(option, path).splitlines() if line.strip()]
    if not found:
        raise UserError(f"{path}: no word in it. The file has one word on each line.")
    return tuple(dict.fromkeys(word.lower() for word in found))


def _content(option: str, path: str) -> bytes:
    if not Path(path).is_file():
        raise UserError(f"{option}: {path}: no such file.{did_you_mean(path)}")
    return Path(path).read_bytes()
