"""What is read from the tables is what MLflow answers."""

from __future__ import annotations

from bias_transfer.tracking import recorder
from bias_transfer.tracking import store as tracking_store
from bias_transfer.spec import Trial
from bias_transfer.tracking import sql

TRIAL, OTHER = (Trial(seed=seed, data_digest="d", model_digest="m") for seed in range(2))


def test_a_trial_has_a_run_from_its_start_in_its_own_experiment(new_store: str) -> None:
    client = tracking_store.connect(new_store)
    here, there = (tracking_store.open_experiment(client, name) for name in ("here", "there"))
    store = sql.database(client)
    assert not sql.has_run(store, here, TRIAL.id)
    run = recorder.start(client, "here", TRIAL)
    assert sql.has_run(store, here, TRIAL.id)
    assert not sql.has_run(store, here, OTHER.id)
    assert not sql.has_run(store, there, TRIAL.id)
    assert recorder.start(client, "here", TRIAL) == run  # found again
    assert sql.finished_runs(store, here) == []
    client.set_terminated(run, "FINISHED")
    ((run_id, trial, ended, artifacts),) = sql.finished_runs(store, here)
    info = client.get_run(run).info
    assert (run_id, trial, ended, artifacts) == (run, TRIAL.id, info.end_time, info.artifact_uri)
    client.delete_run(run)
    assert sql.finished_runs(store, here) == []
    assert recorder.start(client, "here", TRIAL) != run


def test_files_lie_where_mlflow_says(new_store: str) -> None:
    client = tracking_store.connect(new_store)
    run = recorder.start(client, "here", TRIAL)
    assert sql.artifacts_of(sql.database(client), run) == client.get_run(run).info.artifact_uri
    assert sql.artifacts_of(sql.database(client), "nowhere") is None


def test_a_server_has_no_tables() -> None:
    assert sql.database(tracking_store.client_of("http://127.0.0.1:9")) is None
