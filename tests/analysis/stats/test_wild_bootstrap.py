"""The wild cluster bootstrap: the fast form against refitting every sample, its interval against its test."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from analysis.stats.regression import fit, panel, without_effects
from analysis.stats.wild_bootstrap import FEW, crv3, signs, wild

CONTRAST = np.array([1.0, -1.0])
VARIANTS = [(False, False), (True, False), (False, True), (True, True)]


def made(within, groups=14, number=0, slope=0.3):
    draw, trials = np.random.default_rng(number), 6 if within else 1
    x = draw.normal(size=(groups, trials, 2))
    return x, draw.normal(size=(groups, trials)) + slope * x[..., 0]


def left_out_residual(x, y, null, within, group):
    """Residual of the group in y - null x = a (x + z), the model under b_x - b_z = null, fitted without the group."""
    others = np.arange(len(y)) != group
    left, right = y - null * x[..., 0], x.sum(axis=-1)
    free = without_effects(right[others], within)
    a = (free * left[others]).sum() / (free**2).sum()
    own = left[group] - left[others].mean(axis=0) - a * (right[group] - right[others].mean(axis=0))
    return own - own.mean() if within else own


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(("jackknifed", "robust"), VARIANTS)
def test_the_fast_form_equals_fitting_every_sample(within, jackknifed, robust):
    x, y = made(within)
    found, weights = fit(panel(y, x, ("x", "z"), within)), signs(14, 60, 3)
    fast = wild(found, CONTRAST, 60, 3, jackknifed, robust)
    distance = 0.13
    null, bread = fast.estimate - distance, np.linalg.inv(np.einsum("gtp,gtq->pq", found.panel.x, found.panel.x))
    restricted = found.coefficients - bread @ CONTRAST * distance / (CONTRAST @ bread @ CONTRAST)
    residual = found.panel.y - found.panel.x @ restricted
    if jackknifed:
        residual = np.stack([left_out_residual(x, y, null, within, group) for group in range(14)])
    slow = []
    for sample in weights.T:
        again = fit(panel(found.panel.x @ restricted + sample[:, None] * residual, x, ("x", "z"), within))
        error = crv3(again, CONTRAST) if robust else math.sqrt(CONTRAST @ again.covariance @ CONTRAST)
        slow.append((CONTRAST @ again.coefficients - null) / error)
    assert fast.ratios(distance) == pytest.approx(np.array(slow), abs=1e-9)


@pytest.mark.parametrize("level", [0.90, 0.95])
def test_the_interval_contains_the_nulls_that_the_test_does_not_reject(level):
    x, y = made(True)
    own = wild(fit(panel(y, x, ("x", "z"), True)), CONTRAST, 999)
    low, high = own.interval(level)
    assert low < own.estimate < high
    step = 0.01 * (high - low)
    for inside, outside in ((low + step, low - step), (high - step, high + step)):
        assert own.p(inside) > 1 - level
        assert own.p(outside) <= 1 - level


def test_a_null_of_the_estimate_itself_is_never_rejected_and_one_far_away_always():
    x, y = made(False)
    own = wild(fit(panel(y, x, ("x", "z"), False)), CONTRAST, 999)
    assert own.p(own.estimate) == 1.0
    assert own.p(own.estimate + 50) == 1 / 1000


def test_false_positives_have_the_stated_rate_and_a_wrong_null_is_rejected():
    """About 5 % of 300 tables without a slope, with errors that grow with |x|, are rejected."""
    p, wrong = [], []
    for number in range(300):
        x, y = made(False, groups=28, number=number, slope=0.0)
        own = wild(fit(panel(y * (0.3 + np.abs(x[..., 0])), x, ("x", "z"), False)), np.array([1.0, 0.0]), 199)
        p.append(own.p(0.0) < 0.05)
        wrong.append(own.p(1.0) < 0.05)
    assert 0.02 <= np.mean(p) <= 0.09
    assert np.mean(wrong) > 0.5


@settings(max_examples=25, deadline=None)
@given(factor=some.floats(0.01, 100), shift=some.floats(-1000, 1000), number=some.integers(0, 10_000))
def test_units_and_constants_change_nothing(factor, shift, number):
    x, y = made(True, number=number)
    contrast = np.array([1.0, 0.0])
    own = wild(fit(panel(y, x, ("x", "z"), True)), contrast, 99)
    scaled = wild(fit(panel(y + shift, x * [factor, 1.0] + shift, ("x", "z"), True)), contrast, 99)
    assert scaled.estimate * factor == pytest.approx(own.estimate, rel=1e-5, abs=1e-7)
    assert scaled.p() == pytest.approx(own.p(), abs=0.011)  # a sample may lie on the edge
    low, high = own.interval()
    assert [end * factor for end in scaled.interval()] == pytest.approx([low, high], abs=0.05 * (high - low))


def test_weights_are_rademacher_or_webb_and_the_same_each_time():
    assert set(np.unique(signs(28, 500))) == {-1.0, 1.0}
    few = signs(FEW - 1, 1000)
    assert len(np.unique(few)) == 6
    assert few.mean() == pytest.approx(0, abs=0.03)
    assert few.var() == pytest.approx(1, abs=0.03)
    assert np.array_equal(signs.__wrapped__(28, 500), signs(28, 500))
    assert signs(6, 100).shape == (6, 64)  # all of them
