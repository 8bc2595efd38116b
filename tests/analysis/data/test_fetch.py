"""How `load` fetches measures: what is fetched, what is cached, and when a cached run is no longer used."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from analysis.data import fetch
from analysis.data import runs as data_runs
from bias_transfer.errors import UserError
from bias_transfer.spec import Measure, Trial, TrialResult
from bias_transfer.tracking import recorder, store, sweeps
from bias_transfer.tracking import results as tracking_results
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking.runs import listed

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
GROUPS = ("deaf", "sikh", "old")


def result(seed, value=0.5):
    trial = Trial(seed=seed, data_digest="d", model_digest="m")
    measures = [Measure("downstream", "fpr", group, "", value + seed + g / 7, 757) for g, group in enumerate(GROUPS)]
    missing = Measure("dataset", "toxic_share", "sikh", "", float("nan"), 0)
    return TrialResult(trial, (*measures, missing), (), {}, {"digest.train": "abc"})


def record(uri, experiment, results):
    client = store.connect(uri, create=True)
    parent = sweeps.open_sweep(client, experiment, [each.trial for each in results], PRIMARY)
    for each in results:
        recorder.record(client, recorder.start(client, experiment, each.trial, parent), each)
    sweeps.close_sweep(client, parent, True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The database of a store: experiment `one` has seeds 0 to 3, `two` has 3 to 5."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    record(f"sqlite:///{file}", "one", [result(seed) for seed in range(4)])
    record(f"sqlite:///{file}", "two", [result(seed) for seed in range(3, 6)])
    return file


@pytest.fixture
def uri(recorded, tmp_path):
    """A copy of the store with its files, which a test may change."""
    copy = shutil.copytree(recorded.parent, tmp_path / "store")
    with contextlib.closing(sqlite3.connect(copy / recorded.name)) as tables, tables:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            moved = f"UPDATE {table} SET {column} = replace({column}, '{recorded.parent}', '{copy}')"
            tables.execute(moved)
    return f"sqlite:///{copy / recorded.name}"


@pytest.fixture
def asked(monkeypatch):
    """The runs whose measures were requested from the store."""
    runs, real = list[str](), tracking_results.artifact

    def artifact(client, run_id, artifacts, name):
        if name == store.MEASURES:
            runs.append(run_id)
        return real(client, run_id, artifacts, name)

    monkeypatch.setattr(tracking_results, "artifact", artifact)
    return runs


@pytest.fixture
def read(uri, tmp_path):
    """(experiment) -> its Runs, read with a cache that only this test uses."""
    return lambda experiment="one": data_runs.load(experiment, uri=uri, cache=tmp_path / "cache")


def cache_file(folder):
    (file,) = (folder / "cache" / "measures").iterdir()
    return file


def test_parallel_requests_give_the_same_frame_as_serial_ones(read, uri):
    serial = sweeps.measures(sweeps.read("one", uri=uri), uri)
    parallel = data_runs.plain(read().table[serial.columns])
    pd.testing.assert_frame_equal(parallel, serial, check_exact=True)
    assert len(parallel) == 4 * (len(GROUPS) + 1)


def test_a_second_load_requests_nothing_and_gives_the_same_table(read, asked):
    first = read()
    assert len(asked) == 4
    second = read()
    assert len(asked) == 4
    pd.testing.assert_frame_equal(first.table, second.table, check_exact=True)


def test_only_runs_that_finished_since_are_fetched(read, uri, asked):
    read()
    client, trials = store.connect(uri), [result(seed).trial for seed in (0, 1, 2, 3, 9)]
    parent = sweeps.open_sweep(client, "one", trials, PRIMARY)
    recorder.record(client, recorder.start(client, "one", trials[-1], parent), result(9))
    sweeps.close_sweep(client, parent, True)
    assert read().table["seed"].unique().tolist() == [0, 1, 2, 3, 9]
    assert len(asked) == 5


def test_a_run_that_was_started_again_replaces_the_cached_one(read, uri, asked):
    before = read().table
    client = store.connect(uri)
    run_id = recorder.start(client, "one", result(2).trial)
    (folder,) = Path(uri.removeprefix("sqlite:///")).parent.rglob(f"{run_id}/artifacts")
    tracking_results.long_table(result(2, value=0.25)).to_parquet(folder / store.MEASURES)
    client.set_terminated(run_id, "FINISHED")
    after = read().table
    changed = before["value"].fillna(0) != after["value"].fillna(0)
    assert set(before["seed"][changed]) == {2}
    assert changed.sum() == len(GROUPS)
    assert len(asked) == 5


def test_a_trial_whose_run_was_deleted_and_repeated_replaces_the_cached_run(read, uri, asked):
    read()
    client = store.connect(uri)
    client.delete_run(tracking_runs.finished(client, "one")[result(1).trial.id])
    with pytest.raises(UserError, match="1 of the 4 trials"):
        read()
    again = result(1, value=0.25)
    recorder.record(client, recorder.start(client, "one", again.trial), again)
    runs = read()
    assert len(runs.table) == 4 * (len(GROUPS) + 1)
    assert runs.table.loc[runs.table["seed"] == 1, "value"].min() == 1.25
    assert len(asked) == 5


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_cache_is_fetched_again(read, tmp_path, asked, damage):
    whole = read().table
    file = cache_file(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "flipped":  # every byte of the first pages: a checksum has to notice
        content[4:400] = bytes(255 - byte for byte in content[4:400])
    else:
        content = {"cut": content[:-100], "empty": bytearray(), "other": bytearray(b"PAR1 of another kind PAR1")}[
            damage
        ]
    file.write_bytes(content)
    pd.testing.assert_frame_equal(read().table, whole, check_exact=True)
    assert len(asked) == 8
    read()
    assert len(asked) == 8


def test_a_failed_write_leaves_no_temporary_file(read, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *given: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert len(read().table)
    assert list((tmp_path / "cache" / "measures").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_reported_and_not_used(read, tmp_path, capfd):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(read().table) == 4 * (len(GROUPS) + 1)
    assert "cannot be written" in capfd.readouterr().err


def test_two_stores_do_not_share_a_cache_entry(read, recorded, tmp_path, asked):
    read()
    data_runs.load("one", uri=f"sqlite:///{recorded}", cache=tmp_path / "cache")
    assert len(asked) == 8


def test_a_trial_that_belongs_to_two_experiments_counts_once(read):
    both = read(["one", "two"])
    assert [trial.seed for trial in both.trials] == [0, 1, 2, 3, 4, 5]
    assert not both.missing
    pd.testing.assert_frame_equal(data_runs.plain(both.table).iloc[:16], data_runs.plain(read().table))
    assert not both.table.duplicated(["trial", "stage", "metric", "group", "template"]).any()
    assert len(both.table) == 6 * (len(GROUPS) + 1)
    assert both.primary == PRIMARY
    assert read(["one", "one"]).table.equals(read("one").table)


def test_a_trial_that_was_recorded_in_two_runs_counts_once(read, uri):
    """Two drivers that start at the same moment each create a run of the trial."""
    whole = read().table
    client = store.connect(uri)
    (run_id,) = (run for trial, run in tracking_runs.finished(client, "one").items() if trial == result(0).trial.id)
    client.set_tag(run_id, store.TRIAL, "hidden for a moment")
    recorder.record(client, recorder.start(client, "one", result(0).trial), result(0))
    client.set_tag(run_id, store.TRIAL, result(0).trial.id)
    assert len({run.run_id for run in listed(client, "1", tracking_runs.DONE)}) == 5
    pd.testing.assert_frame_equal(read().table, whole)


def test_a_trial_finished_in_one_of_the_experiments_is_not_missing(read, uri):
    client = store.connect(uri)
    client.delete_run(tracking_runs.finished(client, "one")[result(3).trial.id])
    assert not read(["one", "two"]).missing
    with pytest.raises(UserError, match="1 of the 4 trials of 'one'"):
        read("one")


def test_experiments_with_different_primary_metrics_are_refused(read, uri):
    client = store.connect(uri)
    trial = result(7).trial
    parent = sweeps.open_sweep(client, "three", [trial], {"wiki": {**PRIMARY["wiki"], "downstream": "logit_gap"}})
    recorder.record(client, recorder.start(client, "three", trial, parent), result(7))
    with pytest.raises(UserError, match="differ in the primary metrics of wiki"):
        read(["one", "three"])


def test_a_sweep_cannot_be_named_for_two_experiments(uri):
    with pytest.raises(UserError, match="one experiment alone"):
        data_runs.load(["one", "two"], "some sweep", uri)


def test_an_error_about_unreadable_measures_names_the_run(uri, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking_results, "artifact", _broken(tracking_results.artifact))
    with pytest.raises(UserError, match=r"measures\.parquet of run [0-9a-f]{32} cannot be read"):
        data_runs.load("one", uri=uri, cache=tmp_path / "cache")


def _broken(real):
    def artifact(client, run_id, artifacts, name):
        return b"PAR1" if name == store.MEASURES else real(client, run_id, artifacts, name)

    return artifact


def test_progress_is_shown_if_fetching_takes_long(read, monkeypatch, capfd):
    monkeypatch.setattr(fetch, "PATIENCE", -1.0)
    read()
    assert "runs of one: 4/4" in capfd.readouterr().err
