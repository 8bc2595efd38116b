"""What is recorded is there exactly once, and is found again by the trial's id."""

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

from bias_transfer.errors import UserError
from bias_transfer.spec import AnalysisPlan, Label, Measure, Step, Trial, TrialResult
from bias_transfer.tracking import recorder, runs, sql, store, sweeps
from bias_transfer.tracking import results as tracking_results
from bias_transfer.tracking.sql import together

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
        facts={"digest.train": "abc", "examples.train": 300, "version.torch": "2.9.1", "version.scikit-learn": "1.7.2"},
        warnings=("a warning",),
        seconds={"finetune": 1.234},
    )


@pytest.fixture
def uri(new_store: str) -> str:
    return new_store


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    """URI of a SQLite file that does not exist."""
    return f"sqlite:///{tmp_path / 'nowhere.db'}"


def record(uri: str, *results: TrialResult, experiment: str = "wiki_small") -> str:
    client = store.connect(uri)
    parent = sweeps.open_sweep(client, experiment, [result.trial for result in results], PRIMARY)
    for result in results:
        recorder.record(client, recorder.start(client, experiment, result.trial, parent), result)
    return parent


def test_measures_come_back_bit_for_bit_and_missing_stays_missing(uri: str) -> None:
    record(uri, result())
    found = sweeps.measures(sweeps.read("wiki_small", uri=uri), uri)
    pd.testing.assert_frame_equal(found, tracking_results.long_table(result()), check_exact=True)
    assert found.value[0] == 0.1 + 0.2
    assert math.isnan(found.value[1])


def test_a_place_of_artifacts_that_cannot_be_written_is_found_before_the_first_trial(
    uri, tmp_path, monkeypatch
) -> None:
    client = store.connect(uri)
    store.check_artifacts(client, "writable")
    (root,) = {client.get_experiment_by_name("writable").artifact_location}
    assert not [*Path(root.removeprefix("file://")).iterdir()], "nothing is left there"
    (tmp_path / "a file").touch()
    client.create_experiment("nowhere", str(tmp_path / "a file" / "artifacts"))
    with pytest.raises(
        UserError, match=r"artifacts of the experiment 'nowhere' cannot be written to .*a file/artifacts"
    ):
        store.check_artifacts(client, "nowhere", patience=60)

    def refuse(place: str, tracking_uri: str) -> None:
        raise RuntimeError("Unable to locate credentials")

    monkeypatch.setattr(store, "get_artifact_repository", refuse)
    client.create_experiment("bucket", "s3://name:secret@bucket/artifacts")
    with pytest.raises(
        UserError, match=r"cannot be written to s3://bucket/artifacts \(RuntimeError\).* credentials for it"
    ):
        store.check_artifacts(client, "bucket")


def test_kept_predictions_are_an_artifact_of_their_run(uri: str) -> None:
    record(uri, result(), dataclasses.replace(result(1), predictions=b"a Parquet file"))
    client = store.connect(uri)
    kept = result(1).trial.id
    assert runs.with_predictions(client, "wiki_small") == {kept}
    (run,) = [run for run in sweeps.read("wiki_small", uri=uri).recorded if run.trial == kept]
    assert tracking_results.artifact(client, run.run_id, run.artifacts, store.PREDICTIONS) == b"a Parquet file"


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


def test_the_long_table_has_a_row_per_measure():
    slow = pd.DataFrame([dataclasses.asdict(measure) for measure in result().measures])
    slow.insert(0, "trial", result().trial.id)
    pd.testing.assert_frame_equal(tracking_results.long_table(result()), slow, check_exact=True)
    assert tuple(tracking_results.long_table(result())) == tracking_results.MEASURE_COLUMNS


def test_a_result_is_recorded_whole_or_not_at_all_with_sqlite(uri: str) -> None:
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


def test_a_writer_waits_while_another_records_a_result(uri: str) -> None:
    """SQLite would refuse two that have both read before they write, and each would lose a second."""
    client = store.connect(uri)
    first, second = (recorder.start(client, "wiki_small", result(seed).trial) for seed in range(2))
    begun, thread = threading.Event(), threading.Thread(target=lambda: (begun.set(), client.set_tag(second, "a", "b")))
    with together(client) as writer:
        assert writer.get_run(first).info.status == "RUNNING"
        thread.start()
        begun.wait()
        writer.set_tag(first, "a", "b")
        assert writer.get_run(first).data.tags["a"] == "b"
        assert "a" not in store.connect(uri).get_run(first).data.tags
    thread.join()
    assert all(client.get_run(run_id).data.tags["a"] == "b" for run_id in (first, second))


