"""Evaluation sets in the analysis: outcomes like the task's own, and every rate per group with its interval."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.data.cells import cells, is_outcome, outcome_named
from analysis.data.runs import UNTOUCHED
from analysis.estimands import evaluation_sets, slopes
from analysis.estimands.rows import RowContext
from analysis.report import wording
from bias_transfer.errors import UserError

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
ARM = "perturb=0.5 + none"
N = 200


def with_set(table: pd.DataFrame, rate) -> pd.DataFrame:
    """The table with a set of two groups and a functionality. rate: (group, arm, seed) -> its FPR."""
    trials = table[(table["metric"] == "fpr") & (table["group"] == "group 0")].astype({"metric": str, "group": str})
    parts = [table.astype({"metric": str, "group": str})]
    for group in ("", "women", "men"):
        values = [rate(group, str(row.arm), int(row.seed)) for row in trials.itertuples()]
        parts.append(trials.assign(metric="forum_fpr", group=group, value=values, n=N))
        parts.append(trials.assign(metric="forum_accuracy", group=group, value=0.9, n=2 * N))
    parts.append(trials.assign(metric="forum_functionality_accuracy", group="slurs", value=0.8, n=50))
    return pd.concat(parts, ignore_index=True)


def rising(group: str, arm: str, seed: int) -> float:
    """Untouched .10, .11, .12 by seed; the arm adds .05 for women and nothing for men."""
    return 0.1 + 0.01 * seed + (0.05 + 0.01 * seed if (group, arm) == ("women", ARM) else 0.0)


@pytest.fixture
def table(made_up):
    return with_set(made_up("wiki", 12, 3)[0], rising)


def test_the_outcomes_of_a_set_are_its_fpr_and_the_accuracy_per_functionality(table):
    assert evaluation_sets.names(table, ["forum"], PRIMARY) == ["forum_fpr", "forum_functionality_accuracy"]
    assert evaluation_sets.names(table, ["other"], PRIMARY) == []
    stated = {"wiki": {**PRIMARY["wiki"], "downstream": "forum_fpr"}}
    assert evaluation_sets.names(table, ["forum"], stated) == ["forum_functionality_accuracy"]
    without = table[table["metric"] != "forum_fpr"]
    assert evaluation_sets.names(without, ["forum"], PRIMARY)[0] == "forum_accuracy"


def test_an_arms_effect_is_the_paired_difference_of_ln_fpr(table):
    fpr, functionality = evaluation_sets.outcomes(table, PRIMARY, ["forum"])
    assert set(fpr["group"]) == {"women", "men"}
    found = evaluation_sets.estimates(fpr)
    assert set(found["estimand"]) == {"A", "size"}  # the groups have no upstream bias: no slopes
    (row,) = found[(found["estimand"] == "A") & (found["term"] == ARM)].to_dict("records")
    log = [[math.log((round(N * rising(g, arm, s)) + 0.5) / (N + 0.5)) for arm in (UNTOUCHED, ARM)] for g in ("women", "men")
           for s in range(3)]  # fmt: skip
    assert row["coefficient"] == pytest.approx(np.mean([second - first for first, second in log]))
    assert row["n_groups"] == 2
    assert set(evaluation_sets.estimates(functionality)["estimand"]) == {"A"}  # their spread is no bias


def test_the_tasks_own_outcome_is_as_without_a_set(table, made_up):
    """Its groups are its own: those of the set are not taken for groups that the fine-tuning set never mentions."""
    plain, with_it = cells(made_up("wiki", 12, 3)[0], PRIMARY), cells(table, PRIMARY)
    pd.testing.assert_frame_equal(with_it, plain, check_dtype=False, check_categorical=False)


def test_every_rate_has_its_interval_over_seeds(table):
    found = evaluation_sets.per_group(table, ["forum"]).set_index(["metric", "arm", "group"])
    women = found.loc[("forum_fpr", ARM, "women")]
    values = np.array([rising("women", ARM, seed) for seed in range(3)])
    reach = stats.t.ppf(0.975, 2) * values.std(ddof=1) / math.sqrt(3)
    assert women["value"] == pytest.approx(0.17)
    assert (women["low"], women["high"]) == (pytest.approx(0.17 - reach), pytest.approx(0.17 + reach))
    assert (women["n"], women["seeds"]) == (N, 3)
    assert women["difference"] == pytest.approx(0.06)
    assert women["difference_low"] < 0.06 < women["difference_high"]
    assert found.loc[("forum_fpr", ARM, "men"), "difference"] == 0
    assert math.isnan(found.loc[("forum_fpr", UNTOUCHED, "women"), "difference"])
    assert found.loc[("forum_fpr", UNTOUCHED, ""), "value"] == pytest.approx(0.11)
    assert found.loc[("forum_functionality_accuracy", ARM, "slurs"), "value"] == pytest.approx(0.8)


def test_a_group_without_a_value_in_a_seed_is_missing(table):
    lost = (table["metric"] == "forum_fpr") & (table["group"] == "men") & (table["seed"] == 1)
    table.loc[lost, ["value", "n"]] = math.nan, 0
    found = evaluation_sets.per_group(table, ["forum"]).set_index(["metric", "arm", "group"])
    assert math.isnan(found.loc[("forum_fpr", ARM, "men"), "value"])
    assert found.loc[("forum_fpr", ARM, "men"), "reason"] == "no value in some trial"
    assert not math.isnan(found.loc[("forum_fpr", ARM, "women"), "value"])


def test_a_saturated_fpr_has_the_logit_gap_next_to_it(made_up):
    table = with_set(made_up("wiki", 12, 3)[0], lambda group, arm, seed: 0.0)
    rates = table[table["metric"] == "forum_fpr"]
    table = pd.concat([table, rates.assign(metric="forum_logit_gap", value=0.5)], ignore_index=True)
    found = evaluation_sets.outcomes(table, PRIMARY, ["forum"])
    assert [of["outcome"].iloc[0] for of in found] == ["forum_fpr", "forum_logit_gap", "forum_functionality_accuracy"]


def test_a_set_can_be_the_primary_outcome(table):
    """B and W are refused where its groups have no upstream bias, and A is not."""
    stated = {"wiki": {**PRIMARY["wiki"], "downstream": "forum_fpr"}}
    (first,) = slopes.outcomes(table, stated)
    found = slopes.estimate(first)
    assert found.loc[found["estimand"] == "A", "coefficient"].notna().all()
    assert found.loc[found["estimand"].isin(["B", "W"]), "coefficient"].isna().all()


def test_sets_about_the_tasks_own_groups_have_slopes(made_up):
    """A file in which the task's terms are the groups: x and z are those of the task."""
    table = made_up("wiki", 12, 3)[0].astype({"metric": str})
    same = table[table["metric"] == "fpr"].assign(metric="forum_fpr")
    (of_set,) = evaluation_sets.outcomes(pd.concat([table, same], ignore_index=True), PRIMARY, ["forum"])
    found = evaluation_sets.estimates(of_set)
    own = slopes.estimate(cells(table, PRIMARY))
    both = [
        frame.loc[(frame["estimand"] == "B") & (frame["term"] == "x"), "coefficient"].iloc[0] for frame in (found, own)
    ]
    assert both[0] == pytest.approx(both[1])


