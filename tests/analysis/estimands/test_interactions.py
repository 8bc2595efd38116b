"""Interactions are found where planted, and not where one side is significant by chance."""

import math
import re

import pandas as pd
import pytest
from scipy import stats

from analysis.estimands import interactions
from analysis.report import wording

NONE, SCRUB = ("none", None, "none", None), ("none", None, "scrub", 1.0)
FRESH, FRESH_SCRUB = ("reinitialise", 1.0, "none", None), ("reinitialise", 1.0, "scrub", 1.0)
FOUR = [NONE, SCRUB, FRESH, FRESH_SCRUB]


def only_fresh(arm, x, z, seed, draw):
    """Scrub works only on the model that was not pre-trained, which follows z less closely."""
    works = 0.4 * (arm[2] == "scrub") * (arm[0] == "reinitialise")
    slope = 0.2 if arm[0] == "reinitialise" else 0.6
    return slope * z - works + draw.normal(0, 0.05) + draw.normal(0, 0.05, len(x)) + 0.5 * slope * (arm[2] == "scrub")


def term(frame, name):
    (found,) = frame[frame["term"] == name].to_dict("records")
    return found


@pytest.fixture
def cells(make_cells):
    return make_cells(FOUR, only_fresh, seeds=6, groups=30)


def test_the_difference_of_differences_is_paired_by_seed(cells):
    found = interactions.arm_by_pretrained(cells)
    wide = cells.pivot_table(index="seed", columns="arm", values="y")
    pretrained = wide["none + scrub=1"] - wide["none + none"]
    fresh = wide["reinitialise=1 + scrub=1"] - wide["reinitialise=1 + none"]
    oracle = stats.ttest_rel(pretrained, fresh)
    mine = term(found, "scrub=1 | difference")
    assert mine["p"] == pytest.approx(oracle.pvalue)
    assert [mine["low"], mine["high"]] == pytest.approx(list(oracle.confidence_interval()))
    assert term(found, "scrub=1 | pre-trained")["coefficient"] == pytest.approx(pretrained.mean())
    assert term(found, "scrub=1 | not pre-trained")["coefficient"] == pytest.approx(fresh.mean())


def test_no_interaction_is_found_where_both_sides_change_alike(make_cells):
    def alike(arm, x, z, seed, draw):
        return -0.4 * (arm[2] == "scrub") + draw.normal(0, 0.2) + draw.normal(0, 0.05, len(x))

    p = [
        term(interactions.arm_by_pretrained(make_cells(FOUR, alike, seeds=4, number=n), 99), "scrub=1 | difference")[
            "p"
        ]
        for n in range(60)
    ]
    assert pd.Series(p).lt(0.05).mean() < 0.15


def test_missing_trials_are_named(cells):
    (row,) = interactions.arm_by_pretrained(cells[cells["arm"] != "reinitialise=1 + none"]).to_dict("records")
    assert row["reason"] == "not tested: not pre-trained: no finished trials of reinitialise=1 with none"
    assert math.isnan(row["coefficient"])
    partial = cells.assign(upstream_dose=cells["upstream_dose"] / 2)  # only dose 1 is "not pre-trained"
    assert "no finished trials" in interactions.arm_by_pretrained(partial).iloc[0]["reason"]
    assert interactions.arm_by_pretrained(cells[cells["downstream"] == "none"]).empty


def test_single_seed_gives_the_difference_without_interval(make_cells):
    mine = term(interactions.arm_by_pretrained(make_cells(FOUR, only_fresh, seeds=1)), "scrub=1 | difference")
    assert math.isfinite(mine["coefficient"])
    assert mine["reason"] == "one seed gives no interval"


def test_a_pretrained_model_that_follows_z_more_closely_is_found(cells):
    found = interactions.pretrained_by_dataset(cells, 999)
    scale = cells["z_scale"].iloc[0]
    for side, slope in (("pre-trained", 0.6), ("not pre-trained", 0.2), ("difference", 0.4)):
        own = term(found, f"z | {side}")
        assert own["low"] < slope * scale < own["high"], side
        assert own["p"] < 0.01
        assert not re.search("rais|caus|effect", wording.pretrained_by_dataset(own))
    difference = term(found, "z | difference")["coefficient"]
    sides = term(found, "z | pre-trained")["coefficient"] - term(found, "z | not pre-trained")["coefficient"]
    assert difference == pytest.approx(sides)


def test_without_a_model_that_was_not_pretrained_it_is_not_tested(cells, make_cells):
    (row,) = interactions.pretrained_by_dataset(cells[cells["upstream"] == "none"]).to_dict("records")
    assert "not tested: this needs trials of none + none and of reinitialise=1 + none" in row["reason"]
    few = interactions.pretrained_by_dataset(make_cells(FOUR, only_fresh, groups=9))
    assert few["reason"].str.contains("fewer than 10").all()
    flat = interactions.pretrained_by_dataset(cells.assign(z=-1.0))
    assert flat["reason"].str.contains("z does not vary").all()