def test_a_long_run_name_is_cut_to_what_every_database_takes(uri: str) -> None:
    client = store.connect(uri)
    for _ in range(2):
        run = client.get_run(recorder.start(client, "one", result().trial, name="data.size=300 " * 100))
        assert 200 < len(run.info.run_name) <= 250
        assert run.data.tags["mlflow.runName"] == run.info.run_name


def test_a_changed_value_would_be_a_second_point(uri: str) -> None:
    """The control of the check above: it fails where a value is recorded twice."""
    record(uri, result())
    record(uri, dataclasses.replace(result(), headline={"roc_auc": 0.8}))
    client = store.connect(uri)
    (run_id,) = sweeps.read("wiki_small", uri=uri).runs.values()
    assert len(client.get_metric_history(run_id, "roc_auc")) == 2


def test_another_grid_is_another_sweep_with_the_finished_trials_of_the_first(uri: str) -> None:
    first = record(uri, result(0))
    second = record(uri, result(0), result(1))
    assert first != second
    latest = sweeps.read("wiki_small", uri=uri)
    assert latest.run_id == second
    assert len(latest.runs) == 2
    assert len(sweeps.read("wiki_small", first, uri).trials) == 1
    with pytest.raises(UserError, match="unknown sweep"):
        sweeps.read("wiki_small", "nowhere", uri)


def test_the_analysis_plan_is_that_of_the_first_start(uri: str) -> None:
    """A margin that is changed when results may have been seen was not stated beforehand."""
    client, trials = store.connect(uri), [result().trial]
    first, later = (AnalysisPlan(margins={"wiki": {"fpr": {"slope_sd": margin}}}) for margin in (0.1, 0.9))
    sweeps.open_sweep(client, "wiki_small", trials, PRIMARY, first)
    sweeps.open_sweep(client, "wiki_small", trials, PRIMARY, later)
    sweep = sweeps.read("wiki_small", uri=uri)
    assert (sweep.plan, sweep.obsolete_margins) == (first, False)


def test_a_plan_with_margins_of_the_old_form_is_a_plan_without_margins(uri: str, monkeypatch) -> None:
    """One raw number for all outcomes: sweeps that recorded it can be read, and it counts as no margin."""
    client, trials = store.connect(uri), [result().trial]
    old = {"primary": {"wiki": "fpr"}, "margin_slope": 0.1, "margin_arms": 0.25}
    monkeypatch.setattr(AnalysisPlan, "model_dump", lambda *given, **named: old)
    sweeps.open_sweep(client, "wiki_small", trials, PRIMARY, AnalysisPlan())
    monkeypatch.undo()
    sweep = sweeps.read("wiki_small", uri=uri)
    assert (sweep.plan, sweep.obsolete_margins) == (AnalysisPlan(primary={"wiki": "fpr"}), True)


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


def test_the_driver_ends_the_runs_whose_processes_are_gone(uri: str) -> None:
    client = store.connect(uri)
    stopped, other, never = (result(seed).trial for seed in (0, 1, 2))
    started = {trial.id: recorder.start(client, "wiki_small", trial) for trial in (stopped, other)}
    recorder.interrupt(client, "wiki_small", {stopped.id, never.id})
    assert client.get_run(started[stopped.id]).info.status == "KILLED"
    assert client.get_run(started[other.id]).info.status == "RUNNING"


def test_of_a_trials_two_runs_the_unfinished_one_is_deleted(uri: str) -> None:
    """MLflow's client asks a server that answers late again: the trial then has a second run, in which nothing happens."""
    record(uri, result())
    client = store.connect(uri)
    experiment = store.open_experiment(client, "wiki_small")
    tags = {store.KIND: "trial", store.TRIAL: result().trial.id}
    twin = client.create_run(experiment, tags=tags).info.run_id
    before = runs.finished(client, "wiki_small")
    recorder.interrupt(client, "wiki_small", {result().trial.id})
    assert runs.finished(client, "wiki_small") == before
    assert client.get_run(twin).info.lifecycle_stage == "deleted"


def test_the_trial_of_a_deleted_run_is_not_finished(uri: str) -> None:
    record(uri, result())
    client = store.connect(uri)
    (run_id,) = runs.finished(client, "wiki_small").values()
    client.delete_run(run_id)
    assert not runs.finished(client, "wiki_small")


