"""Columns held against the texts themselves: codes that are numbered the other way are found before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Agreement:
    """Counts over texts."""

    informative: int
    contradicting: int

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.informative + other.informative, self.contradicting + other.contradicting)


def compare(check: ColumnCheck, texts: Sequence[str], values: Sequence[Any]) -> Agreement:
    """How up to about `CHECKED` of the texts agree with the column's values."""
    step = -(-len(texts) // CHECKED)
    answers = [check.agrees(text, value) for text, value in zip(texts[::step], values[::step], strict=True)]
    return Agreement(len(answers) - answers.count(None), answers.count(False))


def contradiction(source: str, check: ColumnCheck, agreement: Agreement) -> str | None:
    """A sentence, if more texts than the limit contradict the column and at least `LEAST` are informative."""
    informative, contradicting = agreement.informative, agreement.contradicting
    if informative < LEAST or contradicting <= check.limit * informative:
        return None
    return (
        f"{source}: the column of the {check.column} contradicts the texts: {contradicting} of {informative} "
        f"{check.informative} disagree with it ({contradicting / informative:.0%}; up to {check.limit:.0%} is allowed)"
    )


def require(source: str, check: ColumnCheck, agreement: Agreement) -> None:
    """Raises UserError for a column that the texts contradict."""
    if sentence := contradiction(source, check, agreement):
        raise UserError(f"{sentence}. {check.remedy}")
