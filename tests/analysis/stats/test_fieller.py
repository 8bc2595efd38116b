"""Fieller's interval: known answers, the t tests that it inverts, its coverage, and that no end of it is infinite."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.stats.fieller import Estimates, Ratio, fieller


def estimates(pairs):
    """Of (units, 2): numerator and denominator of each unit."""
    units = len(pairs)
    (variance, covariance), (_, other) = np.cov(pairs.T) / units
    return Estimates(*pairs.mean(axis=0), variance, other, covariance, stats.t.ppf(0.975, units - 1))


def test_a_denominator_without_error_gives_the_t_interval_divided_by_it():
    found = fieller(Estimates(3.0, 2.0, 0.25, 0.0, 0.0, 2.0))
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.0, 2.0))
    assert found.bounded


def test_the_ends_are_the_ratios_at_which_the_t_test_is_at_its_quantile():
    pairs = np.random.default_rng(0).multivariate_normal((1.0, 0.8), [[0.2, 0.1], [0.1, 0.15]], 8)
    own = fieller(estimates(pairs))
    for end in (own.low, own.high):
        assert stats.ttest_1samp(pairs[:, 0] - end * pairs[:, 1], 0).pvalue == pytest.approx(0.05)
    assert stats.ttest_1samp(pairs[:, 0] - own.value * pairs[:, 1], 0).pvalue == pytest.approx(1)


@pytest.mark.parametrize(
    ("numerator", "denominator", "has"),
    [
        (
            3.0,
            0.1,
            (False, True, False),
        ),  # harm fell; what it cost may be 0: at least so much per unit, if it cost anything
        (3.0, -0.1, (False, True, False)),
        (-3.0, 0.1, (False, False, True)),  # harm rose
        (0.5, 0.1, (False, False, False)),  # neither is known
        (3.0, -2.0, (False, False, False)),  # nothing was lost
        (0.1, 2.0, (True, True, True)),
    ],
)
def test_an_end_that_does_not_exist_is_missing(numerator, denominator, has):
    own = fieller(Estimates(numerator, denominator, 0.1, 0.1, 0.0, 2.0))
    assert tuple(not math.isnan(number) for number in (own.value, own.low, own.high)) == has
    assert not any(math.isinf(number) for number in (own.value, own.low, own.high))


def test_a_ratio_beyond_the_only_end_is_not_rejected_and_one_before_it_is():
    pairs = np.random.default_rng(1).normal((3.0, 0.05), (0.4, 0.3), (10, 2))
    (end,) = (end for end in (fieller(estimates(pairs)).low,) if end > 0)
    p = [stats.ttest_1samp(pairs[:, 0] - ratio * pairs[:, 1], 0).pvalue for ratio in (0.9 * end, end, 1.1 * end, 1e6)]
    assert p[0] < 0.05 < min(p[2:])
    assert p[1] == pytest.approx(0.05)


def holds(own: Ratio, truth: float) -> bool:
    """Whether the truth, a ratio with a denominator above 0, is among those that are not rejected."""
    return not (truth < own.low or truth > own.high)


@pytest.mark.parametrize("units", [4, 10])
@pytest.mark.parametrize("denominator", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("correlation", [-0.6, 0.8])
def test_the_interval_covers_the_ratio(units, denominator, correlation):
    """95 % of 600 draws is known to within 1.8 points; where the denominator is below 0 for certain no end can be wrong."""
    draw = np.random.default_rng(2)
    covariance = [[1, correlation], [correlation, 1]]
    numerator = 1.5
    truth = numerator / denominator if denominator else math.inf
    samples = draw.multivariate_normal((numerator, denominator), covariance, (600, units))
    covered = np.mean([holds(fieller(estimates(sample)), truth) for sample in samples])
    assert 0.93 <= covered <= 0.995 if denominator < 3 else 0.93 <= covered <= 0.97
