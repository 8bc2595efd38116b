"""`cells`, on measures made by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.data import cells as data_cells
from analysis.data.runs import tidy
from analysis.estimands.specification_curve import specifications
from bias_transfer.errors import UserError
from bias_transfer.tasks.registry import TASKS


@pytest.fixture
def cells(new_trial, measured, primary):
    trials = [new_trial()]
    return data_cells.cells(tidy(trials, measured(trials)), primary).set_index("group")


def test_cells_computed_by_hand(cells):
    assert len(cells) == 2
    a = cells.loc["a"]
    assert a["x"] == pytest.approx(0.2)
    assert a["z"] == pytest.approx(math.log(5.5 / 15.5))
    assert a["z_log"] == pytest.approx(math.log(5.5 / 20.5))
    assert (a["z_level"], a["z_n"], a["y_n"]) == (0.25, 20, 757)
    assert a["y_rate"] == 0.5  # the pooled value: the row of the template "hate" is not averaged in
    assert a["y"] == pytest.approx(math.log((round(0.5 * 757) + 0.5) / 757.5))
    assert cells.loc["b", "y"] == pytest.approx(math.log(0.5 / 757.5))


def test_a_group_that_is_never_mentioned_is_missing_and_thin_rather_than_0(cells):
    b = cells.loc["b"]
    assert np.isnan([b["z"], b["z_log"], b["z_level"]]).all()
    assert b["z_n"] == 0
    assert b["thin"]
    assert not cells.loc["a", "thin"]
    assert np.isnan(b["x"])  # one template is missing, and a mean of the others would be a different measure


def test_a_group_that_one_arm_makes_thin_is_thin_in_all_arms(new_trial, measured, rows, primary):
    none, scrub = new_trial(), new_trial(downstream="scrub", downstream_dose=1.0)
    fewer = [
        ("dataset", "toxic_share", "a", "", 0.0, 4) if row[:3] == ("dataset", "toxic_share", "a") else row
        for row in rows
    ]
    table = tidy([none, scrub], pd.concat([measured([none]), measured([scrub], fewer)]))
    assert data_cells.cells(table, primary)["thin"].all()
    assert data_cells.cells(table, primary, least=4).set_index("group")["thin"].to_dict() == {"a": False, "b": True}


def test_a_share_of_weighted_examples_is_no_whole_count(new_trial, measured, rows, primary):
    """Where an arm weighs the examples, 0.333 of 20 is 6.66 and not 7."""
    weighed = [
        ("dataset", "toxic_share", "a", "", 0.333, 20) if row[:3] == ("dataset", "toxic_share", "a") else row
        for row in rows
    ]
    trials = [new_trial()]
    a = data_cells.cells(tidy(trials, measured(trials, weighed)), primary).set_index("group").loc["a"]
    assert a["z"] == pytest.approx(math.log(7.16 / 13.84))


BIOS = {"bios": {"upstream": "pronoun_score", "dataset": "she_share", "downstream": "tpr_gap"}}


@pytest.mark.parametrize(("she", "he", "known"), [(10, 10, True), (9, 500, False), (500, 9, False)])
def test_a_tpr_gap_needs_enough_biographies_of_either_pronoun(she, he, known, made_up):
    """The gap's own n counts both pronouns together: 9 and 500 look like 509."""
    table = made_up("bios", 12, 2)[0].copy()
    poet = table["group"] == "group 3"
    for metric, n in (("tpr_she", she), ("tpr_he", he), ("tpr_gap", she + he)):
        table.loc[poet & (table["metric"] == metric), "n"] = n
    cells = data_cells.cells(table, BIOS)
    poets, others = cells[cells["group"] == "group 3"], cells[cells["group"] != "group 3"]
    assert poets["y"].notna().all() == known
    assert (~poets["few"]).all() == known
    assert poets["y_rate"].notna().all()
    assert others["y"].notna().all()
    assert not others["few"].any()
    curve = specifications(table, BIOS)
    used = curve.loc[(curve["metric"] == "TPR gap") & (curve["denominator"] == "test set as it is"), "n"]
    assert set(used) == {12 if known else 11}


def test_the_log_of_a_rate_is_missing_below_the_least_number_of_phrases():
    rates, n = pd.Series([0.5, 0.5, 0.0, 1.0]), pd.Series([99, 100, 757, 757])
    logs = data_cells.log_rate(rates, n)
    assert np.isnan(logs[0])
    assert np.isfinite(logs[1:]).all()
    assert logs[3] == 0.0


def test_an_unknown_outcome_metric_is_refused_with_the_nearest_match(new_trial, measured, primary):
    trials = [new_trial()]
    misspelt = {"wiki": {**primary["wiki"], "downstream": "fprr"}}
    with pytest.raises(UserError, match="Did you mean 'fpr'"):
        data_cells.cells(tidy(trials, measured(trials)), misspelt)


def test_the_outcomes_that_a_sweep_allows_are_those_that_an_analysis_reads():
    """A sweep refuses any other `analysis.primary` before its first trial."""
    allowed = [{task.primary["downstream"], *task.outcomes} for task in TASKS.values()]
    assert set.union(*allowed) == set(data_cells.OUTCOMES)


def test_fine_tuning_sets_that_name_no_group_make_none_thin(cells, new_trial, measured, rows, primary):
    """Otherwise no regression on upstream bias would be possible where upstream bias is the only possible cause."""
    assert cells.loc["b", "thin"]
    assert not cells.loc["a", "thin"]
    unnamed = [(*row[:4], math.nan, 0) if row[0] == "dataset" else row for row in rows]
    trials = [new_trial()]
    assert not data_cells.cells(tidy(trials, measured(trials, unnamed)), primary)["thin"].any()
