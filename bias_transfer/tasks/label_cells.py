"""Labels as people write them in a column: 0 and 1, true and false, yes and no, 1.0, names of classes, numbers with a bound."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from bias_transfer.errors import UserError

TRUE = ("1", "true", "yes", "y", "t")
FALSE = ("0", "false", "no", "n", "f")
"""What stands for 1 and 0, in any case."""

MOST_SHOWN = 20
"""A column with more different values is shown by none of them: it may be one of texts (ours)."""

_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_BOUND = re.compile(r"(>=|<)\s*([+-]?\d+(?:\.\d+)?)")


def normal(cell: str) -> str:
    """The cell in lower case, 1.0 as 1, and with a space for each hyphen and underscore."""
    text = cell.strip().lower()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else re.sub(r"[\s_-]+", " ", text)


def coded(cells: pd.Series[str], codes: Mapping[str, int]) -> pd.Series[int]:
    """The label of each cell: that of the value itself in lower case, else of one that is `normal`ly the same; missing for any
    other value."""
    loose = {name: {code for value, code in codes.items() if normal(value) == name} for name in map(normal, codes)}
    known = {
        name: code for name, (code, *others) in ((name, tuple(found)) for name, found in loose.items()) if not others
    }
    values = {cell: codes.get(cell.strip().lower(), known.get(normal(cell))) for cell in set(cells)}
    return cells.map(values)


def binary(classes: Sequence[str]) -> dict[str, int]:
    """Further values of two classes that are called yes and no in one of the ways in `TRUE` and `FALSE`; else none."""
    sides = [next((side for side in (TRUE, FALSE) if name.lower() in side), ()) for name in classes]
    if len(classes) != 2 or set(sides) != {TRUE, FALSE}:
        return {}
    return {value: number for number, side in enumerate(sides) for value in side}


def bounds(values: Mapping[str, int]) -> list[tuple[str, float, int]]:
    """(operator, number, label) of the values that are bounds: '>=0.5' or '<0.5'."""
    parsed = ((_BOUND.fullmatch(value.strip()), label) for value, label in values.items())
    return [(match[1], float(match[2]), label) for match, label in parsed if match]


def numbers(cells: Iterable[str]) -> pd.Series[float]:
    """The cells as numbers; NaN for a cell that is not a number."""
    return pd.to_numeric(pd.Series(list(cells)), errors="coerce")


def by_bounds(cells: pd.Series[str], limits: Sequence[tuple[str, float, int]]) -> pd.Series[float]:
    """The label whose bounds a number is within; missing for a cell that is no number, or within the bounds of several or none.

    limits: as `bounds` gives them.
    """
    values = numbers(cells)
    labels = pd.Series(float("nan"), index=cells.index)
    for place, value in zip(cells.index, values, strict=True):
        within = {label for mark, limit, label in limits if (value >= limit if mark == ">=" else value < limit)}
        if len(within) == 1:
            labels[place] = within.pop()
    return labels


def fractional(cells: Iterable[str]) -> bool:
    """Whether all cells are numbers, and one of them is no integer."""
    values = numbers(cells)
    return bool(len(values) and values.notna().all() and (values % 1 != 0).any())


def shown(cells: Iterable[str]) -> str:
    """' (a, b, ...)' with up to five different values, if these are names of classes: few, short, each in several rows;
    else empty, since the column may be one of texts."""
    counts = Counter(cell.strip() for cell in cells)
    names = [value for value, count in counts.items() if count > 1 and re.fullmatch(r"[\w .-]{1,30}", value)]
    if not names or len(counts) > MOST_SHOWN:
        return ""
    return f" ({', '.join(names[:5])}{', ...' if len(counts) > 5 else ''})"


def check_bounds(key: str, values: Mapping[str, int]) -> None:
    """Raises UserError where only some values are bounds, or bounds leave a number without a class."""
    limits = bounds(values)
    if limits and len(limits) < len(values):
        raise UserError(f"{key}: either all values are bounds, as '>=0.5' and '<0.5' are, or none")
    marks = {mark: number for mark, number, _ in limits}
    if limits and (len(limits) != 2 or len(marks) != 2 or marks[">="] != marks["<"]):
        raise UserError(f"{key}: bounds are one '>=X' for one class and one '<X', with the same X, for the other")
