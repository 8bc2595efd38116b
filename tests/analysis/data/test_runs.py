"""`load` and `tidy`, on sweeps made by hand, without an MLflow store."""

import pytest

from analysis.data import fetch
from analysis.data import runs as data_runs
from bias_transfer.errors import UserError
from bias_transfer.spec import Trial
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking import sweeps


@pytest.fixture
def sweep(monkeypatch, measured, primary):
    """(trials, finished ones, errors): the store answers with this sweep, in which every finished trial measured `rows`."""

    def build(trials, finished, failed=None):
        recorded = tuple(tracking_runs.Recorded(f"run {trial.id}", trial.id, 1) for trial in finished)
        runs = {run.trial: run.run_id for run in recorded}
        answer = sweeps.Sweep("small", "p", "small (n)", tuple(trials), primary, runs, failed or {}, recorded)
        monkeypatch.setattr(sweeps, "read", lambda *given: answer)
        monkeypatch.setattr(fetch, "measures", lambda *given: measured(finished))
        return answer

    return build


def test_the_table_has_one_row_per_trial_and_measure_with_the_trials_fields(sweep, new_trial, rows):
    trials = [new_trial(seed=seed, upstream="perturb", upstream_dose=0.5) for seed in (0, 1)]
    sweep(trials, trials)
    runs = data_runs.load("small")
    assert len(runs.table) == 2 * len(rows)
    assert not runs.missing
    columns = [
        "study",
        "trial",
        *data_runs.FIELDS,
        "replicate",
        "draw",
        "stage",
        "metric",
        "group",
        "template",
        "value",
        "n",
    ]
    assert list(runs.table.columns) == columns
    assert set(runs.table["arm"]) == {"perturb=0.5 + none"}
    assert set(runs.table["upstream_dose"]) == {0.5}
    assert set(runs.table["study"]) == {"wiki where tiny"}


def test_missing_trials_are_listed_and_refused(sweep, new_trial):
    trials = [new_trial(seed=seed) for seed in (0, 1, 2)]
    sweep(trials, trials[:1], {trials[2].id: "Traceback ...\nMemoryError: too big"})
    with pytest.raises(UserError) as refusal:
        data_runs.load("small")
    text = str(refusal.value)
    assert "2 of the 3 trials" in text
    assert all(trial.id in text and trial.name in text for trial in trials[1:])
    assert trials[0].id not in text
    assert "MemoryError: too big" in text
    assert "--allow-missing" in text
    assert "bias-transfer sweep" in text
    runs = data_runs.load("small", allow_missing=True)
    assert runs.missing == tuple(trials[1:])
    assert set(runs.table["trial"]) == {trials[0].id}


def test_the_list_of_missing_trials_is_cut(sweep, new_trial):
    trials = [new_trial(seed=seed) for seed in range(40)]
    sweep(trials, trials[:5])
    with pytest.raises(UserError, match=r"\.\.\. and 25 more"):
        data_runs.load("small")


def test_a_sweep_without_finished_trials_is_refused_even_if_trials_may_be_missing(sweep, new_trial):
    sweep([new_trial(seed=0)], [])
    with pytest.raises(UserError, match="none has finished yet"):
        data_runs.load("small", allow_missing=True)


def test_no_experiment_is_refused():
    with pytest.raises(UserError, match="at least one experiment"):
        data_runs.load([])


def test_studies_differ_in_settings_but_not_in_arm_or_seed(new_trial, measured):
    same = [new_trial(seed=1), new_trial(upstream="perturb", upstream_dose=1.0, options={"upstream.x": 2})]
    trials = [*same, new_trial(learning_rate=0.001, options={"metric.top_k": 5})]
    names = data_runs.tidy(trials, measured(trials)).drop_duplicates("trial")["study"].tolist()
    assert names[0] == names[1]
    assert names[2] == "wiki where tiny learning_rate=0.001 top_k=5"


def test_two_data_sets_of_the_same_name_are_two_studies(new_trial, measured):
    trials = [new_trial(), Trial(data="else/where", data_digest="e", model_digest="m")]
    assert data_runs.tidy(trials, measured(trials))["study"].nunique() == 2


def test_pre_training_seeds_are_repetitions_within_a_study(new_trial, measured):
    trials = [new_trial(seed=seed, options={"model.seed": model}) for model in (0, 1) for seed in (0, 1)]
    table = data_runs.tidy(trials, measured(trials))
    assert len(set(table["study"])) == 1
    assert table.drop_duplicates("trial")["seed"].tolist() == [0, 1, 2, 3]
    assert table.drop_duplicates("trial")["replicate"].tolist() == [0, 0, 1, 1]
    one_model = data_runs.tidy(trials[2:], measured(trials[2:]))
    assert one_model.drop_duplicates("trial")["seed"].tolist() == [0, 1]


def test_draws_of_an_arm_are_one_arm(new_trial, measured):
    def arms(*draws):
        dosed = {"upstream": "perturb", "upstream_dose": 0.5}
        trials = [new_trial(**dosed, options={"upstream.draw": draw} if draw >= 0 else {}) for draw in draws]
        return data_runs.tidy(trials, measured(trials)).drop_duplicates("trial")[["arm", "draw"]].to_numpy().tolist()

    assert arms(0, 7) == [["perturb=0.5(all draws) + none", 0], ["perturb=0.5(all draws) + none", 7]]
    assert arms(7) == [["perturb=0.5(draw=7) + none", 7]]
    assert arms(-1) == [["perturb=0.5 + none", data_runs.NO_DRAW]]
