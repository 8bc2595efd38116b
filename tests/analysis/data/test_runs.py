"""load and cells, on sweeps made by hand: no store is needed."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.data import fetch
from analysis.data import runs as data_runs
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking import sweeps
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
COLUMNS = ["trial", "stage", "metric", "group", "template", "value", "n"]


def trial(**fields):
    return Trial(data="some/where", data_digest="d", model_digest="m", **fields)


def measured(one, rows):
    return pd.DataFrame([(one.id, *row) for row in rows], columns=COLUMNS)


ROWS = [
    ("upstream", "negative_sentiment", "a", "t1", 0.1, 10),
    ("upstream", "negative_sentiment", "a", "t2", 0.3, 10),
    ("upstream", "negative_sentiment", "b", "t1", -0.2, 10),
    ("upstream", "negative_sentiment", "b", "t2", math.nan, 0),
    ("upstream", "masked_lm_loss", "", "", 3.0, 99),
    ("dataset", "toxic_share", "a", "", 0.25, 20),
    ("dataset", "toxic_share", "b", "", math.nan, 0),
    ("downstream", "fpr", "a", "", 0.5, 757),
    ("downstream", "fpr", "a", "hate", 1.0, 1),
    ("downstream", "fpr", "b", "", 0.0, 757),
    ("downstream", "fpr", "b", "hate", 0.0, 1),
]


@pytest.fixture
def sweep(monkeypatch):
    """(trials, finished ones, errors) -> the store answers with this sweep; every trial measured ROWS."""

    def build(trials, finished, failed=None):
        recorded = tuple(tracking_runs.Recorded(f"run {one.id}", one.id, 1) for one in finished)
        runs = {one.trial: one.run_id for one in recorded}
        found = sweeps.Sweep("small", "p", "small (n)", tuple(trials), PRIMARY, runs, failed or {}, recorded)
        monkeypatch.setattr(sweeps, "read", lambda *given: found)
        monkeypatch.setattr(fetch, "measures", lambda *given: pd.concat([measured(one, ROWS) for one in finished]))
        return found

    return build


def test_the_table_has_a_row_a_trial_and_measure_with_the_trials_fields(sweep):
    trials = [trial(seed=seed, upstream="perturb", upstream_dose=0.5) for seed in (0, 1)]
    sweep(trials, trials)
    runs = data_runs.load("small")
    assert len(runs.table) == 2 * len(ROWS)
    assert not runs.missing
    assert list(runs.table.columns) == ["study", "trial", *data_runs.FIELDS, *COLUMNS[1:]]
    assert set(runs.table["arm"]) == {"perturb=0.5 + none"}
    assert set(runs.table["upstream_dose"]) == {0.5}
    assert set(runs.table["study"]) == {"wiki where tiny"}


def test_a_missing_trial_is_named_and_refused(sweep):
    trials = [trial(seed=seed) for seed in (0, 1, 2)]
    sweep(trials, trials[:1], {trials[2].id: "Traceback ...\nMemoryError: too big"})
    with pytest.raises(UserError) as refusal:
        data_runs.load("small")
    text = str(refusal.value)
    assert "2 of the 3 trials" in text
    assert all(one.id in text and one.name in text for one in trials[1:])
    assert trials[0].id not in text
    assert "MemoryError: too big" in text
    assert "--allow-missing" in text
    assert "bias_transfer.sweep" in text
    runs = data_runs.load("small", allow_missing=True)
    assert runs.missing == tuple(trials[1:])
    assert set(runs.table["trial"]) == {trials[0].id}


def test_many_missing_trials_are_counted_not_poured_out(sweep):
    trials = [trial(seed=seed) for seed in range(40)]
    sweep(trials, trials[:5])
    with pytest.raises(UserError, match=r"\.\.\. and 25 more"):
        data_runs.load("small")


def test_no_finished_trial_is_refused_even_when_missing_ones_are_allowed(sweep):
    trials = [trial(seed=0)]
    sweep(trials, [])
    with pytest.raises(UserError, match="none has finished yet"):
        data_runs.load("small", allow_missing=True)


def test_studies_are_parted_by_settings_and_not_by_arm_or_seed():
    same = [trial(seed=1), trial(upstream="perturb", upstream_dose=1.0, options={"upstream.x": 2})]
    other = trial(learning_rate=0.001, options={"metric.top_k": 5})
    table = data_runs.tidy([*same, other], pd.concat([measured(one, ROWS) for one in [*same, other]]))
    names = table.drop_duplicates("trial")["study"].tolist()
    assert names[0] == names[1]
    assert names[2] == "wiki where tiny learning_rate=0.001 top_k=5"


def test_two_data_sets_of_one_name_are_two_studies():
    trials = [trial(), Trial(data="else/where", data_digest="e", model_digest="m")]
    table = data_runs.tidy(trials, pd.concat([measured(one, ROWS) for one in trials]))
    assert table["study"].nunique() == 2


@pytest.fixture
def cells():
    one = trial()
    return data_runs.cells(data_runs.tidy([one], measured(one, ROWS)), PRIMARY).set_index("group")


def test_cells_by_hand(cells):
    assert len(cells) == 2
    a = cells.loc["a"]
    assert a["x"] == pytest.approx(0.2)
    assert a["z"] == pytest.approx(math.log(5.5 / 15.5))
    assert a["z_log"] == pytest.approx(math.log(5.5 / 20.5))
    assert (a["z_level"], a["z_n"], a["y_n"]) == (0.25, 20, 757)
    assert a["y_rate"] == 0.5  # pooled: the row of the family is not mixed in
    assert a["y"] == pytest.approx(math.log((round(0.5 * 757) + 0.5) / 757.5))
    assert cells.loc["b", "y"] == pytest.approx(math.log(0.5 / 757.5))


def test_a_group_that_is_never_mentioned_is_missing_and_thin_not_0(cells):
    b = cells.loc["b"]
    assert np.isnan([b["z"], b["z_log"], b["z_level"]]).all()
    assert b["z_n"] == 0
    assert b["thin"]
    assert not cells.loc["a", "thin"]
    assert np.isnan(b["x"])  # one of its templates is missing: a mean of the rest would be another measure


def test_a_group_that_one_arm_makes_thin_is_thin_in_all_arms():
    none, scrub = trial(), trial(downstream="scrub", downstream_dose=1.0)
    fewer = [
        ("dataset", "toxic_share", "a", "", 0.0, 4) if row[:3] == ("dataset", "toxic_share", "a") else row
        for row in ROWS
    ]
    table = data_runs.tidy([none, scrub], pd.concat([measured(none, ROWS), measured(scrub, fewer)]))
    assert data_runs.cells(table, PRIMARY)["thin"].all()
    assert data_runs.cells(table, PRIMARY, least=4).set_index("group")["thin"].to_dict() == {"a": False, "b": True}


def test_logs_of_few_phrases_are_not_given():
    rates, n = pd.Series([0.5, 0.5, 0.0, 1.0]), pd.Series([99, 100, 757, 757])
    found = data_runs.log_rate(rates, n)
    assert np.isnan(found[0])
    assert np.isfinite(found[1:]).all()
    assert found[3] == 0.0


def test_a_metric_that_regressions_do_not_know_is_refused_with_the_nearest():
    one = trial()
    primary = {"wiki": {**PRIMARY["wiki"], "downstream": "fprr"}}
    with pytest.raises(UserError, match="Did you mean 'fpr'"):
        data_runs.cells(data_runs.tidy([one], measured(one, ROWS)), primary)


def test_pre_training_seeds_are_repetitions_of_one_study():
    trials = [trial(seed=seed, options={"model.seed": model}) for model in (0, 1) for seed in (0, 1)]
    table = data_runs.tidy(trials, pd.concat([measured(one, ROWS) for one in trials]))
    assert len(set(table["study"])) == 1
    assert table.drop_duplicates("trial")["seed"].tolist() == [0, 1, 2, 3]
    alone = data_runs.tidy(trials[2:], pd.concat([measured(one, ROWS) for one in trials[2:]]))
    assert alone.drop_duplicates("trial")["seed"].tolist() == [0, 1]


def test_sets_that_name_no_group_leave_none_out(cells):
    """Else nothing could be regressed on upstream bias where downstream bias can come from nowhere else."""
    assert cells.loc["b", "thin"]
    assert not cells.loc["a", "thin"]
    unnamed = [(*row[:4], math.nan, 0) if row[0] == "dataset" else row for row in ROWS]
    assert not data_runs.cells(data_runs.tidy([trial()], measured(trial(), unnamed)), PRIMARY)["thin"].any()
