"""Processes of a sweep are killed or interrupted, run out of memory, or are started twice."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time

import psutil
import pytest

from bias_transfer.tracking import store, sweeps

pytestmark = pytest.mark.faults
TRIALS = 4
FILES = f"mlartifacts/*/artifacts/{store.MEASURES}"
HELD = 3
"""Exit status if another driver runs the sweep."""


def test_a_worker_that_is_killed(case, judge):
    driver = case.start()
    case.wait(case.in_training)
    before = case.finished()
    os.kill(case.workers()[0].pid, signal.SIGKILL)
    driver.end()
    cut = {*driver.events("process died")}
    assert len(cut) == 1
    judge(case, "worker process killed during a trial", "SIGKILL to the worker's process", before, cut)


def test_a_driver_that_is_killed_before_the_first_trial_ends(case, judge):
    driver = case.start()
    case.wait(case.in_training)
    killed(case, driver, judge, "before the first trial ends")


def test_a_driver_that_is_killed_in_the_middle(case, judge):
    driver = case.start()
    case.wait(lambda: len(case.finished()) >= 2)
    killed(case, driver, judge, "in the middle of the sweep")


def test_a_driver_that_is_killed_when_all_is_recorded_and_the_sweep_not_closed(case, judge):
    driver = case.start()
    case.wait(lambda: len(case.finished()) == TRIALS, ended=True)
    killed(case, driver, judge, "after the last trial's end")


def test_a_machine_that_stops_while_a_trial_is_recorded(case, judge):
    """Everything is killed when the files of a result are written and its run is not finished yet."""
    driver = case.start()
    case.wait(lambda: half_recorded(case))
    driver.kill()
    case.end_processes()
    before = case.finished()
    case.start().end()
    judge(case, "driver and workers killed while a trial is recorded", "SIGKILL to all of the sweep's processes",
          before, driver.running())  # fmt: skip


def killed(case, driver, judge, when: str) -> None:
    driver.kill()
    case.wait(lambda: not case.workers(), 60, ended=True)
    before = case.finished()
    case.start().end()
    judge(case, f"driver killed {when}, started again", "SIGKILL to the driver", before, driver.running())


def half_recorded(case) -> bool:
    """For one second, suspend the workers as soon as another result's files are there. Returns whether its run is not
    finished; otherwise the workers go on."""
    workers, begun = case.workers(), time.monotonic()
    known = {*case.folder.glob(FILES)}
    while time.monotonic() - begun < 1:
        if new := {*case.folder.glob(FILES)} - known:
            for worker in workers:
                worker.suspend()
            client = store.connect(case.store)
            if any(client.get_run(file.parts[-3]).info.status == "RUNNING" for file in new):
                return True
            for worker in workers:
                worker.resume()
            known |= new
        time.sleep(0.001)
    return False


def test_ctrl_c(case, judge):
    driver = case.start()
    case.wait(lambda: len(case.finished()) >= 1 and case.workers())
    driver.process.send_signal(signal.SIGINT)
    assert "start the sweep again" in driver.end(status=130)
    before = case.finished()
    assert not case.workers()
    case.start().end()
    judge(case, "Ctrl-C, started again", "SIGINT to the driver", before, driver.running())


def test_two_sweeps_of_one_config(case, judge):
    first, second = case.start(), case.start()
    statuses = {driver: driver.process.wait(1500) for driver in (first, second)}
    assert sorted(statuses.values()) == [0, HELD], first.text + second.text
    refused = first if statuses[first] else second
    assert not refused.events("started")
    judge(case, "two sweeps of one config started at once", "two drivers in the same second", {}, set(),
          "the other driver named the one that runs it, and ended with status 3")  # fmt: skip


def test_out_of_memory_in_one_trial(case, judge):
    """The worker may allocate hardly more than it has: its next allocation fails, in Python or in a library."""
    driver = case.start()
    case.wait(case.in_training)
    before, worker = case.finished(), case.workers()[0]
    most = worker.memory_info().vms + 2**20
    resource.prlimit(worker.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    case.wait(lambda: not psutil.pid_exists(worker.pid) or driver.events("failed") or driver.events("process died"))
    with contextlib.suppress(ProcessLookupError):  # later trials in the same process have their memory again
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    driver.end(status=None)
    assert 'Traceback (most recent call last):\n  File "<frozen runpy>' not in driver.text, driver.text
    cut = {*driver.events("process died"), *driver.events("failed"), *driver.running()}
    failed = sweeps.read("small", uri=case.store).failed
    assert all("emory" in why for why in failed.values()), failed
    outcome = (
        f"{len(failed)} recorded as failed, with the reason" if failed else "the worker died, and its trial ran again"
    )
    if len(case.finished()) < TRIALS:
        case.start("--retry-failed").end()
    judge(case, "out of memory in one trial", "RLIMIT_AS of the worker's process set to what it has",
          before, cut, outcome)  # fmt: skip
