"""Error rates per group at a threshold, their log ratios, and their summaries over groups."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from bias_transfer.spec import Measure

LEAST_FOR_LOGS = 100
"""Logs of smoothed rates need at least this many examples (docs/science.md, "Downstream bias")."""

LEAST_IN_FAMILY = 16
"""A family needs at least this many phrases to enter the equally weighted mean over families (docs/science.md, "Downstream
bias")."""

Rows: TypeAlias = np.ndarray
"""(members,), int: the rows of a group's examples. One example may belong to several groups."""

Key: TypeAlias = tuple[str, str]
"""Group and template, as in a Measure."""

Value = TypeVar("Value")


def pooled_by_group(values: Mapping[Key, Value]) -> dict[str, Value]:
    """Group -> its value that is pooled over templates."""
    return {group: value for (group, template), value in values.items() if group and not template}


def log_rate(count: int, n: int) -> float:
    """ln[(k + 1/2)/(n + 1/2)] for k = `count`, nearly unbiased for high rates; NaN for n below `LEAST_FOR_LOGS`."""
    return math.log((count + 0.5) / (n + 0.5)) if n >= LEAST_FOR_LOGS else math.nan


@dataclass(frozen=True, slots=True)
class Tally:
    """Errors among n examples of one label."""

    errors: int
    n: int

    @property
    def rate(self) -> float:
        """In [0, 1]; NaN for n = 0."""
        return self.errors / self.n if self.n else math.nan

    @property
    def log_rate(self) -> float:
        """`log_rate` of the number of errors."""
        return log_rate(self.errors, self.n)


def tallies(
    margins: np.ndarray, labels: np.ndarray, rows: Mapping[Key, Rows], threshold: float, label: int
) -> dict[Key, Tally]:
    """False positives among each group's negatives (label 0) or false negatives among its positives (label 1).

    margins, labels: (examples,). A margin above the threshold is a prediction of 1. At a threshold of NaN every n is 0.
    """
    wrong = (margins > threshold) != (labels == 1)
    counted = (labels == label) & (not math.isnan(threshold))
    return {
        key: Tally(int(wrong[members][counted[members]].sum()), int(counted[members].sum()))
        for key, members in rows.items()
    }


def rates(metric: str, counts: Mapping[Key, Tally]) -> list[Measure]:
    """Each group's error rate, in [0, 1], with its n."""
    return [_measure(metric, key, tally.rate, tally.n) for key, tally in counts.items()]


def family_means(metric: str, counts: Mapping[Key, Tally]) -> list[Measure]:
    """Equally weighted mean over a group's templates with n of `LEAST_IN_FAMILY` or more; n is the sum of their n.

    counts: by group and template; entries that are pooled over templates, or about no group, are ignored. A group without
    such a template is missing: NaN with n = 0.
    """
    measures = []
    for group in dict.fromkeys(group for group, _ in counts if group):
        families = [tally for (name, template), tally in counts.items() if name == group and template]
        large = [tally for tally in families if tally.n >= LEAST_IN_FAMILY]
        value = float(np.mean([tally.rate for tally in large])) if large else math.nan
        measures.append(_measure(metric, (group, ""), value, sum(tally.n for tally in large)))
    return measures


def log_ratios(metric: str, counts: Mapping[str, Tally], base: Mapping[str, Tally]) -> list[Measure]:
    """ln rate(group) - ln rate(base of the group), both smoothed; n is the group's.

    base: by group. NaN with n = 0 where the group or its base has fewer than `LEAST_FOR_LOGS` examples. Where neither has an
    error, the value is ln of (n of the base + 1/2)/(n + 1/2), which is far from 0: compare groups with each other there, and
    read the logit gap.
    """
    return [
        _measure(metric, (group, ""), tally.log_rate - base[group].log_rate, tally.n) for group, tally in counts.items()
    ]


def others(counts: Mapping[str, Tally]) -> dict[str, Tally]:
    """For each group, all other groups pooled. The groups must not share examples.

    In a ratio to them, a rise that all groups share cancels out: read it next to the rate and the logit gap.
    """
    errors, n = sum(tally.errors for tally in counts.values()), sum(tally.n for tally in counts.values())
    return {group: Tally(errors - tally.errors, n - tally.n) for group, tally in counts.items()}


def equality_difference(metric: str, counts: Mapping[str, Tally], overall: Tally) -> Measure:
    """FPED or FNED (Dixon et al. 2018): the sum over groups of |overall rate - rate of the group|, in [0, groups].

    It is 0 if and only if every group has the overall rate, and says nothing about the direction. n: the overall one. A group
    without examples makes it NaN: a sum over fewer groups would look like less bias.
    """
    value = math.fsum(abs(overall.rate - tally.rate) for tally in counts.values()) if counts else math.nan
    return _measure(metric, ("", ""), value, overall.n)


def _measure(metric: str, key: Key, value: float, n: int) -> Measure:
    return Measure("downstream", metric, *key, value, 0 if math.isnan(value) else n)
