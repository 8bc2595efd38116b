"""Stores for benchmarks: recorded runs of realistic size in SQLite, and a copy of them behind an MLflow server."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from benchmarks.servers import mlflow_server
from bias_transfer.console import reporting
from bias_transfer.spec import Measure, Step, Trial, TrialResult
from bias_transfer.tracking import recorder, store, sweeps

EXPERIMENT = "benchmark"
PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}


def result(number: int, rows: int) -> TrialResult:
    """The result of a trial with `rows` measures, and with the usual headline metrics, curve and tags."""
    draw = random.Random(number)
    groups, templates = [f"group {g}" for g in range(50)], ["The {group} person is {mask}.", "", "name_adj"]
    measures = [
        Measure(
            "upstream" if row % 3 == 0 else "downstream",
            f"metric_{row // 150}",
            groups[row // 3 % 50],
            templates[row % 3],
            draw.random() if row % 50 else float("nan"),
            757 if row % 50 else 0,
        )
        for row in range(rows)
    ]
    names = ("roc_auc", "accuracy", "macro_f1", "masked_lm_loss", "upstream_mean", "upstream_sd", "downstream_sd")
    return TrialResult(
        trial=Trial(seed=number, data_digest="d", model_digest="m", learning_rate=1e-3, options={"data.size": 300}),
        measures=tuple(measures),
        curve=tuple(Step(step, draw.random(), 1e-3) for step in range(10, 110, 10)),
        headline={name: draw.random() for name in names},
        facts={"digest.train": "abc", "examples.train": 300},
        seconds=dict.fromkeys(("load", "upstream", "finetune", "downstream"), 1.0),
    )


def record(folder: Path, runs: int, rows: int) -> str:
    """Record runs in folder/mlflow.db, as a sweep does. Returns the store's URI."""
    uri = f"{store.SQLITE}{folder / 'mlflow.db'}"
    client = store.connect(uri, create=True)
    parent = sweeps.open_sweep(client, EXPERIMENT, [result(number, 0).trial for number in range(runs)], PRIMARY)
    with reporting() as report:
        for number in range(runs):
            outcome = result(number, rows)
            recorder.record(client, recorder.start(client, EXPERIMENT, outcome.trial, parent), outcome)
            report("recording runs", number + 1, runs)
    sweeps.close_sweep(client, parent, complete=True)
    return uri


@contextlib.contextmanager
def served(folder: Path, copy: Path) -> Iterator[str]:
    """An `mlflow server` on loopback with a copy of the store. Yields the server's URI.

    Artifact addresses in the copy are changed to those that a server assigns. Recording all runs again through the server
    would take minutes and give the same store.
    """
    shutil.copytree(folder, copy)
    with contextlib.closing(sqlite3.connect(copy / "mlflow.db")) as tables, tables:
        old = (folder / "mlartifacts").as_uri()
        tables.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, 'mlflow-artifacts:')", (old,))
        tables.execute(
            "UPDATE experiments SET artifact_location = 'mlflow-artifacts:/' WHERE artifact_location = ?", (old,)
        )
    with mlflow_server(copy, f"sqlite:///{copy}/mlflow.db") as server:
        yield server.uri
