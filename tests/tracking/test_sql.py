"""The tables say what MLflow's own client says."""

from __future__ import annotations

from bias_transfer.spec import Trial
from bias_transfer.tracking import recorder, sql
from bias_transfer.tracking import store as tracking_store

TRIAL, OTHER = (Trial(seed=seed, data_digest="d", model_digest="m") for seed in range(2))


def test_a_trial_has_a_run_in_its_experiment_from_its_start_until_it_is_deleted(new_store: str) -> None:
    client = tracking_store.connect(new_store)
    first, second = (tracking_store.open_experiment(client, name) for name in ("first", "second"))
    store = sql.database(client)
    assert not sql.has_run(store, first, TRIAL.id)
    run = recorder.start(client, "first", TRIAL)
    assert sql.has_run(store, first, TRIAL.id)
    assert not sql.has_run(store, first, OTHER.id)
    assert not sql.has_run(store, second, TRIAL.id)
    assert recorder.start(client, "first", TRIAL) == run
    assert sql.finished_runs(store, first) == []
    client.set_terminated(run, "FINISHED")
    ((run_id, trial, ended, artifacts),) = sql.finished_runs(store, first)
    info = client.get_run(run).info
    assert (run_id, trial, ended, artifacts) == (run, TRIAL.id, info.end_time, info.artifact_uri)
    client.delete_run(run)
    assert sql.finished_runs(store, first) == []
    assert recorder.start(client, "first", TRIAL) != run


def test_the_artifact_uri_is_the_one_that_mlflow_gives(new_store: str) -> None:
    client = tracking_store.connect(new_store)
    run = recorder.start(client, "first", TRIAL)
    assert sql.artifacts_of(sql.database(client), run) == client.get_run(run).info.artifact_uri
    assert sql.artifacts_of(sql.database(client), "nowhere") is None


def test_the_tables_of_a_server_are_out_of_reach() -> None:
    assert sql.database(tracking_store.client_of("http://127.0.0.1:9")) is None
