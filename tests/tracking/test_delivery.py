"""Every result reaches MLflow exactly once, at once or later: with a real server that is down, comes back, or is a new one."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from bias_transfer.commands import sync
from bias_transfer.console import application
from bias_transfer.spec import Measure, Step, Trial, TrialResult
from bias_transfer.tracking import delivery, outbox, recorder, results, store, sweeps
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking.outbox import Entry

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}


def entry(seed: int, outcome: str = "", **changes: str) -> Entry:
    trial = Trial(seed=seed, data_digest="d", model_digest="m", learning_rate=1e-3)
    result = TrialResult(
        trial,
        (Measure("downstream", "fpr", "deaf", "", 0.1 + 0.2, 757), Measure("dataset", "x", "", "", float("nan"), 0)),
        (Step(10, 1 / 3, 1e-3),),
        {"roc_auc": 0.1 + 0.7, "downstream_sd": float("nan")},
        {"digest.train": "abc", "examples.train": 300},
        ("a warning",),
        {"finetune": 1.234},
    )
    return dataclasses.replace(Entry("one", "", f"s{seed}", trial, outcome or result), **changes)


@pytest.fixture
def storage(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("BIAS_TRANSFER_STORAGE", str(tmp_path / "storage"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return str(tmp_path / "storage")


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(folder: Path, port: int) -> Iterator[None]:
    """An `mlflow server` on SQLite."""
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "files")]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            time.sleep(0.2)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def recorded(uri: str, experiment: str = "one") -> tuple[pd.DataFrame, list[tuple[str, float, int]]]:
    """All measures, and every point of every metric, of the experiment."""
    client, runs = store.client_of(uri), tracking_runs.finished(store.client_of(uri), experiment)
    frames, points = [], []
    for trial, run_id in sorted(runs.items()):
        run = client.get_run(run_id)
        content = results.artifact(client, run_id, run.info.artifact_uri, store.MEASURES)
        frames.append(pd.read_parquet(BytesIO(content)))
        for name in run.data.metrics:
            points += [(trial, name, point.value, point.step) for point in client.get_metric_history(run_id, name)]
    return pd.concat(frames, ignore_index=True), sorted(points)


@pytest.mark.long
def test_a_server_that_comes_back_is_waited_for_or_is_sent_pending_results_later_and_has_each_once(
    tmp_path, storage, port
):
    uri, folder = f"http://127.0.0.1:{port}", tmp_path / "server"
    folder.mkdir()
    pending = delivery.deliver(entry(0), uri, 0)
    assert (pending.state, pending.place.split(" on ")[0]) == ("pending", f"{storage}/outbox")
    assert (
        delivery.deliver(entry(1, "ValueError: no"), uri, 3600).state == "pending"
    )  # at once, since another entry waits
    waited_for = list[delivery.TrialEnd]()
    in_time = dataclasses.replace(entry(0), experiment="in time")
    waiting = threading.Thread(target=lambda: waited_for.append(delivery.deliver(in_time, uri, 300)))
    waiting.start()
    unreachable = CliRunner().invoke(application(sync.main), ["--tracking-uri", uri])
    assert (unreachable.exit_code, len(outbox.ids("one"))) == (2, 2)
    with served(folder, port):
        waiting.join()
        assert waited_for == [delivery.TrialEnd("done")]
        assert outbox.experiments() == ["one"]
        shown = CliRunner().invoke(application(sync.main), ["--dry-run"])
        assert "one: 2 to send" in shown.output
        assert CliRunner().invoke(application(sync.main), ["--tracking-uri", uri]).exit_code == 0  # to a new server
        assert outbox.ids("one") == []
        client = store.client_of(uri)
        assert tracking_runs.failed(client, "one") == {entry(1).trial.id: "ValueError: no"}
        first = recorded(uri)
        outbox.add(entry(0))
        outbox.add(dataclasses.replace(entry(2), parent="f" * 32))  # with a parent run that this server does not have
        parent = sweeps.open_sweep(client, "one", [entry(seed).trial for seed in range(3)], PRIMARY)
        sent = delivery.send(client, "one", parent)
        assert sent == delivery.Sent(1, 1)
        assert (
            client.get_run(tracking_runs.finished(client, "one")[entry(2).trial.id]).data.tags["mlflow.parentRunId"]
            == parent
        )
        assert delivery.deliver(entry(3), uri, 0).state == "done"
        assert len(client.search_runs([client.get_experiment_by_name("one").experiment_id])) == 5
        delivery.record(client, dataclasses.replace(entry(0), experiment="undisturbed"))
        pd.testing.assert_frame_equal(first[0], recorded(uri, "undisturbed")[0], check_exact=True)
        assert first[1] == recorded(uri, "undisturbed")[1]


@pytest.fixture
def uri(new_store) -> str:
    return new_store


@pytest.mark.long
def test_two_syncs_at_once_send_each_entry_once(uri, storage):
    for seed in range(6):
        outbox.add(entry(seed))
    words = [sys.executable, "-m", "bias_transfer", "sync", "one", "--tracking-uri", uri]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    client = store.connect(uri)
    assert len(client.search_runs([client.get_experiment_by_name("one").experiment_id])) == 6
    assert outbox.experiments() == []


def test_a_damaged_entry_stays_and_does_not_hold_up_the_others(uri, storage):
    for seed in range(2):
        outbox.add(entry(seed))
    (Path(storage) / "outbox" / "one" / entry(0).trial.id / outbox.MEASURES).write_bytes(b"no")
    ended = CliRunner().invoke(application(sync.main), ["--tracking-uri", uri])
    assert (ended.exit_code, outbox.ids("one")) == (4, [entry(0).trial.id])
    assert "1 sent, 0 were recorded already, 1 left" in ended.output


def test_a_full_disk_leaves_no_finished_run_and_is_named(uri, storage, monkeypatch):
    full = OSError(28, "No space left on device", "/data/measures.parquet")

    def fails(*given):
        raise full

    monkeypatch.setattr("bias_transfer.tracking.recorder._write_artifacts", fails)
    pending = delivery.deliver(entry(0), uri, 3600)
    assert pending.state == "pending"
    assert pending.why == "the disk of /data/measures.parquet is full"
    assert tracking_runs.finished(store.connect(uri), "one") == {}
    outbox.remove("one", entry(0).trial.id)
    monkeypatch.setattr(outbox, "write", fails)
    incomplete = delivery.deliver(entry(0), uri, 3600)
    assert incomplete.state == "incomplete"
    assert incomplete.why.count("the disk of /data/measures.parquet is full") == 2


def test_a_run_that_names_another_folder_of_the_same_data_is_replaced(uri, storage):
    client = store.connect(uri)
    run_id = recorder.start(client, "one", entry(0).trial)
    client.log_param(run_id, "data", "elsewhere/data.csv")
    assert delivery.deliver(entry(0), uri, 0, storage=storage).state == "done"
