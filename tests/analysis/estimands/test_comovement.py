"""Co-movement: a planted slope is found, and there is no share where there is no effect."""

import math

import numpy as np
import pytest

from analysis.estimands import comovement
from analysis.report import wording

NONE, PERTURB = ("none", None, "none", None), ("perturb", 0.5, "none", None)
FRESH, SCRUB = ("reinitialise", 1.0, "none", None), ("none", None, "scrub", 1.0)


def follows(arm, x, z, seed, draw):
    return -1 + 0.3 * x + draw.normal(0, 0.02, len(x)) + draw.normal(0, 0.02) - 0.5 * (arm[0] == "perturb")


@pytest.fixture
def cells(make_cells):
    return make_cells([NONE, PERTURB, FRESH, SCRUB], follows, moved=1.0, seeds=5, groups=30)


def test_the_planted_slope_is_found_over_upstream_arms_alone(cells):
    (own,) = comovement.comovement(cells).to_dict("records")
    assert (own["arms"], own["groups"], own["n"]) == (1, 30, 30)
    assert own["slope_low"] < 0.3 < own["slope_high"]
    assert 0.9 < own["correlation_low"] < own["correlation"] < own["correlation_high"] < 1
    assert "it is not mediation" in wording.comovement(own)


def test_the_jackknife_leaves_out_groups(cells):
    points = comovement.changes(cells)
    slopes = [
        np.polyfit(*(points.loc[points["group"] != group, name].to_numpy(float) for name in ("x", "y")), 1)[0]
        for group in points["group"]
    ]
    whole = np.polyfit(points["x"].to_numpy(float), points["y"].to_numpy(float), 1)[0]
    error = math.sqrt(29 / 30 * ((np.array(slopes) - whole) ** 2).sum())
    (own,) = comovement.comovement(cells).to_dict("records")
    assert own["slope"] == pytest.approx(whole)
    assert own["slope_high"] - own["slope_low"] == pytest.approx(2 * 2.0452 * error, rel=1e-4)  # t of 29


def test_a_share_is_given_for_an_effect_and_not_for_none(cells):
    (own,) = comovement.shares(cells).to_dict("records")
    assert own["share"] == pytest.approx(0.3 * own["x_change"] / own["effect"], rel=0.2)
    back = cells.assign(y=cells["y"] + 0.5 * (cells["upstream"] == "perturb"))
    shifted = back.assign(y=back["y"] - back.groupby("arm")["y"].transform("mean"))
    (none,) = comovement.shares(shifted).to_dict("records")
    assert math.isnan(none["share"])
    assert "interval includes 0" in none["reason"]


def test_missing_numbers_have_a_reason(cells, make_cells):
    alone = comovement.comovement(make_cells([NONE], follows)).iloc[0]
    assert "0 groups have changes of both x and y" in alone["reason"]
    assert math.isnan(alone["slope"])
    still = comovement.comovement(make_cells([NONE, PERTURB], follows, moved=0.0)).iloc[0]
    assert "x did not change" in still["reason"]
    single = comovement.shares(cells[cells["seed"] == 0]).iloc[0]
    assert "no interval" in single["reason"]
