"""Partial pooling: nothing is left of pure noise, nothing is lost of certain differences, and it errs less in between."""

import numpy as np
import pandas as pd
import pytest

from analysis.data.runs import REPEATS
from analysis.estimands.pooling import pooled


def changes(own, noise, seeds=5, shock=0.0, seed=0):
    draw = np.random.default_rng(seed)
    y = own[:, None] + shock * draw.normal(size=seeds)[None, :] + noise * draw.normal(size=(len(own), seeds))
    columns = pd.MultiIndex.from_tuples([(0, -1, number) for number in range(seeds)], names=REPEATS)
    return pd.DataFrame(y, [f"group {number}" for number in range(len(own))], columns)


def test_groups_that_do_not_differ_are_drawn_to_the_mean():
    weights = [pooled(changes(np.zeros(50), 1.0, seed=seed))["weight"].iloc[0] for seed in range(200)]
    assert np.mean(weights) < 0.12
    assert np.mean(np.array(weights) == 0) > 0.4


def test_groups_that_differ_for_certain_are_left_as_they_are():
    own = np.linspace(-2, 2, 50)
    result = pooled(changes(own, 0.01))
    assert result["weight"].iloc[0] > 0.999
    assert result["coefficient"].to_numpy() == pytest.approx(own, abs=0.02)


def test_a_shock_that_all_groups_share_widens_intervals_and_is_no_difference_of_groups():
    quiet, shaken = (pooled(changes(np.linspace(-1, 1, 50), 0.3, shock=shock)) for shock in (0.0, 2.0))
    assert shaken["weight"].iloc[0] == pytest.approx(quiet["weight"].iloc[0], abs=1e-9)
    assert (shaken["high"] - shaken["low"]).iloc[0] > 3 * (quiet["high"] - quiet["low"]).iloc[0]


def test_it_errs_less_than_the_means_and_its_intervals_cover():
    own = np.random.default_rng(1).normal(0, 0.3, 50)
    errors, covered = [], []
    for seed in range(200):
        made = changes(own, 0.8, shock=0.3, seed=seed)
        result = pooled(made)
        errors.append((((result["coefficient"] - own) ** 2).mean(), ((made.mean(axis=1) - own) ** 2).mean()))
        covered.append(((result["low"] <= own) & (own <= result["high"])).mean())
    assert np.mean([first for first, _ in errors]) < 0.8 * np.mean([second for _, second in errors])
    assert 0.93 < np.mean(covered) < 0.99


def test_one_seed_pools_nothing():
    assert pooled(changes(np.arange(5.0), 1.0, seeds=1)).isna().all(axis=None)
