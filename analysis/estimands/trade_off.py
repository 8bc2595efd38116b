"""Harm reduced and utility lost between two arms, paired by seed, with the covariance of the two.

Both are of the same trials, so that a seed that is unlucky in both counts as one. Harm is the level of an outcome that has one
(FPR: estimand A), and the size of bias of an outcome whose 0 means no bias (the TPR gap, of which less is not better).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.data.cells import Outcome
from analysis.estimands.arm_effects import counts, matched, why_unpaired
from analysis.estimands.bias_size import jackknife, size_difference, unit_of, with_pairs
from analysis.stats.fieller import Estimates, Ratio, fieller
from analysis.stats.inference import t_quantile
from analysis.stats.paired import NO_INTERVAL, Paired, from_error, nested

Arms = Mapping[str, pd.DataFrame]
"""Arm -> (groups, trials), as `arm_effects.wide`; of a utility there is one group."""

Combination = Callable[[float, float], Paired]
"""(a, b) -> the mean of a x harm reduced + b x utility lost, with its error."""

NO_UTILITY = "the utility was not measured in the same seeds"
EXACT = 1e-9
"""A share of the two errors below which the error of their sum or difference is rounding noise."""


@dataclass(frozen=True)
class TradeOff:
    """How much less harm one arm does than another, and how much utility it loses to it."""

    harm: Paired
    """The harm reduced: that of the other arm minus that of this one."""
    utility: Paired
    """The utility lost: that of the other arm minus that of this one."""
    correlation: float = math.nan
    """Of the two estimates."""
    counts: Mapping[str, int] = field(default_factory=lambda: counts(pd.Index([])))
    n_groups: int = 0
    reason: str = ""
    """Why an interval is missing."""

    @property
    def known(self) -> bool:
        """Whether both have an interval."""
        return not (math.isnan(self.harm.error) or math.isnan(self.utility.error))

    @property
    def dominates(self) -> bool:
        """Whether, by the estimates, this arm does less harm at no more cost than the other, or as much at less."""
        reduced, lost = self.harm.mean, self.utility.mean
        return reduced >= 0 >= lost and (reduced > 0 or lost < 0)

    @property
    def ratio(self) -> Ratio:
        """Harm reduced per unit of utility lost."""
        return fieller(self._estimates) if self.known else Ratio()

    @property
    def _estimates(self) -> Estimates:
        covariance = self.correlation * self.harm.error * self.utility.error
        squares = self.harm.error**2, self.utility.error**2
        return Estimates(self.harm.mean, self.utility.mean, *squares, covariance, max(map(quantile, self.both)))

    @property
    def both(self) -> tuple[Paired, Paired]:
        """Harm reduced and utility lost."""
        return self.harm, self.utility


def quantile(test: Paired) -> float:
    """The quantile of t that the 95 % interval took."""
    return (test.high - test.mean) / test.error


def joint_interval(test: Paired) -> tuple[float, float]:
    """An interval of 97.5 %: two of them hold together in at least 95 % of samples (Bonferroni)."""
    reach = test.error * t_quantile(0.9875, max(test.units - 1, 1)) if test.units > 1 else math.nan
    return test.mean - reach, test.mean + reach


def trade_off(harm: Arms, utility: Arms, arm: str, base: str, outcome: Outcome) -> TradeOff:
    """The trade-off of `arm` against `base`. harm: of the outcome's y; utility: of one metric."""
    y, scores = _paired(harm, arm, base), _paired(utility, arm, base)
    trials = y[0].columns.intersection(scores[0].columns) if len(scores[0]) else pd.Index([])
    if y[0].empty or not len(trials):
        reason = why_unpaired(harm.get(arm), harm.get(base)) if y[0].empty else NO_UTILITY
        return TradeOff(Paired(math.nan), Paired(math.nan), reason=reason)
    treated, other = (frame[trials] for frame in y)
    lost = (scores[1] - scores[0]).iloc[0][trials]
    if outcome.zero:
        return _of_sizes(treated, other, lost)
    reduced = (treated - other if outcome.benefit else other - treated).mean()
    return _joint(lambda a, b: nested(a * reduced + b * lost), trials, len(treated))


def _paired(arms: Arms, arm: str, base: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both arms' values in the trials that they share; either may be the one that has draws."""
    first = matched(arms.get(arm), arms.get(base))
    if not first[0].empty:
        return first
    other = matched(arms.get(base), arms.get(arm))
    return other[1], other[0]


def _of_sizes(treated: pd.DataFrame, other: pd.DataFrame, lost: pd.Series) -> TradeOff:
    """The same where harm is a size of bias, by the jackknife; only models with two seeds or more have one."""
    used = with_pairs(treated)
    trials = used.columns
    if used.empty:
        empty = Paired(math.nan)
        return TradeOff(empty, nested(lost), counts=counts(lost.index), n_groups=len(treated), reason=NO_INTERVAL)
    size = size_difference(used, other[trials], centred=False)
    cost = lost[trials]

    def statistic(a: float, b: float, kept: np.ndarray) -> float:
        return -a * size(kept) + b * float(cost[kept].groupby(level="replicate").mean().mean())

    def combination(a: float, b: float) -> Paired:
        value, spread = (
            statistic(a, b, np.ones(len(trials), bool)),
            jackknife(lambda kept: statistic(a, b, kept), trials),
        )
        if math.isnan(spread.error):
            return Paired(value, units=spread.units, reason=spread.reason)
        return from_error(value, spread.error, max(spread.units - 1, 1), spread.units, spread.method)

    return _joint(combination, trials, len(used))


def _joint(combination: Combination, trials: pd.Index, groups: int) -> TradeOff:
    harm, utility = combination(1.0, 0.0), combination(0.0, 1.0)
    reason = "; ".join(f"{name}: {test.reason}" for name, test in (("harm", harm), ("utility", utility)) if test.reason)
    off = TradeOff(harm, utility, math.nan, counts(trials), groups, reason)
    return off if not off.known else TradeOff(harm, utility, _correlation(combination, off), off.counts, groups)


def _correlation(combination: Combination, off: TradeOff) -> float:
    """Of the two estimates, from the errors of their sum and difference (each in units of its own error)."""
    a, b = 1 / off.harm.error, 1 / off.utility.error
    plus, minus = (combination(a, sign * b).error for sign in (1, -1))
    squares = [0.0 if math.isnan(error) or error < EXACT else error**2 for error in (plus, minus)]
    return min(1.0, max(-1.0, (squares[0] - squares[1]) / 4))


def unit(outcome: Outcome) -> str:
    """The unit of harm."""
    return unit_of(outcome) if outcome.zero else outcome.unit
