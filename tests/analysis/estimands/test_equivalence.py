"""Evidence of absence: two one-sided tests, the smallest margin, whether x moved, and the conditions of "no transfer"."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from analysis.estimands import arm_effects, equivalence, slopes
from analysis.report import wording
from analysis.stats.paired import paired
from bias_transfer.spec import AnalysisPlan

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


def plan(slope_sd=None, arm_sd=None, task="wiki", outcome="fpr"):
    stated = {"slope_sd": slope_sd, "arm_sd": arm_sd}
    return AnalysisPlan(margins={task: {outcome: {name: value for name, value in stated.items() if value is not None}}})


def compared(cells, stated=AnalysisPlan(), draws=99):  # noqa: B008 - frozen
    return equivalence.compare_with_margins(slopes.estimate(cells, draws), equivalence.outcome_scales(cells), stated)


def test_margins_are_in_sd_of_the_untouched_outcome_without_the_noise_of_seeds(make_cells):
    """Groups differ by an SD of 0.1, seeds by 0.2: the SD over groups of a single seed would be twice too large."""

    def noisy(arm, x, z, seed, draw):
        return 0.1 * x + draw.normal(0, 0.2, len(x))

    cells = make_cells([NONE, PERTURB], noisy, groups=200, seeds=6, moved=0.8)
    (sd,) = equivalence.outcome_scales(cells)["outcome_sd"]
    assert sd == pytest.approx(0.1, abs=0.02)
    found = compared(cells, plan(slope_sd=2.0, arm_sd=0.5)).set_index(["estimand", "term"])
    assert found.loc[("B", "x"), "margin"] == pytest.approx(2 * sd)
    assert found.loc[("W", "x"), "margin"] == pytest.approx(2 * sd)
    assert found.loc[("A", "perturb=0.5 + none"), "margin"] == pytest.approx(0.5 * sd)
    assert math.isnan(found.loc[("B", "x - z"), "margin"])
    assert math.isnan(found.loc[("size", "none + none"), "margin"])


def test_a_margin_is_for_its_task_and_outcome_alone(cells):
    for stated in (plan(9.0, 9.0, task="bios"), plan(9.0, 9.0, outcome="tpr_gap"), AnalysisPlan()):
        found = compared(cells, stated)
        assert found["equivalent"].isna().all()
        tested = found[found["low_90"].notna()]
        assert set(tested["untested"]) == {equivalence.NOT_STATED}
        ends = tested[["low_90", "high_90"]].abs().max(axis=1)
        assert tested["smallest_margin"].tolist() == pytest.approx(ends.tolist())
        unstated = "Equivalence to 0 was not tested: no margin was stated; the smallest margin that would pass is"
        assert all(text.startswith(unstated) for text in wording.equivalences(tested))


def test_the_smallest_margin_is_said_in_sd_too(cells):
    row = compared(cells, plan(arm_sd=0.25)).query("estimand == 'A'").iloc[:1]
    in_sd = row["smallest_margin"].iloc[0] / row["outcome_sd"].iloc[0]
    (text,) = wording.equivalences(row)
    assert f"({in_sd:.3g} SD over groups)." in text
    assert "at a margin of" in text
    assert "(0.25 SD over groups)" in text


def test_equivalence_is_refused_without_a_unit_for_the_margin(make_cells):
    """One seed: noise cannot be taken out of the SD. No spread beyond noise: an SD of 0."""
    one = compared(make_cells([NONE, PERTURB], still, seeds=1), plan(9.0, 9.0))
    flat = compared(make_cells([NONE, PERTURB], lambda *given: np.zeros(20) + given[-1].normal() / 9), plan(9.0, 9.0))
    saturated = compared(make_cells([NONE, PERTURB], lambda *given: np.full(20, -7.3315853)), plan(9.0, 9.0))
    assert saturated["outcome_sd"].unique().tolist() == [0.0]  # where rounding alone would leave 1e-15
    assert saturated["equivalent"].isna().all()
    for found, reason in ((one, equivalence.ONE_SEED), (flat, equivalence.NO_SPREAD)):
        assert found["equivalent"].isna().all()
        bounded = found[
            found["smallest_margin"].notna() & (found["term"].isin(["x", "z"]) | (found["estimand"] == "A"))
        ]
        assert set(bounded["untested"]) == {reason}
    assert not math.isnan(one.query("estimand == 'B' and term == 'x'")["smallest_margin"].iloc[0])
    assert (
        wording.equivalences(one.query("estimand == 'A'"))[0]
        == "Equivalence to 0 was not tested: there is no interval."
    )


OCCUPATIONS = 28


def gaps(arm, x, z, seed, draw):
    """A TPR gap that follows x at r = .97, with an SD of .05 over groups."""
    return 0.05 * (0.97 * x + 0.24 * np.sin(9 * np.arange(len(x)))) + draw.normal(0, 0.01, len(x))


@pytest.mark.parametrize("stated", [(0.10, 0.25), (9.0, 9.0)])
def test_a_gap_that_follows_x_never_licenses_no_transfer(make_cells, stated):
    """A margin of 0.10 in raw units, twice the spread of these gaps, passed it. In SD it does not, and where a margin is so
    wide that it does, the interval and W refuse the claim."""
    cells = make_cells([NONE, PERTURB], gaps, OCCUPATIONS, 4, moved=0.8).assign(task="bios", outcome="tpr_gap")
    means = cells[cells["upstream"] == "none"].groupby("group")[["x", "y"]].mean()
    assert 0.96 < np.corrcoef(means["x"], means["y"])[0, 1] < 0.99
    found = compared(cells, plan(*stated, "bios", "tpr_gap"))
    (slope,) = found.query("estimand == 'B' and term == 'x'").to_dict("records")
    assert slope["p"] < 0.05
    assert slope["smallest_margin"] < 0.10  # what passed before
    assert slope["equivalent"] is (stated[0] == 9.0)
    arms = equivalence.treatments(cells)
    contradicted = equivalence.contradictions(cells, found, arms)
    verdict = equivalence.no_transfer(slope, True, 0.9, True, contradicted)
    assert verdict.includes_zero is False
    assert "W" in contradicted
    assert not verdict.licensed


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


SHAM, INJECT, COUNTER = (
    ("sham_debias", 1.0, "none", None),
    ("inject", 1.0, "none", None),
    ("inject", -1.0, "none", None),
)


def test_controls_are_not_asked_to_move_x(make_cells):
    cells = make_cells([NONE, PERTURB, SHAM, ("random_projection", 1.0, "none", None)], still, moved=0.8)
    arms = equivalence.treatments(cells)
    assert arms == ["perturb=0.5 + none"]
    still_ones = cells["upstream"].isin(equivalence.UPSTREAM_CONTROLS)
    base = cells[cells["upstream"] == "none"].groupby("group")["x"].mean()
    displaced = equivalence.displacements(cells.assign(x=cells["x"].where(~still_ones, cells["group"].map(base))))
    assert displaced["moved"].tolist() == [True, False, False]
    assert equivalence.moved(displaced, arms) is True
    assert equivalence.moved(displaced, displaced["arm"]) is False
    assert equivalence.moved(displaced, []) is None
    marked = cells.loc[cells["upstream"] == "perturb", "trial"].unique()
    assert equivalence.treatments(cells, marked) == []  # control=true


def test_the_positive_control_in_a_study_contradicts_nothing_and_opposite_doses_alone_are_one(make_cells):
    """y follows the injected x, which is what the control is for; the study's own arm moves x and leaves y alone."""

    def follows(arm, x, z, seed, draw):
        return 0.3 * x * (arm[0] == "inject") + 0.1 * np.sin(np.arange(len(x))) + draw.normal(0, 0.05, len(x))

    both = make_cells([NONE, PERTURB, INJECT, COUNTER], follows, seeds=5, moved=0.8)
    assert equivalence.treatments(both) == ["perturb=0.5 + none"]
    assert equivalence.contradictions(both, compared(both), equivalence.treatments(both)) == ()
    single = make_cells([NONE, PERTURB, INJECT], follows, seeds=5, moved=0.8)
    assert equivalence.treatments(single) == ["perturb=0.5 + none", "inject=1 + none"]
    assert "W" in equivalence.contradictions(single, compared(single), equivalence.treatments(single))


