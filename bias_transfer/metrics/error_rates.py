"""Error rates of groups at a threshold, their log ratios and what sums them up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from bias_transfer.spec import Measure

LEAST_FOR_LOGS = 100
"""Logs of smoothed rates are given for so many examples or more (SCIENCE.md, "Downstream bias")."""

LEAST_IN_FAMILY = 16
"""Families of fewer phrases do not enter the equally weighted mean over families (SCIENCE.md, "Downstream bias")."""

Rows: TypeAlias = np.ndarray
"""(members,), int: where a group's examples stand. One example may belong to several groups."""

Key: TypeAlias = tuple[str, str]
"""Group and template, as in a Measure."""


Value = TypeVar("Value")


def by_group(found: Mapping[Key, Value]) -> dict[str, Value]:
    """Group -> what is pooled over templates."""
    return {group: own for (group, template), own in found.items() if group and not template}


def log_rate(count: int, n: int) -> float:
    """ln[(k + 1/2)/(n + 1/2)], nearly unbiased for high rates; NaN for n under `LEAST_FOR_LOGS`."""
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
        """`log_rate` of the errors."""
        return log_rate(self.errors, self.n)


def tallies(
    margins: np.ndarray, labels: np.ndarray, rows: Mapping[Key, Rows], threshold: float, label: int
) -> dict[Key, Tally]:
    """False positives among each group's negatives (label 0) or false negatives among its positives (label 1).

    margins, labels: (examples,). A margin above the threshold is a call of 1. At a threshold of NaN every n is 0.
    """
    wrong = (margins > threshold) != (labels == 1)
    chosen = (labels == label) & (not math.isnan(threshold))
    return {key: Tally(int(wrong[own][chosen[own]].sum()), int(chosen[own].sum())) for key, own in rows.items()}


def rates(metric: str, found: Mapping[Key, Tally]) -> list[Measure]:
    """Each group's rate in [0, 1] with its n."""
    return [_measure(metric, key, tally.rate, tally.n) for key, tally in found.items()]


def family_means(metric: str, found: Mapping[Key, Tally]) -> list[Measure]:
    """Mean over a group's templates with n of `LEAST_IN_FAMILY` or more, each of equal weight; n is the sum of theirs.

    found: by group and template; what is pooled over templates, or about no group, is passed over. A group without such a
    template is missing: NaN with n = 0.
    """
    measures = []
    for group in dict.fromkeys(group for group, _ in found if group):
        families = [tally for (own, template), tally in found.items() if own == group and template]
        large = [tally for tally in families if tally.n >= LEAST_IN_FAMILY]
        value = float(np.mean([tally.rate for tally in large])) if large else math.nan
        measures.append(_measure(metric, (group, ""), value, sum(tally.n for tally in large)))
    return measures


def log_ratios(metric: str, found: Mapping[str, Tally], base: Mapping[str, Tally]) -> list[Measure]:
    """ln rate(group) - ln rate(base of the group), both smoothed; n is the group's.

    Missing, NaN with n = 0, where the group or its base has fewer than `LEAST_FOR_LOGS` examples. Where both have no error
    at all it is ln of (n of the base + 1/2)/(n + 1/2), far from 0: compare groups there, and read the logit gap.
    """
    pairs = {group: (own.log_rate - base[group].log_rate, own.n) for group, own in found.items()}
    return [_measure(metric, (group, ""), value, n) for group, (value, n) in pairs.items()]


def others(found: Mapping[str, Tally]) -> dict[str, Tally]:
    """For each group, all other groups pooled. Groups must share no example.

    Against them, a rise that all groups share cancels out: read it beside the rate and the logit gap.
    """
    errors, n = sum(own.errors for own in found.values()), sum(own.n for own in found.values())
    return {group: Tally(errors - own.errors, n - own.n) for group, own in found.items()}


def equality_difference(metric: str, found: Mapping[str, Tally], overall: Tally) -> Measure:
    """FPED or FNED (Dixon et al. 2018): the sum over groups of |overall rate - rate of the group|, in [0, groups].

    It is 0 exactly if every group has the overall rate, and says nothing of direction. n is the overall one's. A group without
    examples makes it missing: a sum over fewer groups would look like less bias.
    """
    value = math.fsum(abs(overall.rate - own.rate) for own in found.values()) if found else math.nan
    return _measure(metric, ("", ""), value, overall.n)


def _measure(metric: str, key: Key, value: float, n: int) -> Measure:
    return Measure("downstream", metric, *key, value, 0 if math.isnan(value) else n)
