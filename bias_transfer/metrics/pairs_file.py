"""A file of sentence pairs in the form of CrowS-Pairs (Nangia et al. 2020), read strictly.

Messages name lines and columns, never a sentence: they are offensive by design.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bias_transfer.models.hub import did_you_mean
from bias_transfer.errors import UserError

COLUMNS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
"""What is read; the published file has more columns, which are allowed."""

DIRECTIONS = ("stereo", "antistereo")


class Pair(NamedTuple):
    """Two sentences that differ in the group that they speak of."""

    more: str
    """Of the disadvantaged group where the direction is stereo; the more stereotyping sentence of the two in either case."""
    less: str
    direction: str
    """stereo: the pair shows a stereotype; antistereo: it violates one."""
    bias_type: str


def content_digest(path: str) -> str:
    """SHA-256 of the file's bytes. Raises UserError for a file that is not there."""
    return hashlib.sha256(_content(path)).hexdigest()


def read_pairs(path: str) -> tuple[Pair, ...]:
    """The pairs in the file's order. Raises UserError for a file that is not of the published form, with the line."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        missing = [name for name in COLUMNS if header.count(name) != 1]
        if missing:
            raise UserError(
                f"{path}: {', '.join(missing)} must each be one column. Needed: {', '.join(COLUMNS)}, as in "
                "crows_pairs_anonymized.csv."
            )
        places = [header.index(name) for name in COLUMNS]
        pairs = [_pair(f"{path}: line {reader.line_num}", row, len(header), places) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} ends a row that cannot be read: {error}.") from None
    if not pairs:
        raise UserError(f"{path}: no pair in it. It needs a header and at least one row.")
    return tuple(pairs)


def _pair(where: str, row: Sequence[str], width: int, places: Sequence[int]) -> Pair:
    if len(row) != width:
        raise UserError(f"{where} ends a row of {len(row)} fields; the header has {width}.")
    pair = Pair(*(row[place].strip() for place in places))
    if empty := [name for name, cell in zip(COLUMNS, pair, strict=True) if not cell]:
        raise UserError(f"{where} ends a row without {', '.join(empty)}. Every pair needs all four.")
    if pair.direction not in DIRECTIONS:
        raise UserError(f"{where}: stereo_antistereo is neither of {', '.join(DIRECTIONS)}.")
    if pair.more == pair.less:
        raise UserError(f"{where} ends a row whose two sentences are the same. They must differ in the group.")
    return pair


def _content(path: str) -> bytes:
    if not Path(path).is_file():
        raise UserError(f"metric.crows_pairs: {path}: no such file.{did_you_mean(path)}")
    return Path(path).read_bytes()


def _text(path: str) -> str:
    content = _content(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8. Save the file as UTF-8.") from None