def test_a_significant_effect_of_a_treatment_contradicts_and_that_of_a_sham_or_of_the_data_does_not(make_cells):
    def shifted(*names):
        return lambda arm, x, z, seed, draw: still(arm, x, z, seed, draw) + 0.5 * (arm in names)

    both = ("perturb", 0.5, "scrub", 1.0)
    arms = [NONE, PERTURB, SCRUB, SHAM, both]
    for names, expected in (((PERTURB,), ("perturb=0.5 + none",)), ((SCRUB, SHAM, both), ()), ((), ())):
        cells = make_cells(arms, shifted(*names), seeds=6, moved=0.8)
        effects = arm_effects.arm_effects(cells, 99)
        found = [
            name for name in equivalence.contradictions(cells, effects, equivalence.treatments(cells)) if name != "W"
        ]
        assert tuple(found) == expected


SLOPE = {"equivalent": True, "low": -0.1, "high": 0.1, "untested": ""}
ALL = {"slope": SLOPE, "moved": True, "reliability": 0.8, "positive_control": True}


def test_no_transfer_needs_all_conditions():
    verdict = equivalence.no_transfer(**ALL)
    assert verdict.licensed
    assert not wording.lacking(verdict)
    assert wording.verdict(verdict).startswith("No transfer, within the stated margin")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"slope": {**SLOPE, "equivalent": False}}, "does not pass at the stated margin"),
        ({"slope": {**SLOPE, "equivalent": None, "untested": equivalence.NOT_STATED}}, "no margin was stated"),
        ({"slope": {**SLOPE, "equivalent": None, "untested": equivalence.ONE_SEED}}, "takes two seeds"),
        ({"slope": {**SLOPE, "low": 0.01}}, "excludes 0"),
        ({"slope": {**SLOPE, "high": -0.01}}, "excludes 0"),
        ({"contradicted_by": ("W",)}, "W contradicts it"),
        ({"contradicted_by": ("sent_debias + none",)}, "A contradicts it: sent_debias + none changed"),
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
    assert wording.verdict(verdict).startswith("'No transfer' is not claimed: ")


def test_numpy_answers_are_understood(cells):
    own = pd.DataFrame(equivalence.displacements(cells)).iloc[0]
    assert equivalence.no_transfer({**SLOPE, "equivalent": np.bool_(True)}, own["moved"], 0.9, True).licensed
    unmet = {**SLOPE, "equivalent": np.bool_(False)}
    assert len(wording.lacking(equivalence.no_transfer(unmet, np.bool_(False), 0.9, True))) == 2
    assert len(wording.lacking(equivalence.no_transfer({**SLOPE, "equivalent": math.nan}, pd.NA, 0.9, True))) == 2
