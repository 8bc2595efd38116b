"""Permutation tests: exact where all permutations are tried, and equal to refitting."""

import itertools
import math

import numpy as np
import pytest

from analysis.stats import regression
from analysis.stats.permutation import freedman_lane, orders, sign_flip


@pytest.fixture
def few(monkeypatch):
    """Permit regressions on few groups, so that all their permutations can be enumerated."""
    monkeypatch.setattr(regression, "LEAST_GROUPS", 4)


def test_with_one_regressor_the_test_is_exact(few):
    draw = np.random.default_rng(0)
    x, y = draw.gamma(1, 1, (6, 1, 1)), draw.normal(size=(6, 1))
    mine = freedman_lane(regression.fit(regression.panel(y, x, ("x",), False)), np.array([1.0]))
    ratios = []
    for order in itertools.permutations(range(6)):
        found = regression.fit(regression.panel(y[list(order)], x, ("x",), False))
        ratios.append(abs(found.coefficients[0]) / math.sqrt(found.covariance[0, 0]))
    assert mine == pytest.approx(np.mean(np.array(ratios) >= ratios[0] * (1 - 1e-9)), abs=1e-12)


def test_rejections_over_all_orders_of_five_groups_keep_the_level(few):
    """Exactness: over all orders of y, p is uniform on its grid."""
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(5, 1, 1)), draw.normal(size=(5, 1))
    p = [
        freedman_lane(regression.fit(regression.panel(y[list(order)], x, ("x",), False)), np.array([1.0]))
        for order in itertools.permutations(range(5))
    ]
    for level in (0.05, 0.1, 0.25, 0.5):
        assert np.mean(np.array(p) <= level + 1e-9) <= level + 1e-9


def test_permuting_blocks_equals_refitting(few):
    draw = np.random.default_rng(2)
    x, y = draw.normal(size=(5, 4, 2)), draw.normal(size=(5, 4))
    found = regression.fit(regression.panel(y, x, ("x", "z"), True))
    own = found.panel
    only_z = np.linalg.lstsq(own.x[..., 1].reshape(-1, 1), own.y.ravel(), rcond=None)[0][0]
    restricted = own.y - only_z * own.x[..., 1]
    ratios = []
    for order in itertools.permutations(range(5)):
        again = regression.fit(regression.panel(only_z * own.x[..., 1] + restricted[list(order)], x, ("x", "z"), True))
        ratios.append(abs(again.coefficients[0]) / math.sqrt(again.covariance[0, 0]))
    share = np.mean(np.array(ratios) >= ratios[0] * (1 - 1e-9))
    assert freedman_lane(found, np.array([1.0, 0.0])) == pytest.approx(share, abs=1e-12)


def test_orders_are_random_where_there_are_too_many():
    assert orders(4, 100).shape == (24, 4)
    many = orders(28, 300)
    assert many.shape == (300, 28)
    assert (np.sort(many, axis=1) == np.arange(28)).all()
    assert len(np.unique(many, axis=0)) == 300


def test_a_strong_slope_has_the_smallest_p():
    draw = np.random.default_rng(3)
    x = draw.normal(size=(30, 1, 1))
    found = regression.fit(regression.panel(x[..., 0] + 0.01 * draw.normal(size=(30, 1)), x, ("x",), False))
    assert freedman_lane(found, np.array([1.0]), 199) == 1 / 200


@pytest.mark.parametrize(
    ("differences", "p"), [([1.0, 2.0, 3.0], 2 / 8), ([1.0, -1.0], 1.0), ([3.0, -1.0, 0.5], 6 / 8), ([0.0, 0.0], 1.0)]
)
def test_sign_flips_by_hand(differences, p):
    assert sign_flip(np.array(differences)) == pytest.approx(p)


def test_signs_are_random_where_there_are_too_many():
    assert sign_flip(np.ones(20), draws=999) == 1 / 1000
