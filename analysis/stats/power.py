"""Statistical power of a paired t test over seeds, by statsmodels."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from statsmodels.stats.power import TTestPower

POWER, LEVEL = 0.8, 0.05
MOST_SEEDS = 100_000
"""Effects that take more seeds than this are reported as out of reach (inf)."""


def detectable(seeds: int) -> float:
    """The mean paired difference that a two-sided t test at 5 % finds with 80 % power, in SD of the paired differences.

    inf for fewer than two seeds.
    """
    if seeds < 2:
        return math.inf
    # the power is symmetric in the effect, and statsmodels' root finder may return the negative root (it does for 73 seeds)
    return abs(float(np.ravel(TTestPower().solve_power(nobs=seeds, alpha=LEVEL, power=POWER))[0]))


def seeds_needed(effect: float, spread: float) -> float:
    """The fewest paired seeds that find `effect` at 80 % power, where paired differences have SD `spread`.

    inf for an effect of 0, or one that takes more than `MOST_SEEDS`; NaN where effect or spread is unknown, and for a spread
    of 0, which says that the differences are identical and not that two seeds are enough.
    """
    if math.isnan(spread) or math.isnan(effect) or spread == 0:
        return math.nan
    if effect == 0:
        return math.inf
    # a search by `detectable`: statsmodels' own search for the number of seeds does not converge on small numbers
    seeds = bisect_left(range(MOST_SEEDS + 1), -abs(effect), lo=2, key=lambda seeds: -spread * detectable(seeds))
    return math.inf if seeds > MOST_SEEDS else float(seeds)
