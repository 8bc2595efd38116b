"""The rows of the first screen: sides, what is called a change of harm, and seeds that would do."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.data.runs import UNTOUCHED
from analysis.estimands import arm_effects, equivalence, ranking
from analysis.estimands.answer import COLUMNS, TARGET_SD, answer, mitigations
from bias_transfer.spec import AnalysisPlan


def answered(made, plan=AnalysisPlan()):  # noqa: B008 - frozen
    table, cells = made
    ranked = ranking.ranking(table, cells)
    scales = equivalence.outcome_scales(cells)
    effects = equivalence.compare_with_margins(arm_effects.arm_effects(cells, draws=99), scales, plan)
    return answer(cells, ranked, effects, scales).set_index("arm"), ranked, effects.set_index("term"), scales


@pytest.fixture(scope="module")
def wiki(made_up):
    return answered(made_up("wiki", groups=20, seeds=5))


def test_every_arm_has_a_side_and_those_that_remove_knowledge_are_no_mitigations(wiki):
    rows = wiki[0].reset_index()
    assert list(rows.columns) == [*dict.fromkeys(["arm", *COLUMNS])]
    sides = dict(zip(rows["arm"], rows["side"], strict=True))
    debiased = next(arm for arm in sides if arm.startswith("sent_debias"))
    assert sides[debiased] == "model"
    assert sides["none + scrub=1"] == "data"
    assert sides["reinitialise=1 + scrub=1"] == "both"
    assert UNTOUCHED not in sides
    named = set(mitigations(rows, "model")["arm"])
    assert {arm for arm in sides if arm.startswith(("perturb", "reinitialise"))}.isdisjoint(named)
    assert debiased in named


def test_the_change_of_harm_is_that_of_estimand_a(wiki):
    rows, _, effects, _ = wiki
    for arm in rows.index:
        assert rows.loc[arm, "harm"] == pytest.approx(effects.loc[arm, "coefficient"], abs=1e-12)
        assert rows.loc[arm, "harm_low"] <= rows.loc[arm, "harm"] <= rows.loc[arm, "harm_high"]
    assert rows["harm"].is_monotonic_increasing


def test_a_planted_reduction_is_found_and_called_one(wiki):
    rows = wiki[0]
    assert rows.loc["reinitialise=1 + scrub=1", "effect"] == "reduced", "the fixture lowers ln FPR by .8 there"
    assert rows.loc["reinitialise=1 + scrub=1", "harm_high"] < 0


def test_no_change_takes_a_margin_that_was_stated(made_up):
    plan = AnalysisPlan(margins={"wiki": {"fpr": {"arm_sd": 50.0}}})
    wide = answered(made_up("wiki", groups=20, seeds=5), plan)[0]
    unclear = set(answered(made_up("wiki", groups=20, seeds=5))[0].query("effect == 'unclear'").index)
    assert unclear
    assert set(wide.loc[list(unclear), "effect"]) == {"none"}
    assert (wide.loc[list(unclear), "margin"] > 0).all()


def test_the_seeds_that_would_do_find_the_target_where_these_have_it(wiki):
    rows, _, _, scales = wiki
    assert rows["target"].iloc[0] == pytest.approx(TARGET_SD * scales["outcome_sd"].iloc[0])
    needed = rows["seeds_needed"]
    assert (needed >= 2).all()
    width = rows["harm_high"] - rows["harm_low"]
    assert np.corrcoef(width, needed)[0, 1] > 0.9, "the wider the interval, the more seeds"


def test_the_size_of_bias_is_the_harm_where_zero_means_no_bias(made_up):
    rows = answered(made_up("bios", groups=12, seeds=3), AnalysisPlan(margins={"bios": {"tpr_gap": {"arm_sd": 50.0}}}))[
        0
    ]
    assert "none" not in set(rows["effect"]), "the margin is one of the mean gap, not of its size"
    assert not math.isnan(rows["harm"].iloc[0])


def test_one_seed_has_no_effect_and_no_number_of_seeds(made_up):
    rows = answered(made_up("wiki", groups=12, seeds=1))[0]
    assert set(rows["effect"]) == {"unclear"}
    assert rows["seeds_needed"].isna().all()
    assert isinstance(rows, pd.DataFrame)
