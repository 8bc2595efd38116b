"""Means over ordered pairs: the interval covers although pairs share units, and one that takes them as independent does not."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.stats.dyads import dyadic


def test_mean_and_jackknife_by_hand():
    values = np.arange(16.0).reshape(4, 4) ** 1.5
    pairs = {(i, j): values[i, j] for i in range(4) for j in range(4) if i != j}
    left = [np.mean([value for pair, value in pairs.items() if unit not in pair]) for unit in range(4)]
    found = dyadic(values)
    assert found.mean == pytest.approx(np.mean(list(pairs.values())))
    assert found.error == pytest.approx(math.sqrt(3 / 4 * sum((one - np.mean(left)) ** 2 for one in left)))
    reach = stats.t.ppf(0.975, 3) * found.error
    assert (found.low, found.high) == pytest.approx((found.mean - reach, found.mean + reach))
    assert (found.pairs, found.units) == (12, 4)


def test_two_units_and_no_variation_give_no_interval():
    assert math.isnan(dyadic(np.array([[0.0, 1.0], [2.0, 0.0]])).low)
    assert dyadic(np.array([[0.0, 1.0], [2.0, 0.0]])).mean == 1.5
    assert math.isnan(dyadic(np.full((5, 5), 0.2)).p)


def test_missing_pairs_do_not_count():
    values = np.arange(25.0).reshape(5, 5)
    values[1, 2] = math.nan
    assert dyadic(values).pairs == 19
    assert dyadic(values).mean == pytest.approx(np.nanmean(values[~np.eye(5, dtype=bool)]))


@pytest.mark.parametrize("units", [5, 20])
def test_the_interval_covers_where_pairs_share_units(units):
    """Effects of the unit that gives y and of the one that gives x, and noise of the pair: t over pairs covers a half."""
    draw, off, covered, naive, times = np.random.default_rng(1), ~np.eye(units, dtype=bool), 0, 0, 2000
    for _ in range(times):
        y, x = draw.normal(0, 1, units), draw.normal(0, 1, units)
        values = y[:, None] + x[None, :] + draw.normal(0, 1, (units, units))
        found = dyadic(values)
        covered += found.low <= 0 <= found.high
        naive += abs(stats.ttest_1samp(values[off], 0).statistic) < stats.t.ppf(0.975, off.sum() - 1)
    assert 0.93 <= covered / times <= 0.98
    assert naive / times < 0.75
