"""The rows of .jsonl and .json files: objects, one on each line or in one list.

Read by the standard library and not by pandas, which turns the integers of a column with a missing value into floats, and does
not say on which line a fault is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bias_transfer.errors import UserError

NEEDED = 'Needed: one object on each line, as in {"text": ..., "label": ...}, or one list of such objects.'


@dataclass(frozen=True)
class Objects:
    """The rows of a file, and where each is."""

    rows: list[dict[str, Any]]
    places: list[int]
    unit: str
    """`line`, or `row` where the file is one list."""


def parse(source: str, content: str) -> Objects:
    """The rows of a file with this content. Raises UserError, naming the line, for anything but objects with distinct keys."""
    if content.lstrip()[:1] == "[":
        rows = _checked(source, "row", enumerate(_loads(source, content, whole=True), start=1))
        return Objects([row for _, row in rows], [place for place, _ in rows], "row")
    # Not splitlines, which breaks a text at characters that JSON allows inside one, such as U+2028.
    lines = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
    values = ((number, _loads(f"{source}: line {number}", line)) for number, line in lines)
    rows = _checked(source, "line", values)
    if len(rows) == 1 and any(isinstance(value, dict | list) for value in rows[0][1].values()):
        raise UserError(f"{source}: is one object with lists or objects in it. {NEEDED}")
    return Objects([row for _, row in rows], [place for place, _ in rows], "line")


def _loads(where: str, content: str, whole: bool = False) -> Any:
    """whole: the content has all lines of a file, and `where` names no line yet."""
    try:
        return json.loads(content, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        line = f": line {error.lineno}" if whole else ""
        raise UserError(f"{where}{line} is not JSON ({error.msg}, character {error.colno}). {NEEDED}") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deeply. {NEEDED}") from None
    except ValueError as error:  # a number with thousands of digits; a key given twice
        raise UserError(f"{where}: {error}. {NEEDED}") from None


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("an object has one key twice")
    return values


def _checked(source: str, unit: str, values: Iterator[tuple[int, Any]]) -> list[tuple[int, dict[str, Any]]]:
    rows = list[tuple[int, dict[str, Any]]]()
    for place, value in values:
        if not isinstance(value, dict):
            raise UserError(f"{source}: {unit} {place} is no object. {NEEDED}")
        rows.append((place, value))
    return rows