def test_outcomes_of_sets_are_known_by_their_names():
    assert outcome_named("forum_fpr").logs
    assert outcome_named("forum_fpr").label == "FPR on forum"
    assert "the evaluation set forum" in outcome_named("forum_fpr").meaning
    assert outcome_named("natural_fpr").label == "FPR on natural text"
    assert outcome_named("forum_functionality_accuracy").label == "accuracy per functionality of forum"
    assert outcome_named("forum_tpr_gap").compared == ("forum_tpr_she", "forum_tpr_he")
    assert RowContext("one", "A", "forum_accuracy").outcome.points
    assert not is_outcome("forum_mystery")


def test_an_outcome_outside_the_tables_enters_as_measured_if_anything_has_measured_it(made_up):
    table = made_up("wiki", 12, 3)[0].astype({"metric": str})
    primary = {"wiki": {**PRIMARY["wiki"], "downstream": "forum_mystery"}}
    with pytest.raises(UserError, match="unknown downstream metric for regressions 'forum_mystery'"):
        cells(table, primary)
    more = table[table["metric"] == "fpr"].assign(metric="forum_mystery")
    found = cells(pd.concat([table, more], ignore_index=True), primary)
    assert found["y"].notna().any()
    pd.testing.assert_series_equal(found["y"], found["y_rate"], check_names=False)
    assert outcome_named("forum_mystery").axis == "forum mystery (units)"


def test_sentences_name_the_set(table):
    fpr, _ = evaluation_sets.outcomes(table, PRIMARY, ["forum"])
    found = evaluation_sets.estimates(fpr)
    sentences = wording.sentences("coefficients", found[found["estimand"] == "A"])
    assert any(sentence.startswith(f"{ARM} changed FPR on forum by +") for sentence in sentences)
