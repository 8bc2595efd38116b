"""Size of bias: its definition and jackknife by hand, planted sizes recovered, and its paired change."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.data.cells import OUTCOMES
from analysis.data.runs import NO_DRAW, REPEATS
from analysis.estimands import bias_size
from analysis.report import wording

NONE, PERTURB = ("none", None, "none", None), ("perturb", 0.5, "none", None)


def noisy(arm, x, z, seed, draw):
    return (0.6 if arm[0] == "none" else 0.2) * x + draw.normal(0, 0.1, len(x)) + draw.normal()


def test_the_square_is_the_mean_product_of_different_seeds():
    y = np.random.default_rng(0).normal(size=(7, 3))
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    for centred, values in ((True, y - y.mean(axis=0)), (False, y)):
        by_hand = np.mean([(values[:, a] * values[:, b]).mean() for a, b in pairs])
        assert bias_size.square_of_bias(y, centred) == pytest.approx(by_hand)


def test_the_spread_of_groups_is_centred_and_free_of_noise():
    draw = np.random.default_rng(0)
    steady = 0.3 + 0.1 * draw.normal(size=400)
    models = [0] * 10 + [1] * 10
    noisy_y = steady[:, None] + 0.2 * draw.normal(size=(400, 20))
    assert bias_size.spread_of_groups(noisy_y, models) == pytest.approx(steady.std(ddof=1), rel=0.05)
    assert bias_size.spread_of_groups(np.repeat(steady[:, None], 2, axis=1)) == pytest.approx(steady.std(ddof=1))
    assert math.isnan(bias_size.spread_of_groups(noisy_y[:, :2], [0, 1]))  # no two seeds of one model


def trials(models=(0,), draws=(NO_DRAW,), seeds=range(4)):
    return pd.MultiIndex.from_product([models, draws, seeds], names=REPEATS)


def test_the_jackknife_leaves_out_seeds_or_whole_models():
    y = np.random.default_rng(0).normal(size=(9, 8))
    one, two = trials(seeds=range(8)), trials(models=(0, 1))
    left = np.array([bias_size.square_of_bias(np.delete(y, out, axis=1), True) for out in range(8)])
    over_seeds = bias_size.jackknife(lambda kept: bias_size.mean_square(y[:, kept], one[kept], True), one)
    assert over_seeds.error == pytest.approx(math.sqrt(7 / 8 * ((left - left.mean()) ** 2).sum()))
    assert (over_seeds.units, over_seeds.method) == (8, bias_size.OVER_SEEDS)
    squares = np.array([bias_size.square_of_bias(y[:, 4 * model : 4 * model + 4], True) for model in (0, 1)])
    assert bias_size.mean_square(y, two, True) == pytest.approx(squares.mean())
    over_models = bias_size.jackknife(lambda kept: bias_size.mean_square(y[:, kept], two[kept], True), two)
    assert over_models.error == pytest.approx(stats.sem(squares))
    assert (over_models.units, over_models.method) == (2, bias_size.OVER_MODELS)


def framed(y):
    return pd.DataFrame(y, columns=trials(seeds=range(y.shape[1])))


def test_size_of_bias_does_not_rise_with_noise():
    draw = np.random.default_rng(1)
    bias, noise = draw.normal(0, 0.4, (2000, 1)), draw.normal(0, 1.0, (2000, 5))
    assert bias_size.size_of_bias(framed(bias + noise + 3.0), OUTCOMES["fpr"])[0] == pytest.approx(0.4, abs=0.04)
    assert np.abs(bias + noise).mean() > 0.8  # what a mean of sizes would have said
    opposite = draw.normal(0, 1, (50, 2)) * [1, -1] + np.array([[1, -1]] * 50) * bias[:50]
    assert bias_size.size_of_bias(framed(opposite), OUTCOMES["fpr"])[0] == 0.0


def test_size_of_bias_by_hand():
    y = np.array([[1.0, 3.0], [-1.0, -3.0], [math.nan, 1.0]])
    assert bias_size.size_of_bias(framed(y), OUTCOMES["fpr"]) == (pytest.approx(math.sqrt(3.0)), 2)
    assert math.isnan(bias_size.size_of_bias(framed(y[:, :1]), OUTCOMES["fpr"])[0])


def test_planted_sizes_are_within_the_intervals(make_cells):
    cells = make_cells([NONE, PERTURB], noisy, groups=40, seeds=6)
    found = bias_size.sizes(cells).set_index("term")
    for arm, planted in (("none + none", 0.6), ("perturb=0.5 + none", 0.2)):
        own = found.loc[arm]
        assert own["low"] < planted * math.sqrt(39 / 40) < own["high"]  # over these groups, not a sample of others
        assert own["high"] - own["low"] < 0.2
        assert "nan" not in wording.bias_size({**own, "term": arm})
    change = bias_size.size_changes(cells).iloc[0]
    assert change["low"] < -0.4 < change["high"] < 0
    assert change["coefficient"] == pytest.approx(found["coefficient"].diff().iloc[1])
    spread = bias_size.spreads(cells).set_index("arm")["spread"]
    assert spread["none + none"] == pytest.approx(0.6, abs=0.1)


def test_pure_noise_has_a_size_that_may_be_0(make_cells):
    own = bias_size.sizes(make_cells([NONE], lambda arm, x, z, seed, draw: draw.normal(size=len(x)), seeds=8)).iloc[0]
    assert own["low"] == 0.0
    assert own["coefficient"] < 0.5


@pytest.mark.parametrize(
    ("seeds", "said"), [(1, "one seed: noise cannot be told from bias"), (2, "two seeds give no interval")]
)
def test_too_few_seeds_are_named(make_cells, seeds, said):
    cells = make_cells([NONE, PERTURB], noisy, seeds=seeds)
    for found in (bias_size.sizes(cells), bias_size.size_changes(cells)):
        assert found["low"].isna().all()
        assert found["reason"].str.contains(said).all()
        assert math.isfinite(found["coefficient"].iloc[0]) == (seeds > 1)


def test_an_arm_without_the_untouched_one_is_named(make_cells):
    assert "no seed that none + none has" in bias_size.size_changes(make_cells([PERTURB], noisy)).iloc[0]["reason"]


@pytest.mark.parametrize(
    ("outcome", "size"), [("tpr_gap", 0.3), ("log_tpr_ratio", 0.3), ("logit_gap", 0.3), ("fpr", 0.0)]
)
def test_a_gap_of_the_same_size_in_all_groups_counts_where_0_means_no_bias(make_cells, outcome, size):
    cells = make_cells([NONE], lambda arm, x, z, seed, draw: 0.3 + draw.normal(0, 0.01, len(x)), groups=28, seeds=5)
    own = bias_size.sizes(cells.assign(outcome=outcome)).iloc[0]
    assert own["coefficient"] == pytest.approx(size, abs=0.01)
    assert own["unit"].startswith("root mean square" if size else "SD")


def test_seeds_that_all_give_the_same_have_no_interval(make_cells):
    own = bias_size.sizes(make_cells([NONE], lambda arm, x, z, seed, draw: 0.3 + x)).iloc[0]
    assert math.isnan(own["low"])
    assert own["reason"] == bias_size.IDENTICAL


def test_one_seed_per_model_has_no_size(make_cells):
    cells = make_cells([NONE, PERTURB], noisy, seeds=3)
    for found in (bias_size.sizes, bias_size.size_changes):
        own = found(cells.assign(replicate=cells["seed"])).iloc[0]
        assert math.isnan(own["coefficient"])
        assert own["reason"] == "one seed per model: noise cannot be told from bias"
