"""Power of the paired t test: what a number of seeds detects, and the number that an effect needs."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower, tt_solve_power

from analysis.stats.power import LEVEL, MOST_SEEDS, POWER, detectable, seeds_needed


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 28, 73, 100, 1000])
def test_detectable_effects_have_the_stated_power_and_shrink_with_more_seeds(seeds):
    assert TTestPower().power(detectable(seeds), seeds, LEVEL) == pytest.approx(POWER, abs=1e-4)
    assert detectable(seeds) > detectable(seeds + 1) > 0


@pytest.mark.parametrize("effect", [0.05, 0.1, 0.25, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0])
def test_seeds_needed_are_those_of_statsmodels_rounded_up(effect):
    assert seeds_needed(effect, 1.0) == math.ceil(float(np.ravel(tt_solve_power(effect, alpha=LEVEL, power=POWER))[0]))


@pytest.mark.parametrize(("effect", "spread"), [(1.0, 1.0), (-0.5, 1.0), (0.1, 0.3), (30.0, 1.0), (0.3, 1.0)])
def test_seeds_needed_are_the_fewest_that_find_the_effect(effect, spread):
    seeds = int(seeds_needed(effect, spread))
    assert spread * detectable(seeds) <= abs(effect) < spread * detectable(seeds - 1)


def test_effects_out_of_reach_and_unknown_ones():
    assert seeds_needed(1.0, 1.0) == 10
    assert math.isnan(seeds_needed(1.0, 0.0))  # identical differences are not certain
    assert seeds_needed(0.0, 1.0) == math.inf
    assert seeds_needed(0.9 * detectable(MOST_SEEDS), 1.0) == math.inf
    assert math.isnan(seeds_needed(math.nan, 1.0))
    assert math.isnan(seeds_needed(1.0, math.nan))
    assert detectable(1) == math.inf
