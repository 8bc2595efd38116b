"""A sweep has one driver at a time."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from bias_transfer.spec import Trial
from bias_transfer.tracking import lease, sweeps
from bias_transfer.tracking import store as tracking_store
from bias_transfer.tracking.lease import LEASE, HeldError, held

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
TRIALS = [Trial(data_digest="d", model_digest="m")]


@pytest.fixture
def store(new_store, monkeypatch):
    """(client, parent run) with ten heartbeats per second."""
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "SETTLE", 0.1)
    client = tracking_store.connect(new_store)
    return client, sweeps.open_sweep(client, "one", TRIALS, PRIMARY)


def put(store, **changes) -> None:
    """Write another driver's lease: this process's, with changes."""
    client, parent = store
    with held(client, parent):
        current = lease.holder(client.get_run(parent))
    client.set_tag(parent, LEASE, json.dumps(dataclasses.asdict(dataclasses.replace(current, **changes))))


def test_the_lease_is_taken_renewed_and_given_back(store):
    client, parent = store
    with held(client, parent) as lost:
        first = lease.holder(client.get_run(parent))
        time.sleep(0.5)
        later = lease.holder(client.get_run(parent))
        assert not lost.is_set()
    assert first.pid == os.getpid()
    assert first.same(later)
    assert later.beat > first.beat
    assert lease.holder(client.get_run(parent)) is None


def test_a_second_driver_is_refused_and_the_first_one_named(store):
    client, parent = store
    with (
        held(client, parent),
        pytest.raises(HeldError, match=rf"process {os.getpid()} on .* since .* UTC"),
        held(*store),
    ):
        pass


def test_the_lease_of_a_dead_driver_on_this_machine_is_taken_over_at_once(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    put(store, pid=dead.pid, beat=time.time())
    with held(*store):
        pass
    put(store, begun="another process had the number of this one", beat=time.time())
    with held(*store):
        pass


@pytest.mark.parametrize(("age", "taken"), [(lease.STALE - 20, False), (lease.STALE + 1, True)])
def test_a_driver_on_another_machine_lives_while_its_heartbeat_is_fresh(store, age, taken):
    put(store, machine="elsewhere", host="far", beat=time.time() - age)
    if taken:
        with held(*store):
            return
    with pytest.raises(HeldError, match="on far"), held(*store):
        pass


def test_a_driver_whose_clock_lags_lives_if_its_heartbeat_changes(store):
    client, parent = store
    put(store, machine="elsewhere", beat=time.time() - 3600)
    former = lease.holder(client.get_run(parent))
    renewed = json.dumps(dataclasses.asdict(dataclasses.replace(former, beat=former.beat + 1)))
    beat = threading.Timer(0.05, client.set_tag, (parent, LEASE, renewed))
    beat.start()
    with pytest.raises(HeldError), held(*store):
        pass
    beat.join()


def test_of_two_that_start_at_the_same_moment_one_goes_on(store, monkeypatch):
    client, parent = store
    monkeypatch.setattr(lease, "SETTLE", 1.0)
    monkeypatch.setattr(
        lease, "_machine", lambda: str(threading.get_ident())
    )  # so that the two threads are two drivers
    went_on, refused = list[bool](), list[HeldError]()

    def start() -> None:
        try:
            lease._take(client, parent)
            went_on.append(True)
        except HeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    monkeypatch.setattr(lease, "_lives", lambda *_: False)  # as if both had read before either wrote
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(went_on), len(refused)) == (1, 1)


def test_of_two_first_writes_at_the_same_moment_neither_fails(store):
    client, parent = store
    both, waited = threading.Barrier(2), set[int]()

    def wait_for_the_other(session, *_) -> None:
        if any(getattr(row, "key", "") == LEASE for row in session.new) and threading.get_ident() not in waited:
            waited.add(threading.get_ident())
            both.wait(10)

    put(store)
    former = lease.holder(client.get_run(parent))
    client.delete_tag(parent, LEASE)
    event.listen(Session, "before_flush", wait_for_the_other)  # both have read that there is no such tag
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda pid: lease._write(client, parent, dataclasses.replace(former, pid=pid)), (1, 2)))
    finally:
        event.remove(Session, "before_flush", wait_for_the_other)
    assert len(waited) == 2
    assert lease.holder(client.get_run(parent)).pid in (1, 2)


def test_a_suspended_driver_notices_that_another_took_over(store):
    client, parent = store
    with held(client, parent) as lost:
        current = lease.holder(client.get_run(parent))
        client.set_tag(parent, LEASE, json.dumps(dataclasses.asdict(dataclasses.replace(current, pid=1))))
        assert lost.wait(10)
    assert lease.holder(client.get_run(parent)).pid == 1  # it is the other driver's, and stays


def test_of_two_parent_runs_created_at_the_same_moment_one_is_deleted(store):
    client, parent = store
    tags = client.get_run(parent).data.tags
    twin = client.create_run(
        client.get_run(parent).info.experiment_id,
        tags={key: tags[key] for key in (tracking_store.KIND, tracking_store.SWEEP)},
    )
    with pytest.raises(HeldError), held(client, twin.info.run_id):
        pass
    with held(client, parent):
        pass
    assert sweeps.open_sweep(client, "one", TRIALS, PRIMARY) == parent


def test_two_processes_create_one_sqlite_file(tmp_path: Path):
    """Two migrations at once would break it."""
    words = "import sys; from bias_transfer.tracking import store; store.connect(sys.argv[1], create=True)"
    command = [sys.executable, "-c", words, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode)[1] for process in both] == [0, 0]
    assert not list(tmp_path.glob("*.lock"))
