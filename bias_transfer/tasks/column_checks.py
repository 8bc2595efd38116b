"""Columns held against the texts themselves: codes that are numbered the other way are found before anything is trained."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bias_transfer.errors import UserError

LEAST = 20
"""Fewer informative texts are no evidence, so nothing is refused (ours)."""

CHECKED = 5000
"""At most about this many texts of a split are read, at even distances: the share of a large set is known well enough."""


@dataclass(frozen=True)
class ColumnCheck:
    """How a column is held against the texts."""

    column: str
    """What messages call the column."""
    agrees: Callable[[str, Any], bool | None]
    """(text, value of the column) -> whether the text agrees; None for a text that is not informative."""
    limit: float
    """The column is refused if a larger share of the informative texts contradicts it."""
    informative: str
    """What messages call the informative texts."""
    remedy: str
    """What to do about it, in full sentences."""
    name: Callable[[Any], str] = str
    """What messages call a value of the column."""


@dataclass(frozen=True)
class Agreement:
    """Counts over texts."""

    informative: int
    contradicting: int

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.informative + other.informative, self.contradicting + other.contradicting)

    def exceeds(self, limit: float) -> bool:
        """Whether more of the informative texts contradict, and there are at least `LEAST`."""
        return self.informative >= LEAST and self.contradicting > limit * self.informative


def compare(check: ColumnCheck, texts: Sequence[str], values: Sequence[Any]) -> dict[Any, Agreement]:
    """Value of the column -> how its texts agree with it, of up to about `CHECKED` texts."""
    step = -(-len(texts) // CHECKED)
    agreements = dict[Any, Agreement]()
    for text, value in zip(texts[::step], values[::step], strict=True):
        agrees = check.agrees(text, value)
        counts = Agreement(int(agrees is not None), int(agrees is False))
        agreements[value] = agreements.get(value, Agreement(0, 0)) + counts
    return agreements


def total(agreements: Iterable[Agreement]) -> Agreement:
    """The counts over all of them."""
    return functools.reduce(operator.add, agreements, Agreement(0, 0))


def contradiction(source: str, check: ColumnCheck, agreement: Agreement) -> str | None:
    """A sentence, if more texts than the limit contradict the column."""
    informative, contradicting = agreement.informative, agreement.contradicting
    if not agreement.exceeds(check.limit):
        return None
    return (
        f"{source}: the column of the {check.column} contradicts the texts: {contradicting} of {informative} "
        f"{check.informative} disagree with it ({contradicting / informative:.0%}; up to {check.limit:.0%} is allowed)"
    )


def doubtful(source: str, check: ColumnCheck, agreements: Mapping[Any, Agreement]) -> str | None:
    """A sentence about single values that the texts contradict, where the column as a whole is not contradicted."""
    values = {value: each for value, each in agreements.items() if each.exceeds(check.limit)}
    if not values or total(agreements.values()).exceeds(check.limit):
        return None
    listed = ", ".join(
        f"{check.name(value)} ({each.contradicting} of {each.informative})" for value, each in values.items()
    )
    return (
        f"{source}: for single values of the column of the {check.column}, most {check.informative} disagree: {listed}. "
        "Check that these values are not interchanged."
    )


def require(source: str, check: ColumnCheck, agreement: Agreement) -> None:
    """Raises UserError for a column that the texts contradict."""
    if sentence := contradiction(source, check, agreement):
        raise UserError(f"{sentence}. {check.remedy}")
