"""Checkpoints and pending results in a bucket, by the same code as in a folder, on a local S3 server (moto)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from pyarrow.fs import FileSelector, FileSystem

from bias_transfer.spec import Measure, Step, Trial, TrialResult
from bias_transfer.storage import filesystem as storage_filesystem
from bias_transfer.tracking import delivery, outbox, results, store, sweeps
from bias_transfer.tracking.outbox import Entry
from bias_transfer.training import checkpoint, kept
from bias_transfer.training.checkpoint import Place, State

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
TRIAL = Trial(data_digest="d", model_digest="m", learning_rate=1e-3)
RESULT = TrialResult(
    TRIAL,
    (Measure("downstream", "fpr", "deaf", "", 0.1 + 0.2, 757), Measure("dataset", "x", "", "", float("nan"), 0)),
    (Step(10, 1 / 3, 1e-3),),
    {"roc_auc": 0.1 + 0.7, "downstream_sd": float("nan")},
    {"digest.train": "abc", "examples.train": 300},
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """HOST:PORT of the server."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        yield f"{host}:{port}"
    finally:
        moto.stop()


@pytest.fixture
def bucket(server, monkeypatch, request) -> str:
    """URI of a prefix for this test in a bucket, set as BIAS_TRANSFER_STORAGE; the keys are in other variables."""
    for name, value in {
        "ACCESS_KEY_ID": "key",
        "SECRET_ACCESS_KEY": "hunter2",
        "EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    query = f"endpoint_override={server}&scheme=http&region=us-east-1"
    filesystem, _ = FileSystem.from_uri(f"s3://bucket?{query}&allow_bucket_creation=true")
    filesystem.create_dir("bucket")
    uri = f"s3://bucket/{request.node.name}?{query}"
    monkeypatch.setenv("BIAS_TRANSFER_STORAGE", uri)
    return uri


def files(bucket: str) -> list[str]:
    filesystem, path = storage_filesystem.locate(bucket, "")
    found = filesystem.get_file_info(FileSelector(path.rstrip("/"), recursive=True, allow_not_found=True))
    return [file.path.removeprefix(path) for file in found if file.is_file]


def test_a_checkpoint_comes_back_bit_for_bit_is_replaced_and_goes(bucket):
    place = Place(bucket, TRIAL.id, 0.0, "cpu")
    assert checkpoint.load_state(place) is None
    for step in (1, 2):
        weight = torch.tensor([float("nan"), -0.0, step / 3])
        checkpoint.save_state(place, State({"weight": weight}, {"step": step, "rates": [1e-300]}))
        loaded = checkpoint.load_state(place)
        assert loaded.facts == {"step": step, "rates": [1e-300]}
        assert loaded.tensors["weight"].numpy().tobytes() == weight.numpy().tobytes()
        assert files(bucket) == [f"checkpoints/{TRIAL.id}/{checkpoint.NAME}"]
    assert place.shown.startswith("s3://bucket/test_a_checkpoint")
    checkpoint.forget(place)
    assert checkpoint.load_state(place) is None
    assert files(bucket) == []


def test_a_kept_classifier_comes_back_bit_for_bit_and_is_replaced(bucket):
    weight = torch.tensor([float("nan"), -0.0, 1 / 3])
    for labels in (("a", "b"), ("no", "yes")):
        kept.save(bucket, kept.Kept(TRIAL, labels, {"weight": weight}, "base", {}))
    stored = kept.load(bucket, TRIAL.id)
    assert stored.weights["weight"].numpy().tobytes() == weight.numpy().tobytes()
    assert (stored.labels, stored.trial) == (("no", "yes"), TRIAL)
    assert kept.ids(bucket) == {TRIAL.id}
    assert "hunter2" not in kept.shown(bucket)


def test_a_checkpoint_that_is_damaged_in_the_bucket_is_reported_and_not_used(bucket):
    place = Place(bucket, TRIAL.id, 0.0, "cpu")
    checkpoint.save_state(place, State({"weight": torch.ones(2)}, {"step": 1}))
    filesystem, path = storage_filesystem.locate(bucket, "checkpoints", TRIAL.id, checkpoint.NAME)
    storage_filesystem.write(filesystem, path, storage_filesystem.read(filesystem, path)[:-1] + b"x")
    with pytest.warns(UserWarning, match=r"s3://bucket/.*/checkpoints/.* is not used"):
        assert checkpoint.load_state(place) is None


def test_a_result_waits_while_mlflow_is_unreachable_and_is_sent_later_whole_and_once(bucket, tmp_path):
    client = store.connect(f"sqlite:///{tmp_path / 'm.db'}", create=True)
    parent = sweeps.open_sweep(client, "one", [TRIAL], PRIMARY)
    entry = Entry("one", parent, "s0", TRIAL, RESULT)
    pending = delivery.deliver(entry, "sqlite:////proc/nowhere/m.db", patience=0.0)
    assert pending.state == "pending", pending.why
    assert pending.place.startswith("s3://bucket/test_a_result")
    assert "hunter2" not in pending.place + pending.why
    assert outbox.ids("one") == [TRIAL.id]
    assert repr(outbox.read("one", TRIAL.id)) == repr(
        entry
    )  # not ==, since NaN is not equal to itself; repr shows every bit
    failed = dataclasses.replace(entry, outcome="ValueError: no")
    outbox.add(failed)
    assert outbox.outcomes("one") == {TRIAL.id: ""}, "an error replaced a result"
    assert delivery.send(client, "one") == delivery.Sent(sent=1)
    found = sweeps.measures(sweeps.read("one", uri=client.tracking_uri), client.tracking_uri)
    assert found.equals(results.long_table(RESULT)[found.columns])
    assert outbox.experiments() == outbox.ids("one") == []
    assert files(bucket) == []
    assert delivery.send(client, "one") == delivery.Sent()


def test_a_missing_bucket_interrupts_no_training_and_is_reported(bucket, server):
    missing = bucket.replace("bucket/", "missing/")
    place = Place(missing, TRIAL.id, 0.0, "cpu")
    with pytest.warns(UserWarning, match=r"the checkpoint in s3://missing/.* cannot be written.*; training goes on"):
        checkpoint.save_state(place, State({"weight": torch.ones(2)}, {"step": 1}))
    lost = delivery.deliver(Entry("one", "", "s0", TRIAL, RESULT), "sqlite:////proc/nowhere/m.db", 0.0, storage=missing)
    assert lost.state == "incomplete"
    assert "neither recorded" in lost.why
    assert "nor queued" in lost.why
