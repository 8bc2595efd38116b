"""One driver a sweep."""

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

from bias_transfer.tracking import store as tracking_store
from bias_transfer.tracking import sweeps
from bias_transfer.spec import Trial
from bias_transfer.tracking import lease
from bias_transfer.tracking.lease import LEASE
from bias_transfer.tracking.lease import HeldError
from bias_transfer.tracking.lease import held

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
TRIALS = [Trial(data_digest="d", model_digest="m")]


@pytest.fixture
def store(new_store, monkeypatch):
    """(client, the parent run) with leases that beat ten times a second."""
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "SETTLE", 0.1)
    client = tracking_store.connect(new_store)
    return client, sweeps.open_sweep(client, "one", TRIALS, PRIMARY)


def put(store, **changes) -> None:
    """Another driver's lease: of this process, but for the changes."""
    client, parent = store
    with held(client, parent):
        own = lease.holder(client.get_run(parent))
    client.set_tag(parent, LEASE, json.dumps(dataclasses.asdict(dataclasses.replace(own, **changes))))


def test_it_is_held_renewed_and_given_back(store):
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


def test_a_second_driver_is_told_who_runs_it(store):
    client, parent = store
    with (
        held(client, parent),
        pytest.raises(HeldError, match=rf"process {os.getpid()} on .* since .* UTC"),
        held(*store),
    ):
        pass


def test_a_dead_driver_of_this_machine_is_followed_at_once(store):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    put(store, pid=dead.pid, beat=time.time())
    with held(*store):
        pass
    put(store, begun="another process had the number of this one", beat=time.time())
    with held(*store):
        pass


@pytest.mark.parametrize(("age", "taken"), [(lease.STALE - 20, False), (lease.STALE + 1, True)])
def test_a_driver_that_is_not_seen_from_here_counts_by_its_beat(store, age, taken):
    put(store, machine="elsewhere", host="far", beat=time.time() - age)
    if taken:
        with held(*store):
            return
    with pytest.raises(HeldError, match="on far"), held(*store):
        pass


def test_a_driver_whose_clock_lags_is_seen_to_beat(store):
    client, parent = store
    put(store, machine="elsewhere", beat=time.time() - 3600)
    there = lease.holder(client.get_run(parent))
    told = json.dumps(dataclasses.asdict(dataclasses.replace(there, beat=there.beat + 1)))
    beat = threading.Timer(0.05, client.set_tag, (parent, LEASE, told))
    beat.start()
    with pytest.raises(HeldError), held(*store):
        pass
    beat.join()


def test_of_two_that_start_at_the_same_moment_one_goes_on(store, monkeypatch):
    client, parent = store
    monkeypatch.setattr(lease, "SETTLE", 1.0)
    monkeypatch.setattr(lease, "_machine", lambda: str(threading.get_ident()))  # else both would be one driver
    went_on, refused = list[bool](), list[HeldError]()

    def start() -> None:
        try:
            lease._take(client, parent)
            went_on.append(True)
        except HeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    monkeypatch.setattr(lease, "_lives", lambda *_: False)  # both look before either writes
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
    there = lease.holder(client.get_run(parent))
    client.delete_tag(parent, LEASE)
    event.listen(Session, "before_flush", wait_for_the_other)  # both have seen that there is no such tag
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda pid: lease._write(client, parent, dataclasses.replace(there, pid=pid)), (1, 2)))
    finally:
        event.remove(Session, "before_flush", wait_for_the_other)
    assert len(waited) == 2
    assert lease.holder(client.get_run(parent)).pid in (1, 2)


def test_a_driver_that_slept_while_another_took_over_finds_out(store):
    client, parent = store
    with held(client, parent) as lost:
        own = lease.holder(client.get_run(parent))
        client.set_tag(parent, LEASE, json.dumps(dataclasses.asdict(dataclasses.replace(own, pid=1))))
        assert lost.wait(10)
    assert lease.holder(client.get_run(parent)).pid == 1  # not given back: it is the other's


def test_two_parents_made_at_the_same_moment_become_one(store):
    client, parent = store
    tags = client.get_run(parent).data.tags
    twin = client.create_run(
        client.get_run(parent).info.experiment_id, tags={key: tags[key] for key in (tracking_store.KIND, tracking_store.SWEEP)}
    )
    with pytest.raises(HeldError), held(client, twin.info.run_id):
        pass
    with held(client, parent):
        pass
    assert sweeps.open_sweep(client, "one", TRIALS, PRIMARY) == parent


def test_two_processes_make_one_store(tmp_path: Path):
    """Two migrations at once would break a new SQLite file."""
    words = "import sys; from bias_transfer import tracking; tracking.connect(sys.argv[1], create=True)"
    command = [sys.executable, "-c", words, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode)[1] for process in both] == [0, 0]
    assert not list(tmp_path.glob("*.lock"))
