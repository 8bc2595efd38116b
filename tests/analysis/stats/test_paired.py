"""Paired differences: nested seeds, crossed draws and identical differences, against scipy, statsmodels and by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.data.runs import NO_DRAW, REPEATS
from analysis.stats import paired


def differences(values, models=(0,), draws=(NO_DRAW,)):
    """values: in the order of models, draws and seeds; seeds of different models differ."""
    seeds = len(values) // (len(models) * len(draws))
    trials = [(m, d, 100 * m + s) for m in models for d in draws for s in range(seeds)]
    return pd.Series(np.asarray(values, float), pd.MultiIndex.from_tuples(trials, names=REPEATS))


def test_several_models_are_scipys_t_test_of_their_means():
    values = np.random.default_rng(0).normal(0.3, 1, 15)
    nested = differences(values, models=range(3))
    found = paired.nested(nested)
    oracle = stats.ttest_1samp(values.reshape(3, 5).mean(axis=1), 0)
    assert (found.p, found.units, found.method) == (pytest.approx(oracle.pvalue), 3, paired.OVER_MODELS)
    assert [found.low, found.high] == pytest.approx(list(oracle.confidence_interval()))
    assert paired.permuted(nested) >= 2 / 2**3  # whole models are flipped
    fewer = nested.drop(nested.index[[0, 1]])  # a model with fewer seeds weighs no less
    assert paired.nested(fewer).mean == pytest.approx(
        np.mean([values[2:5].mean(), *values[5:].reshape(2, 5).mean(axis=1)])
    )


def test_one_model_is_scipys_t_test_over_its_seeds():
    values = np.random.default_rng(0).normal(0.3, 1, 6)
    found = paired.nested(differences(values))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert (found.units, found.method) == (6, paired.OVER_SEEDS)


def test_crossed_draws_and_seeds_by_two_way_analysis_of_variance():
    y = np.random.default_rng(1).normal(0.3, 1, (4, 5)) + np.random.default_rng(2).normal(0, 2, 5)
    found = paired.nested(differences(y.ravel(), draws=range(4)))
    of_draws, of_seeds = 5 * y.mean(axis=1).var(ddof=1), 4 * y.mean(axis=0).var(ddof=1)
    rest = (19 * y.var(ddof=1) - 3 * of_draws - 4 * of_seeds) / 12
    variance = max(of_draws + of_seeds - rest, of_draws, of_seeds) / 20
    assert found.error == pytest.approx(math.sqrt(variance))
    assert (found.mean, found.units, found.method) == (pytest.approx(y.mean()), 4, paired.CROSSED)
    assert math.isnan(paired.permuted(differences(y.ravel(), draws=range(4))))
    two = paired.nested(differences(y[:2].ravel(), draws=range(2)))
    assert (two.reason, math.isnan(two.low)) == (paired.FEW_CROSSED, True)


def test_draws_with_seeds_of_their_own_are_independent():
    own = differences([0.1, 0.3, 0.2])
    own.index = pd.MultiIndex.from_tuples([(0, number, number) for number in range(3)], names=REPEATS)
    assert paired.nested(own).p == pytest.approx(stats.ttest_1samp([0.1, 0.3, 0.2], 0).pvalue)


@pytest.mark.parametrize("values", [[0.1, 0.1], [0.8 - 0.7, 0.1], [0.0] * 5, [0.1] * 6])
def test_identical_differences_are_not_certain(values):
    found = paired.nested(differences(values))
    assert all(map(math.isnan, (found.p, found.low, found.high, found.low_90, found.high_90, found.error)))
    assert (found.mean, found.reason) == (pytest.approx(np.mean(values)), paired.IDENTICAL)
    assert math.isnan(paired.permuted(differences(values)))
    models = paired.nested(differences([0.1, 0.3, 0.2, 0.2], models=range(2)))  # two models of the same mean
    assert models.reason == paired.IDENTICAL


def simulated_coverage(models, seeds, draws=1, between=1.0, tables=600):
    """The share of tables whose 95 % interval covers 0: SD between models (or draws) `between`, between seeds 1."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(tables):
        units = between * random.normal(size=(models, draws, 1))
        noise = random.normal(size=(models, draws, seeds)) - random.normal(size=(models, 1, seeds))
        found = paired.nested(differences((units + noise).ravel(), range(models), range(draws)))
        covered += found.low <= 0 <= found.high
    return covered / tables


@pytest.mark.parametrize(("models", "seeds"), [(2, 10), (3, 10), (4, 5), (5, 4)])
def test_nested_intervals_cover(models, seeds):
    assert 0.92 < simulated_coverage(models, seeds) < 0.98


def test_crossed_intervals_cover():
    assert 0.92 < simulated_coverage(1, 5, draws=4) < 0.98
