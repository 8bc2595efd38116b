"""What the driver counts while Ray Tune tells it how trials start and end."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from bias_transfer.sweep.callbacks import follow
from bias_transfer.tracking.delivery import TrialEnd

pytestmark = pytest.mark.filterwarnings("ignore")


def trial(number: int) -> SimpleNamespace:
    return SimpleNamespace(trial_id=f"t{number}", config={"trial": {"id": f"id{number}", "name": f"n{number}"}})


def result(state: str) -> dict[str, str]:
    return {"state": state, "why": "", "place": ""}


@pytest.mark.parametrize("fail_fast", [False, True])
def test_done_running_and_failed_are_counted_as_they_come(fail_fast):
    told, outcomes = [], {}
    callback, stopper = follow(lambda *counts: told.append(counts[:3]), outcomes, threading.Event(), fail_fast)
    first, second = trial(1), trial(2)
    callback.on_trial_start(0, [], first)
    callback.on_trial_start(0, [], second)
    callback.on_trial_result(1, [], first, result("done"))
    callback.on_trial_complete(1, [], first)
    assert not stopper.stop_all()
    callback.on_trial_result(1, [], second, result("failed"))
    callback.on_trial_result(1, [], second, result("failed"))
    callback.on_trial_complete(1, [], second)
    assert told == [(0, 1, 0), (0, 2, 0), (1, 1, 0), (1, 0, 1)]
    assert outcomes == {"id1": TrialEnd("done"), "id2": TrialEnd("failed")}
    assert stopper.stop_all() is fail_fast


def test_a_trial_that_failed_and_then_ends_well_is_done():
    told, outcomes = [], {}
    callback, stopper = follow(lambda *counts: told.append(counts[:3]), outcomes, threading.Event(), True)
    callback.on_trial_result(1, [], trial(1), result("incomplete"))
    callback.on_trial_result(2, [], trial(1), result("done"))
    callback.on_trial_complete(2, [], trial(1))
    assert told == [(1, 0, 0)]
    assert not stopper.stop_all()
