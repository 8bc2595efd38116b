"""A worker runs what is not done, and whatever a trial raises is recorded once."""

from __future__ import annotations

import pytest

from bias_transfer.errors import UserError
from bias_transfer.spec import Measure, Trial, TrialResult
from bias_transfer.sweep import inputs
from bias_transfer.sweep.worker import Where
from bias_transfer.sweep.worker import work as work_with
from bias_transfer.tracking import outbox, store
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking.outbox import Entry

TRIAL = Trial(data_digest="d", model_digest="m", learning_rate=1e-3)
RESULT = TrialResult(TRIAL, (Measure("downstream", "fpr", "", "", 0.1, 7),), (), {}, {"digest.train": "abc"})
CONFIG = {"id": TRIAL.id, "name": "s0", "arm": "none + none", "fields": TRIAL.model_dump()}


def work(config, where):
    """On a machine that has all files of the trial."""
    return work_with(config, where, {}, None)


@pytest.fixture
def where(new_store, tmp_path, monkeypatch) -> Where:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return Where("one", "", new_store, 0, str(tmp_path / "storage"))


@pytest.fixture
def ran(monkeypatch):
    """How often the trial ran; what it raises instead of its result, if anything."""
    runs = list[Exception | None]()

    def run(trial, places, kept, fetch):
        assert trial == TRIAL
        runs.append(None)
        if raised:
            raise raised[0]
        return RESULT

    raised = list[Exception]()
    monkeypatch.setattr(inputs, "run", run)
    return runs, raised


def test_a_trial_that_is_done_is_not_run_again(where, ran):
    runs, _ = ran
    assert work(CONFIG, where)["state"] == "done"
    again = work(CONFIG, where)
    assert (again["state"], again["why"]) == ("done", "another sweep ran it")
    assert len(runs) == 1


def test_a_trial_that_is_kept_is_not_run_again_and_one_that_failed_is(where, ran):
    runs, _ = ran
    outbox.add(Entry("one", "", "s0", TRIAL, "ValueError: no"), where.storage)
    assert work(CONFIG, where)["state"] == "done"
    outbox.add(Entry("one", "", "s0", TRIAL, RESULT), where.storage)
    assert work(CONFIG, where)["state"] == "pending"
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no"), "ValueError: no (test_worker.py:"),
        (UserError("the arm changed nothing"), "UserError: the arm changed nothing ("),
        (MemoryError("CUDA out of memory"), "MemoryError: CUDA out of memory; lower micro_batch_size ("),
    ],
)
def test_what_a_trial_raises_is_recorded_and_returned(where, ran, error, told):
    _, raised = ran
    raised.append(error)
    outcome = work(CONFIG, where)
    assert outcome["state"] == "failed"
    assert outcome["why"].startswith(told)
    assert tracking_runs.failed(store.connect(where.uri), "one") == {TRIAL.id: outcome["why"]}


def test_without_a_store_the_trial_runs_and_is_kept(where, ran, tmp_path):
    runs, _ = ran
    away = Where("one", "", "http://127.0.0.1:9", 0, where.storage)
    outcome = work(CONFIG, away)
    assert (outcome["state"], len(runs)) == ("pending", 1)
    assert outbox.outcomes("one", where.storage) == {TRIAL.id: ""}
    assert work(CONFIG, away)["state"] == "pending"
    assert len(runs) == 1


def test_a_full_disk_is_no_fault_of_the_trial(where, ran):
    _, raised = ran
    raised.append(OSError(28, "No space left on device", "/cache/entry"))
    outcome = work(CONFIG, where)
    assert (outcome["state"], outcome["why"]) == ("incomplete", "the disk of /cache/entry is full")
    assert tracking_runs.failed(store.connect(where.uri), "one") == {}
