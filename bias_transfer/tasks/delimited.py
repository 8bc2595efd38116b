"""The rows of .csv, .tsv and .txt files, held against the file's lines: a stray quotation mark must not swallow rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from bias_transfer.errors import UserError

csv.field_size_limit(2**31 - 1)  # the default refuses a text of more than 131,072 characters

DELIMITERS = (",", "\t", ";")
"""What may stand between fields, whatever the file's suffix says: the first that the header has."""

HINT = "Quote a field that has a quotation mark or a line break in it, and double the quotation marks inside."


@dataclass(frozen=True)
class Rows:
    """The cells of a file, as strings."""

    header: list[str]
    cells: list[list[str]]
    lines: list[int]
    """The line on which each row begins, counted from 1."""


def parse(source: str, content: str, delimiter: str) -> Rows:
    """The rows of a file with this content; blank lines are skipped. Raises UserError, naming the line.

    Where all lines of a tab-separated file have the header's number of tabs, each line is a row, and a quotation mark opens a
    field only if the field closes on that line: files of tweets are not quoted. In all other files a field may span lines.
    """
    lines = list(io.StringIO(content, newline=""))
    delimiter = _delimiter(lines, delimiter)
    if delimiter == "\t" and '"' in content and _one_row_per_line(lines):
        first, *rest = [[_cell(cell) for cell in line.rstrip("\r\n").split("\t")] for line in lines if not _blank(line)]
        numbers = [number for number, line in enumerate(lines, start=1) if not _blank(line)]
        return Rows(_stripped(first), rest, numbers[1:])
    return _quoted(source, lines, delimiter)


def _delimiter(lines: Sequence[str], usual: str) -> str:
    """The usual one for this kind of file, unless the header is one field by it and several by another."""
    header = next((line for line in lines if not _blank(line)), "")
    several = [mark for mark in (usual, *DELIMITERS) if mark in header]
    return several[0] if several else usual


def trimmed(rows: Rows) -> Rows:
    """The rows without what stands after the last column that has a name, where all rows are empty there: an export may end all
    its lines with delimiters. Other rows are left as they are."""
    width = max((number for number, name in enumerate(rows.header, start=1) if name), default=0)
    lengths = {len(cells) for cells in rows.cells}
    alike = len(lengths) == 1 or width < len(rows.header)
    if not width or not alike or any(cell.strip() for cells in rows.cells for cell in cells[width:]):
        return rows
    return Rows(rows.header[:width], [cells[:width] for cells in rows.cells], rows.lines)


def _one_row_per_line(lines: Sequence[str]) -> bool:
    return len({line.count("\t") for line in lines if not _blank(line)}) == 1


def _blank(line: str) -> bool:
    return not line.strip("\r\n")


def _stripped(header: Sequence[str]) -> list[str]:
    return [name.strip() for name in header]


def _cell(cell: str) -> str:
    """The content of a quoted cell; any other cell as it is, with its quotation marks."""
    inside = cell[1:-1].replace('""', "")
    return cell[1:-1].replace('""', '"') if cell[:1] == cell[-1:] == '"' != cell and '"' not in inside else cell


def _quoted(source: str, lines: Sequence[str], delimiter: str) -> Rows:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    cells, starts, ends = list[list[str]](), list[int](), list[int]()
    try:
        header = _stripped(next((row for row in reader if row), []))
        start = reader.line_num + 1
        for row in reader:
            if row:  # a blank line is an empty list
                cells.append(row)
                starts.append(start)
                ends.append(reader.line_num)
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{source}: line {reader.line_num} ends a row that cannot be read: {error}. {HINT}") from None
    rows = Rows(header, cells, starts)
    if starts != ends:
        _check_spans(source, lines, rows, ends, delimiter)
        _check_quotation_marks(source, lines, rows)
    return rows


def _check_quotation_marks(source: str, lines: Sequence[str], rows: Rows) -> None:
    """Raises UserError unless rows begin exactly where the number of quotation marks so far is even.

    A mark within a field that is not quoted breaks this: such a file follows no rule, and where a field ends is a guess.
    """
    begins, marks = [], 0
    for number, line in enumerate(lines, start=1):
        if marks % 2 == 0 and not _blank(line):
            begins.append(number)
        marks += line.count('"')
    begins = [number for number in begins if number >= rows.lines[0]]
    if begins != rows.lines:
        different = sorted(set(begins) ^ set(rows.lines))[0]
        raise UserError(
            f"{source}: {len(rows.lines)} rows are read, but {len(begins)} rows begin by the count of quotation marks; they "
            f"differ from line {different} on, where a quotation mark before it is not closed. {HINT}"
        )


def _check_spans(source: str, lines: Sequence[str], rows: Rows, ends: Sequence[int], delimiter: str) -> None:
    """Raises UserError for a row over several lines, each of which is a row by itself: it has the header's number of fields,
    and in one column a value that rows on a single line have too (a label, a split)."""
    usual = [set(column) for column in zip(*_single(rows, ends), strict=True)]
    for start, end in zip(rows.lines, ends, strict=True):
        span = [line.rstrip("\r\n").split(delimiter) for line in lines[start - 1 : end] if not _blank(line)]
        if len(span) == 1 or any(len(parts) != len(rows.header) for parts in span):
            continue
        if any(set(parts) <= values for parts, values in zip(zip(*span, strict=True), usual, strict=False)):
            raise UserError(
                f"{source}: line {start} opens a quotation mark that closes on line {end} only, although each of these "
                f"{len(span)} lines is a row by itself. {HINT}"
            )


def _single(rows: Rows, ends: Sequence[int]) -> list[list[str]]:
    """The rows on one line that have the header's number of fields."""
    placed = zip(rows.cells, rows.lines, ends, strict=True)
    return [cells for cells, start, end in placed if start == end and len(cells) == len(rows.header)]
