"""Corrections for many tests, missing p left out, and what a number of seeds can see."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import TTestPower

POWER, LEVEL = 0.8, 0.05
MOST_SEEDS = 100_000


def holm(p: pd.Series) -> pd.Series:
    """Adjusted p: the chance of any false positive among all stays at the level (Holm 1979)."""
    ranked = p.dropna().sort_values()
    stepped = np.maximum.accumulate(ranked.to_numpy(float) * np.arange(len(ranked), 0, -1))
    return pd.Series(np.minimum(stepped, 1.0), index=ranked.index, dtype=float).reindex(p.index)


def benjamini_hochberg(p: pd.Series) -> pd.Series:
    """q: the expected share of false positives among those found stays at the level (Benjamini and Hochberg 1995)."""
    known = p.dropna()
    adjusted = stats.false_discovery_control(known.to_numpy(float)) if len(known) else []
    return pd.Series(adjusted, index=known.index, dtype=float).reindex(p.index)


def detectable(seeds: int) -> float:
    """Mean paired difference that a two-sided t test at 5 % finds with 80 % power, in SD of the paired differences."""
    if seeds < 2:
        return math.inf
    return float(np.ravel(TTestPower().solve_power(nobs=seeds, alpha=LEVEL, power=POWER))[0])


def seeds_needed(effect: float, spread: float) -> float:
    """Fewest paired seeds that see `effect` at 80 % power, where paired differences have SD `spread`. inf for an effect of 0
    or one that takes more than 100,000; NaN where the spread is unknown."""
    if math.isnan(spread) or math.isnan(effect):
        return math.nan
    if effect == 0 or abs(effect) < spread * detectable(MOST_SEEDS):
        return math.inf
    few, many = 1, MOST_SEEDS
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if spread * detectable(middle) > abs(effect) else (few, middle)
    return float(many)
