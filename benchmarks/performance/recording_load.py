"""python -m benchmarks.recording_load: many processes record trials at once; everything is read back and compared."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from queue import Empty
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks import docs_blocks
from benchmarks.performance.load_stores import EXPERIMENT
from benchmarks.performance.load_stores import PRIMARY
from benchmarks.performance.load_stores import result
from benchmarks.performance.recorder import Written
from benchmarks.performance.recorder import write
from benchmarks.servers import mlflow_server
from benchmarks.servers import postgres
from benchmarks.servers import postgres_programs
from bias_transfer.tracking import recorder
from bias_transfer.tracking import results
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking import store as tracking_store
from bias_transfer.tracking import sweeps
from bias_transfer.console import console
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

ROWS = 2800
"""Measures of a trial of WIKI."""

HISTORIES = ("roc_auc", "training/loss", "training/learning_rate")
"""Metrics whose every recorded point is read back."""


@app.command(context_settings={"max_content_width": 110})
def main(
    processes: Annotated[int, typer.Option(min=1, help="Processes that record at once.")] = 64,
    records: Annotated[int, typer.Option(min=1, help="Trials that each records, one after another.")] = 3,
    rows: Annotated[int, typer.Option(min=1, help="Measures of each trial.")] = ROWS,
    keep: Annotated[bool, typer.Option("--write", help="Put the figures into docs/reliability.md.")] = False,
) -> None:
    """64 processes record real-sized trials at once: to a server on PostgreSQL, a server on SQLite, and a SQLite file.

    \b
    python -m benchmarks.recording_load --write
    python -m benchmarks.recording_load --processes 8 --records 2       # a quick look
    """
    lines = []
    with user_errors():
        for store in ("server, PostgreSQL", "server, SQLite", "SQLite file"):
            if store == "server, PostgreSQL" and postgres_programs() is None:
                console().print("No PostgreSQL on this machine: left out.")
                continue
            with tempfile.TemporaryDirectory() as given, opened(store, Path(given)) as uri:
                Path(given).chmod(0o755)
                lines.append(line(store, uri, processes, records, rows))
                tell(lines[-1])
    head = [
        f"{processes} processes, {records} records each, {rows} measures a record; {os.cpu_count()} cores "
        f"({platform.machine()}), everything on one machine. Written by `python -m benchmarks.recording_load --write`.",
        "",
        "| store | records | lost | double | changed | s a record: median | p95 | records a second | errors, tried again "
        "| requests sent again | runs made twice, removed |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --- | --: | --: |",
    ]
    if keep:
        docs_blocks.put("load", "\n".join([*head, *lines]))
    raise typer.Exit(int(any("| 0 | 0 | 0 |" not in line for line in lines)))


@contextlib.contextmanager
def opened(store: str, folder: Path) -> Iterator[str]:
    """The store's URI, while it is there."""
    with contextlib.ExitStack() as stack:
        sqlite = f"{tracking_store.SQLITE}{folder / 'mlflow.db'}"
        if store == "SQLite file":
            yield sqlite
            return
        folder.chmod(0o755)  # for the user that PostgreSQL runs as
        backend = sqlite if store == "server, SQLite" else stack.enter_context(postgres(folder / "postgres")).uri
        yield stack.enter_context(mlflow_server(folder / "server", backend)).uri


def line(store: str, uri: str, processes: int, records: int, rows: int) -> str:
    """A row of the table: record, read back, compare."""
    client = tracking_store.connect(uri, create=True)
    trials = [result(number, 0).trial for number in range(processes * records)]
    parent = sweeps.open_sweep(client, EXPERIMENT, trials, PRIMARY)
    told = _record_at_once(uri, parent, processes, records, rows)
    removed = _end(uri, {trial.id for trial in trials})
    lost, double, changed = compare(uri, processes * records, rows)
    seconds = sorted(value for one in told for value in one.seconds)
    wall = max(one.ended for one in told) - min(one.begun for one in told)
    errors = Counter(error for one in told for error in one.errors)
    cells = [
        store, len(seconds), lost, double, changed, f"{statistics.median(seconds):.2f}",
        f"{seconds[max(0, round(0.95 * len(seconds)) - 1)]:.2f}", f"{len(seconds) / wall:.1f}",
        ", ".join(f"{count} {name}" for name, count in errors.items()) or "none", sum(one.requests_again for one in told),
        removed,
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _record_at_once(uri: str, parent: str, processes: int, records: int, rows: int) -> list[Written]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.recorder"])
    queue: Any = context.Queue()
    barrier = context.Barrier(processes)
    own = [
        context.Process(target=write, args=(uri, parent, range(n * records, (n + 1) * records), rows, barrier, queue))
        for n in range(processes)
    ]
    for process in own:
        process.start()
    told = list[Written]()
    while len(told) < processes:
        with contextlib.suppress(Empty):
            told.append(queue.get(timeout=5))
        if any(process.exitcode for process in own):
            raise UserError(
                f"{sum(bool(process.exitcode) for process in own)} of {processes} processes ended with an error"
            )
    for process in own:
        process.join()
    return told


def _end(uri: str, trials: set[str]) -> int:
    """What a sweep's driver does at its end. Returns how many runs it removed, which a late answer had made a second time."""
    client = tracking_store.connect(uri)
    experiment = tracking_store.open_experiment(client, EXPERIMENT)
    before = len(client.search_runs([experiment], max_results=10_000))
    recorder.interrupt(client, EXPERIMENT, trials)
    return before - len(client.search_runs([experiment], max_results=10_000))


def compare(uri: str, trials: int, rows: int) -> tuple[int, int, int]:
    """Trials without a finished run; runs or points of a metric that are there twice; trials whose values differ."""
    client = tracking_store.connect(uri)
    found = sweeps.read(EXPERIMENT, uri=uri)
    runs = client.search_runs([tracking_store.open_experiment(client, EXPERIMENT)], max_results=10_000)
    counts = Counter(run.data.tags[tracking_store.TRIAL] for run in runs if tracking_store.TRIAL in run.data.tags)
    metrics = {run.info.run_id: run.data.metrics for run in runs}
    expected = {one.trial.id: one for one in (result(number, rows) for number in range(trials))}

    def check(run: tracking_runs.Recorded) -> tuple[int, int]:
        own = expected[run.trial]
        content = results.artifact(client, run.run_id, run.artifacts, tracking_store.MEASURES)
        same = pd.read_parquet(BytesIO(content)).equals(results.long_table(own))
        same &= all(metrics[run.run_id][name] == value for name, value in own.headline.items())
        twice = 0
        for name in HISTORIES:
            points = [(point.step, point.value) for point in client.get_metric_history(run.run_id, name)]
            twice += len(points) - len({step for step, _ in points})
            wanted = [(step.step, getattr(step, name.partition("/")[2])) for step in own.curve if "/" in name]
            same &= not wanted or sorted(points) == sorted(wanted)
        return twice, int(not same)

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(check, found.recorded))
    double = sum(count - 1 for count in counts.values()) + sum(twice for twice, _ in told)
    return trials - len(found.recorded), double, sum(changed for _, changed in told)


if __name__ == "__main__":
    app()
