"""What is recorded is there once, and is found again by the trial's id."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from bias_transfer.tracking import recorder
from bias_transfer.tracking import results as tracking_results
from bias_transfer.tracking import runs
from bias_transfer.tracking import store
from bias_transfer.tracking import sweeps
from bias_transfer.spec import AnalysisPlan
from bias_transfer.spec import Measure
from bias_transfer.spec import Step
from bias_transfer.spec import Trial
from bias_transfer.spec import TrialResult
from bias_transfer.errors import UserError
from bias_transfer.tracking import runs
from bias_transfer.tracking import store
from bias_transfer.tracking import sql
from bias_transfer.tracking.together import together

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}


def result(seed: int = 0) -> TrialResult:
    trial = Trial(seed=seed, data_digest="d", model_digest="m", learning_rate=1e-3, options={"data.size": 300})
    return TrialResult(
        trial=trial,
        measures=(
            Measure("downstream", "fpr", "deaf", "", 0.1 + 0.2, 757),
            Measure("dataset", "toxic_share", "sikh", "", math.nan, 0),
        ),
        curve=(Step(10, 0.7, 1e-3), Step(20, 0.6, 5e-4)),
        headline={"roc_auc": 0.9, "downstream_sd": math.nan},
        facts={"digest.train": "abc", "examples.train": 300},
        warnings=("a warning",),
        seconds={"finetune": 1.234},
    )


@pytest.fixture
def uri(new_store: str) -> str:
    return new_store


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    """URI of a store that is not there."""
    return f"sqlite:///{tmp_path / 'nowhere.db'}"


def record(uri: str, *results: TrialResult, experiment: str = "wiki_small") -> str:
    client = store.connect(uri)
    parent = sweeps.open_sweep(client, experiment, [one.trial for one in results], PRIMARY)
    for one in results:
        recorder.record(client, recorder.start(client, experiment, one.trial, parent), one)
    return parent


def test_measures_come_back_bit_for_bit_and_missing_stays_missing(uri: str) -> None:
    record(uri, result())
    found = sweeps.measures(sweeps.read("wiki_small", uri=uri), uri)
    pd.testing.assert_frame_equal(found, tracking_results.long_table(result()), check_exact=True)
    assert found.value[0] == 0.1 + 0.2
    assert math.isnan(found.value[1])


def test_a_run_started_again_is_the_same_run_with_no_value_twice(uri: str) -> None:
    parent = record(uri, result())
    first = sweeps.read("wiki_small", uri=uri)
    slower = dataclasses.replace(result(), seconds={"finetune": 9.9})
    assert record(uri, slower) == parent
    again = sweeps.read("wiki_small", uri=uri)
    assert again.runs == first.runs
    client = store.connect(uri)
    (run_id,) = again.runs.values()
    for name in ("roc_auc", "training/loss", "training/learning_rate"):
        points = [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
        assert len(points) == len(set(points)) == len({step for step, _ in points})
    assert client.get_run(run_id).data.tags["seconds.finetune"] == "9.90"
    assert "downstream_sd" not in client.get_run(run_id).data.metrics


def test_the_long_table_is_that_of_its_rows():
    slow = pd.DataFrame([dataclasses.asdict(measure) for measure in result().measures])
    slow.insert(0, "trial", result().trial.id)
    pd.testing.assert_frame_equal(tracking_results.long_table(result()), slow, check_exact=True)
    assert tuple(tracking_results.long_table(result())) == tracking_results.MEASURE_COLUMNS


def test_a_record_is_all_in_a_sqlite_store_or_nothing_of_it(uri: str) -> None:
    client = store.connect(uri)
    run_id = recorder.start(client, "wiki_small", result().trial)
    broken = dataclasses.replace(result(), headline={"roc_auc": 0.9, "no/\\such*name": 1.0})
    with pytest.raises(MlflowException, match="Invalid value"):
        recorder.record(client, run_id, broken)
    run = client.get_run(run_id)
    assert (run.info.status, run.data.params, run.data.metrics) == ("RUNNING", {}, {})
    assert not run.inputs.dataset_inputs
    recorder.record(client, run_id, result())
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics["roc_auc"], len(run.inputs.dataset_inputs)) == ("FINISHED", 0.9, 1)
    assert run.data.params["seed"] == "0"


def test_who_writes_while_a_record_is_written_waits_for_it(uri: str) -> None:
    """Two that had read before they write would be refused by SQLite, and lose a second each."""
    client = store.connect(uri)
    own, other = (recorder.start(client, "wiki_small", result(seed).trial) for seed in range(2))
    begun, tell = threading.Event(), threading.Thread(target=lambda: (begun.set(), client.set_tag(other, "a", "b")))
    with together(client) as writer:
        assert writer.get_run(own).info.status == "RUNNING"
        tell.start()
        begun.wait()
        writer.set_tag(own, "a", "b")
        assert writer.get_run(own).data.tags["a"] == "b"
        assert "a" not in store.connect(uri).get_run(own).data.tags
    tell.join()
    assert all(client.get_run(run_id).data.tags["a"] == "b" for run_id in (own, other))


def test_a_long_name_is_cut_to_what_every_store_takes(uri: str) -> None:
    client = store.connect(uri)
    for _ in range(2):
        run = client.get_run(recorder.start(client, "one", result().trial, name="data.size=300 " * 100))
        assert 200 < len(run.info.run_name) <= 250
        assert run.data.tags["mlflow.runName"] == run.info.run_name


def test_a_changed_value_would_be_seen_as_a_second_one(uri: str) -> None:
    """The control of the test above: its check fails where a value is recorded twice."""
    record(uri, result())
    record(uri, dataclasses.replace(result(), headline={"roc_auc": 0.8}))
    client = store.connect(uri)
    (run_id,) = sweeps.read("wiki_small", uri=uri).runs.values()
    assert len(client.get_metric_history(run_id, "roc_auc")) == 2


def test_another_grid_is_another_sweep_that_keeps_what_is_done(uri: str) -> None:
    first = record(uri, result(0))
    second = record(uri, result(0), result(1))
    assert first != second
    latest = sweeps.read("wiki_small", uri=uri)
    assert latest.run_id == second
    assert len(latest.runs) == 2
    assert len(sweeps.read("wiki_small", first, uri).trials) == 1
    with pytest.raises(UserError, match="unknown sweep"):
        sweeps.read("wiki_small", "nowhere", uri)


def test_the_plan_of_the_first_start_is_kept(uri: str) -> None:
    """A margin that is changed when results may have been seen is not one that was stated beforehand."""
    client, trials = store.connect(uri), [result().trial]
    sweeps.open_sweep(client, "wiki_small", trials, PRIMARY, AnalysisPlan(margin_slope=0.1))
    sweeps.open_sweep(client, "wiki_small", trials, PRIMARY, AnalysisPlan(margin_slope=0.9))
    assert sweeps.read("wiki_small", uri=uri).plan == AnalysisPlan(margin_slope=0.1)


def test_a_failed_trial_keeps_its_error_until_it_finishes(uri: str) -> None:
    client = store.connect(uri)
    trial = result().trial
    sweeps.open_sweep(client, "wiki_small", [trial], PRIMARY)
    recorder.fail(client, recorder.start(client, "wiki_small", trial), "OutOfMemoryError: no room")
    assert sweeps.read("wiki_small", uri=uri).failed == {trial.id: "OutOfMemoryError: no room"}
    record(uri, result())
    found = sweeps.read("wiki_small", uri=uri)
    assert not found.failed
    assert set(found.runs) == {trial.id}


def test_a_run_whose_process_is_gone_is_ended_by_the_driver(uri: str) -> None:
    client = store.connect(uri)
    stopped, other, never = (result(seed).trial for seed in (0, 1, 2))
    started = {trial.id: recorder.start(client, "wiki_small", trial) for trial in (stopped, other)}
    recorder.interrupt(client, "wiki_small", {stopped.id, never.id})
    assert client.get_run(started[stopped.id]).info.status == "KILLED"
    assert client.get_run(started[other.id]).info.status == "RUNNING"


def test_a_run_that_was_made_twice_is_left_once(uri: str) -> None:
    """A server that answers too late is asked again: the trial then has a second run, in which nothing happens."""
    record(uri, result())
    client = store.connect(uri)
    experiment = store.open_experiment(client, "wiki_small")
    tags = {store.KIND: "trial", store.TRIAL: result().trial.id}
    twin = client.create_run(experiment, tags=tags).info.run_id
    before = runs.finished(client, "wiki_small")
    recorder.interrupt(client, "wiki_small", {result().trial.id})
    assert runs.finished(client, "wiki_small") == before
    assert client.get_run(twin).info.lifecycle_stage == "deleted"


def test_a_deleted_run_is_not_done(uri: str) -> None:
    record(uri, result())
    client = store.connect(uri)
    (run_id,) = runs.finished(client, "wiki_small").values()
    client.delete_run(run_id)
    assert not runs.finished(client, "wiki_small")


def test_no_store_no_file(nowhere: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs yet"):
        sweeps.read("wiki_small", uri=nowhere)
    assert not list(tmp_path.iterdir())


def test_who_reads_a_store_that_is_being_made_waits_for_it(nowhere: str) -> None:
    """As `status` in a second terminal does: without waiting, each would migrate the new file, and break it."""
    making = [sys.executable, "-c", f"from bias_transfer import tracking; tracking.connect({nowhere!r}, create=True)"]
    with subprocess.Popen(making) as driver:
        while not store.exists(nowhere):
            assert driver.poll() is None
            time.sleep(0.01)
        assert store.connect(nowhere).search_experiments()
    assert driver.returncode == 0


def test_passwords_are_not_shown() -> None:
    assert store.shown("postgresql://me:secret@db:5432/runs") == "postgresql://db:5432/runs"
    assert store.shown("sqlite:////a@b/runs.db") == "sqlite:////a@b/runs.db"


def ended(uri: str) -> list[runs.Recorded]:
    return runs.listed(store.connect(uri), "1", runs.DONE)


def test_the_tables_say_what_a_search_says(uri: str) -> None:
    record(uri, result(0), result(1))
    client = store.connect(uri)
    recorder.start(client, "wiki_small", result(2).trial)
    recorder.fail(client, recorder.start(client, "wiki_small", result(3).trial), "no room")
    found = [runs.Recorded(*row) for row in sql.finished_runs(sql.database(client), "1")]
    assert sorted(found, key=str) == sorted(ended(uri), key=str)
    assert {row.trial for row in found} == {result(0).trial.id, result(1).trial.id}
    assert all(row.ended > 1e12 for row in found)


def test_what_changed_since_is_all_that_a_server_needs_to_tell(uri: str) -> None:
    record(uri, *(result(seed) for seed in range(4)))
    client = store.connect(uri)
    known = ended(uri)
    client.delete_run(runs.finished(client, "wiki_small")[result(0).trial.id])
    recorder.start(client, "wiki_small", result(1).trial)  # started again, not ended
    record(uri, result(2), result(9))  # ended again, and new
    found = runs.changed(client, "1", known)
    assert sorted(found, key=str) == sorted(ended(uri), key=str)
    assert {row.trial for row in found} == {result(seed).trial.id for seed in (2, 3, 9)}
    assert len(found) == 3


def test_headlines_are_those_of_the_trials_that_are_asked_for_in_their_order(uri: str) -> None:
    record(uri, *(result(seed) for seed in range(4)))
    client = store.connect(uri)
    frame = tracking_results.headlines(client, "wiki_small", [result(seed).trial for seed in (3, 9, 0)])
    assert list(frame.seed) == [3, 0]
    assert list(frame.id) == [result(3).trial.id, result(0).trial.id]
    assert dict(frame.iloc[0][["roc_auc", "warnings"]]) == {"roc_auc": 0.9, "warnings": ("a warning",)}
    assert not [name for name in frame if name.startswith("training/")]
    assert tracking_results.headlines(client, "none", [result().trial]).empty


def test_a_search_gives_the_runs_of_all_pages(uri: str) -> None:
    record(uri, *(result(seed) for seed in range(5)))
    client, asked = store.connect(uri), []

    class InTwos:
        def search_runs(self, ids, query, view, max_results, page_token):
            asked.append(page_token)
            return client.search_runs(ids, query, view, max_results=2, page_token=page_token)

    whole = [run.info.run_id for run in client.search_runs(["1"])]
    assert [run.info.run_id for run in store.search(InTwos(), "1", "")] == whole
    assert (len(whole), len(asked)) == (6, 3)
