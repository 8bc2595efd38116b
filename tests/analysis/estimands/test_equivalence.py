"""Evidence of absence: two one-sided tests, the smallest margin, whether x moved, and the conditions of "no transfer"."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from analysis.estimands import arm_effects, bias_size, equivalence, slopes
from analysis.report import wording
from analysis.stats.paired import paired

NONE, PERTURB, SCRUB = ("none", None, "none", None), ("perturb", 0.5, "none", None), ("none", None, "scrub", 1.0)


def still(arm, x, z, seed, draw):
    """No arm has an effect; groups differ."""
    return -1 + 0.4 * np.sin(np.arange(len(x))) + draw.normal(0, 0.02, len(x)) + draw.normal(0, 0.01)


@pytest.fixture
def cells(make_cells):
    return make_cells([NONE, PERTURB, SCRUB], still, seeds=6, moved=0.8)


@pytest.mark.parametrize("margin", [0.01, 0.03, 0.1])
def test_the_test_is_that_of_statsmodels(margin):
    values = np.random.default_rng(0).normal(0.01, 0.03, 10)
    own = paired(values)
    p = DescrStatsW(values).ttost_mean(-margin, margin)[0]
    assert equivalence.passes(own.low_90, own.high_90, margin) == (p < 0.05)
    smallest = equivalence.smallest_margin(own.low_90, own.high_90)
    assert DescrStatsW(values).ttost_mean(-smallest, smallest)[0] == pytest.approx(0.05)


def test_the_margin_of_arms_is_a_share_of_the_untouched_size(cells):
    effects, size = arm_effects.arm_effects(cells), bias_size.sizes(cells)
    compared = equivalence.compare_with_margins(effects, arms=0.25, untouched=size).set_index("term")
    untouched = size.set_index("term").loc["none + none", "coefficient"]
    assert compared["margin"].unique() == pytest.approx([0.25 * untouched])
    assert compared["equivalent"].tolist() == [True, True]
    assert all("passes at a margin" in text for text in wording.equivalences(compared))
    tight = equivalence.compare_with_margins(effects, arms=0.001, untouched=size)
    assert tight["equivalent"].tolist() == [False, False]
    assert tight["smallest_margin"].tolist() == compared["smallest_margin"].tolist()


def test_without_a_margin_only_the_smallest_margin_is_given(cells):
    compared = equivalence.compare_with_margins(slopes.estimate(cells, 99))
    assert compared["equivalent"].isna().all()
    own = compared[compared["estimand"] == "A"]
    ends = own[["low_90", "high_90"]].abs().max(axis=1)
    assert own["smallest_margin"].tolist() == pytest.approx(ends.tolist())
    unstated = "Not tested: no margin was stated; the smallest margin"
    assert all(text.startswith(unstated) for text in wording.equivalences(own))


def test_only_slopes_on_x_and_z_are_tested(cells):
    compared = equivalence.compare_with_margins(slopes.estimate(cells, 99), slope=1e6)
    passed = compared[compared["equivalent"].map(lambda value: value is True)]
    assert set(passed["term"]) == {"x", "z"}
    assert set(passed["estimand"]) == {"B", "W"}


def test_one_seed_has_no_interval_and_is_not_tested(make_cells):
    effects = arm_effects.arm_effects(make_cells([NONE, PERTURB], still, seeds=1))
    compared = equivalence.compare_with_margins(
        effects, arms=0.25, untouched=bias_size.sizes(make_cells([NONE], still))
    )
    assert compared["equivalent"].iloc[0] is None
    assert wording.equivalences(compared)[0] == "Not tested: there is no interval."


def test_x_moved_where_it_was_moved(cells):
    found = equivalence.displacements(cells).set_index("arm")
    assert list(found.index) == ["perturb=0.5 + none"]  # scrub leaves the pre-trained model alone
    own = found.loc["perturb=0.5 + none"]
    assert own["low"] < 0.8 < own["high"]
    assert own["moved"]


def test_x_that_hardly_moved_did_not_move(make_cells):
    own = equivalence.displacements(make_cells([NONE, PERTURB], still, moved=0.1)).iloc[0]
    assert not own["moved"]
    away = make_cells([NONE, PERTURB], still, moved=0.1)
    squares = away[away["upstream"] != "none"].groupby("group")["x"].apply(np.array)
    base = away[away["upstream"] == "none"].groupby("group")["x"].mean()
    by_hand = [(((values - base[group]) / away["x_scale"].iloc[0]) ** 2).mean() for group, values in squares.items()]
    assert own["displacement"] == pytest.approx(math.sqrt(np.mean(by_hand)))
    reach = stats.t.ppf(0.975, 19) * np.std(by_hand, ddof=1) / math.sqrt(20)
    assert own["high"] == pytest.approx(math.sqrt(np.mean(by_hand) + reach))


def test_without_the_untouched_arm_it_is_unknown_whether_x_moved(make_cells):
    cells = make_cells([PERTURB], still, moved=1).assign(x_scale=math.nan)
    own = equivalence.displacements(cells).iloc[0]
    assert own["moved"] is None
    assert own["reason"]


ALL = {"equivalent": True, "moved": True, "reliability": 0.8, "positive_control": True}


def test_no_transfer_needs_all_four_conditions():
    verdict = equivalence.no_transfer(**ALL)
    assert verdict.licensed
    assert not wording.lacking(verdict)
    assert wording.verdict(verdict).startswith("No transfer, within the stated margin")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"equivalent": False}, "does not pass at the stated margin"),
        ({"equivalent": None}, "no margin was stated"),
        ({"moved": False}, "x did not move"),
        ({"moved": None}, "not known whether x moved"),
        ({"reliability": 0.69}, "is 0.69, below 0.7"),
        ({"reliability": math.nan}, "reliability of x is not known"),
        ({"positive_control": False}, "positive control did not pass"),
        ({"positive_control": None}, "not known whether the positive control passed"),
    ],
)
def test_each_unmet_condition_is_named_and_nothing_is_claimed(changed, said):
    verdict = equivalence.no_transfer(**{**ALL, **changed})
    assert not verdict.licensed
    (lack,) = wording.lacking(verdict)
    assert said in lack
    assert wording.verdict(verdict).startswith("'No transfer' is not licensed: ")


def test_numpy_answers_are_understood(cells):
    own = pd.DataFrame(equivalence.displacements(cells)).iloc[0]
    assert equivalence.no_transfer(np.bool_(True), own["moved"], 0.9, True).licensed
    assert len(wording.lacking(equivalence.no_transfer(np.bool_(False), np.bool_(False), 0.9, True))) == 2
    assert len(wording.lacking(equivalence.no_transfer(math.nan, pd.NA, 0.9, True))) == 2
