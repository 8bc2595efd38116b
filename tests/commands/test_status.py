"""How far a sweep is, from what the store says."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from bias_transfer.commands import status
from bias_transfer.console import application
from bias_transfer.spec import Measure, Trial, TrialResult
from bias_transfer.tracking import lease, outbox, progress, recorder, sweeps
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking import store as tracking_store
from bias_transfer.tracking.outbox import Entry

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
TRIALS = [Trial(seed=seed, data_digest="d", model_digest="m", learning_rate=1e-3) for seed in range(8)]


def result(trial: Trial) -> TrialResult:
    return TrialResult(trial, (Measure("downstream", "fpr", "", "", 0.1, 7),), (), {}, {"digest.train": "abc"})


@pytest.fixture
def store(new_store, tmp_path, monkeypatch):
    """Three trials done, one running, one failed, one kept, and two to run: (uri, client, parent)."""
    monkeypatch.setenv("BIAS_TRANSFER_STORAGE", str(tmp_path / "storage"))
    client = tracking_store.connect(new_store)
    parent = sweeps.open_sweep(client, "one", TRIALS, PRIMARY)
    for trial in TRIALS[:3]:
        recorder.record(client, recorder.start(client, "one", trial, parent), result(trial))
    recorder.start(client, "one", TRIALS[3], parent)
    recorder.fail(client, recorder.start(client, "one", TRIALS[4], parent), "ValueError: no\nmore")
    outbox.add(Entry("one", parent, "s5", TRIALS[5], result(TRIALS[5])))
    return new_store, client, parent


def look(uri: str) -> list[dict[str, object]]:
    ended = CliRunner().invoke(application(status.main), ["one", "--json", "--tracking-uri", uri])
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


def test_every_trial_is_counted_once(store):
    uri, _, parent = store
    (found,) = look(uri)
    counts = {name: found[name] for name in ("trials", "done", "running", "failed", "pending")}
    assert counts == {"trials": 8, "done": 3, "running": 1, "failed": 1, "pending": 1}
    assert found["run_id"] == parent
    assert found["errors"] == [f"{TRIALS[4].id}: ValueError: no\nmore"]
    assert found["driver"] is found["rate"] is found["seconds_left"] is None


def test_the_rate_and_the_time_left_are_those_of_the_driver_that_runs(store):
    uri, client, parent = store
    with lease.held(client, parent):
        recorder.record(client, recorder.start(client, "one", TRIALS[6], parent), result(TRIALS[6]))
        (found,) = look(uri)
    assert found["rate"] > 0
    assert found["seconds_left"] == pytest.approx(2 / found["rate"] * 3600)  # one runs, one waits
    assert "process" in found["driver"]


def test_the_rate_is_over_an_hour_at_most():
    now = time.time()
    runs = tuple(tracking_runs.Recorded("r", str(age), int((now - age) * 1000)) for age in (60, 1800, 7200))
    sweep = progress.Progress("one", "r", "one", (), runs, (), (), None)
    assert status._rate(sweep, now - 86400, now) == 2
    assert status._rate(sweep, now - 900, now) == 4


def test_people_read_what_to_do(store):
    shown = CliRunner().invoke(application(status.main), ["--tracking-uri", store[0]])
    for words in (
        "3/8",
        "no driver: start the sweep again",
        "FAILED",
        "ValueError: no",
        "bias-transfer sync one",
    ):
        assert words in shown.stdout


def test_an_unknown_experiment_names_the_nearest(store):
    ended = CliRunner().invoke(application(status.main), ["onne", "--tracking-uri", store[0]])
    assert ended.exit_code == 2
    assert "Did you mean 'one'" in ended.stderr


def test_it_is_light():
    imports = "import sys, bias_transfer.commands.status, bias_transfer.tracking.outbox"
    words = f"{imports}; print(*{{name.split('.')[0] for name in sys.modules}})"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert {"mlflow"} <= set(found.stdout.split())
    assert not {"torch", "ray", "transformers"} & set(found.stdout.split())
