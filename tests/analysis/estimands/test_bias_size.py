"""Size of bias: its definition and jackknife by hand, planted sizes recovered, and its paired change."""

import math

import numpy as np
import pytest

from analysis.estimands import bias_size
from analysis.report import wording

NONE, PERTURB = ("none", None, "none", None), ("perturb", 0.5, "none", None)


def noisy(arm, x, z, seed, draw):
    return (0.6 if arm[0] == "none" else 0.2) * x + draw.normal(0, 0.1, len(x)) + draw.normal()


def test_the_square_is_the_mean_product_of_different_seeds():
    y = np.random.default_rng(0).normal(size=(7, 3))
    centred = y - y.mean(axis=0)
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    assert bias_size.square_of_bias(y) == pytest.approx(
        np.mean([(centred[:, a] * centred[:, b]).mean() for a, b in pairs])
    )


def test_the_spread_of_groups_is_centred_and_free_of_noise():
    draw = np.random.default_rng(0)
    steady = 0.3 + 0.1 * draw.normal(size=400)
    models = [0] * 10 + [1] * 10
    noisy_y = steady[:, None] + 0.2 * draw.normal(size=(400, 20))
    assert bias_size.spread_of_groups(noisy_y, models) == pytest.approx(steady.std(ddof=1), rel=0.05)
    assert bias_size.spread_of_groups(np.repeat(steady[:, None], 2, axis=1)) == pytest.approx(steady.std(ddof=1))
    assert math.isnan(bias_size.spread_of_groups(noisy_y[:, :2], [0, 1]))  # no two seeds of one model


def test_the_jackknife_leaves_out_seeds():
    y = np.random.default_rng(0).normal(size=(9, 4))
    left = np.array([bias_size.square_of_bias(y[:, [s for s in range(4) if s != out]]) for out in range(4)])
    square, error = bias_size.jackknifed(y)
    assert square == bias_size.square_of_bias(y)
    assert error == pytest.approx(math.sqrt(3 / 4 * ((left - left.mean()) ** 2).sum()))


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