def test_reading_creates_no_sqlite_file(nowhere: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs yet"):
        sweeps.read("wiki_small", uri=nowhere)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_reader_waits_while_the_sqlite_file_is_created(nowhere: str) -> None:
    """For example `status` in a second terminal: without waiting, both would migrate the new file and break it."""
    making = [
        sys.executable,
        "-c",
        f"from bias_transfer.tracking import store; store.connect({nowhere!r}, create=True)",
    ]
    with subprocess.Popen(making) as driver:
        while not store.exists(nowhere):
            assert driver.poll() is None
            time.sleep(0.01)
        assert store.connect(nowhere).search_experiments()
    assert driver.returncode == 0


def ended(uri: str) -> list[runs.Recorded]:
    return runs.listed(store.connect(uri), "1", runs.DONE)


def test_the_tables_give_the_runs_that_a_search_gives(uri: str) -> None:
    record(uri, result(0), result(1))
    client = store.connect(uri)
    recorder.start(client, "wiki_small", result(2).trial)
    recorder.fail(client, recorder.start(client, "wiki_small", result(3).trial), "no room")
    found = [runs.Recorded(*row) for row in sql.finished_runs(sql.database(client), "1")]
    assert sorted(found, key=str) == sorted(ended(uri), key=str)
    assert {row.trial for row in found} == {result(0).trial.id, result(1).trial.id}
    assert all(row.ended > 1e12 for row in found)


def test_the_changes_of_a_server_complete_an_earlier_list(uri: str) -> None:
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


def test_headlines_have_the_order_of_the_trials_that_are_asked_for(uri: str) -> None:
    record(uri, *(result(seed) for seed in range(4)))
    client = store.connect(uri)
    frame = tracking_results.headlines(client, "wiki_small", [result(seed).trial for seed in (3, 9, 0)])
    assert list(frame.seed) == [3, 0]
    assert list(frame.id) == [result(3).trial.id, result(0).trial.id]
    assert dict(frame.iloc[0][["roc_auc", "warnings"]]) == {"roc_auc": 0.9, "warnings": ("a warning",)}
    assert not [name for name in frame if name.startswith("training/")]
    assert tracking_results.headlines(client, "none", [result().trial]).empty


def test_package_versions_are_tags_of_a_run_and_come_back_by_trial(uri: str) -> None:
    record(uri, result(0), dataclasses.replace(result(1), facts={"digest.train": "abc"}))
    asked = [result(seed).trial for seed in (0, 1, 9)]
    found = tracking_results.versions(store.connect(uri), "wiki_small", asked)
    assert found == {asked[0].id: {"torch": "2.9.1", "scikit-learn": "1.7.2"}, asked[1].id: {}}
    assert tracking_results.versions(store.connect(uri), "none", asked) == {}


def test_a_search_reads_all_pages(uri: str) -> None:
    record(uri, *(result(seed) for seed in range(5)))
    client, asked = store.connect(uri), []

    class InTwos:
        def search_runs(self, ids, query, view, max_results, page_token):
            asked.append(page_token)
            return client.search_runs(ids, query, view, max_results=2, page_token=page_token)

    whole = [run.info.run_id for run in client.search_runs(["1"])]
    assert [run.info.run_id for run in store.search(InTwos(), "1", "")] == whole
    assert (len(whole), len(asked)) == (6, 3)


def test_a_sweep_keeps_how_its_trials_are_shown(uri):
    client = store.connect(uri, create=True)
    trials = [result(seed).trial for seed in range(2)]
    labels = {trial.id: Label(f"short s{trial.seed}", "short", "wiki tiny") for trial in trials}
    parent = sweeps.open_sweep(client, "labelled", trials, PRIMARY, labels=labels)
    assert sweeps.read("labelled", uri=uri).labels == labels
    run = recorder.start(client, "labelled", trials[0], parent, "short s0", "short")
    recorder.record(client, run, result(0))
    assert client.get_run(run).data.tags["arm"] == "short"
    (row,) = tracking_results.headlines(client, "labelled", trials, labels).to_dict("records")
    assert (row["arm"], row["setting"]) == ("short", "wiki tiny")
    sweeps.open_sweep(client, "older", trials, PRIMARY)
    assert sweeps.read("older", uri=uri).labels == {trial.id: trial.label for trial in trials}
