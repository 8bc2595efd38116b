"""python -m benchmarks.performance.recording_load: many processes record at once; then everything is read and compared."""

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
from benchmarks.performance.load_stores import EXPERIMENT, PRIMARY, result
from benchmarks.performance.recorder import Written, write
from benchmarks.servers import mlflow_server, postgres, postgres_programs
from bias_transfer.console import application, console, tell, user_errors
from bias_transfer.errors import UserError
from bias_transfer.tracking import recorder, results, sweeps
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking import store as tracking_store

ROWS = 2800
"""Measures of a WIKI trial."""

HISTORIES = ("roc_auc", "training/loss", "training/learning_rate")
"""Metrics of which every recorded point is read back."""


def main(
    processes: Annotated[int, typer.Option(min=1, help="Processes that record at the same time.")] = 64,
    records: Annotated[int, typer.Option(min=1, help="Trials per process, recorded one after another.")] = 3,
    rows: Annotated[int, typer.Option(min=1, help="Measures per trial.")] = ROWS,
    keep: Annotated[bool, typer.Option("--write", help="Write the table into docs/fault_tolerance.md.")] = False,
) -> None:
    """Let 64 processes record trials of realistic size at once: in servers on PostgreSQL and SQLite, and in a SQLite file.

    \b
    python -m benchmarks.performance.recording_load --write
    python -m benchmarks.performance.recording_load --processes 8 --records 2       # a quick look
    """
    lines = []
    with user_errors():
        for store in ("server, PostgreSQL", "server, SQLite", "SQLite file"):
            if store == "server, PostgreSQL" and postgres_programs() is None:
                console().print("PostgreSQL is not installed on this machine and is left out.")
                continue
            with tempfile.TemporaryDirectory() as temporary, opened(store, Path(temporary)) as uri:
                Path(temporary).chmod(0o755)
                lines.append(line(store, uri, processes, records, rows))
                tell(lines[-1])
    head = [
        f"{processes} processes with {records} records each, {rows} measures per record, on one machine of {os.cpu_count()} "
        f"cores ({platform.machine()}). Written by `python -m benchmarks.performance.recording_load --write`.",
        "",
        "| store | records | lost | duplicated | changed | s per record: median | p95 | records per second | errors, retried "
        "| requests repeated | duplicate runs removed |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --- | --: | --: |",
    ]
    if keep:
        docs_blocks.put("load", "\n".join([*head, *lines]))
    raise typer.Exit(int(any("| 0 | 0 | 0 |" not in line for line in lines)))


@contextlib.contextmanager
def opened(store: str, folder: Path) -> Iterator[str]:
    """The URI of a new store, which exists within the context."""
    with contextlib.ExitStack() as stack:
        sqlite = f"{tracking_store.SQLITE}{folder / 'mlflow.db'}"
        if store == "SQLite file":
            yield sqlite
            return
        folder.chmod(0o755)  # so that the user as which PostgreSQL runs can enter it
        backend = sqlite if store == "server, SQLite" else stack.enter_context(postgres(folder / "postgres")).uri
        yield stack.enter_context(mlflow_server(folder / "server", backend)).uri


def line(store: str, uri: str, processes: int, records: int, rows: int) -> str:
    """Record, read back and compare. Returns a row of the table."""
    client = tracking_store.connect(uri, create=True)
    trials = [result(number, 0).trial for number in range(processes * records)]
    parent = sweeps.open_sweep(client, EXPERIMENT, trials, PRIMARY)
    written = _record_at_once(uri, parent, processes, records, rows)
    removed = _end(uri, {trial.id for trial in trials})
    lost, duplicated, changed = compare(uri, processes * records, rows)
    seconds = sorted(value for process in written for value in process.seconds)
    wall = max(process.ended for process in written) - min(process.begun for process in written)
    errors = Counter(error for process in written for error in process.errors)
    cells = [
        store, len(seconds), lost, duplicated, changed, f"{statistics.median(seconds):.2f}",
        f"{seconds[max(0, round(0.95 * len(seconds)) - 1)]:.2f}", f"{len(seconds) / wall:.1f}",
        ", ".join(f"{count} {name}" for name, count in errors.items()) or "none",
        sum(process.requests_again for process in written), removed,
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _record_at_once(uri: str, parent: str, processes: int, records: int, rows: int) -> list[Written]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.performance.recorder"])
    queue: Any = context.Queue()
    barrier = context.Barrier(processes)
    running = [
        context.Process(target=write, args=(uri, parent, range(n * records, (n + 1) * records), rows, barrier, queue))
        for n in range(processes)
    ]
    for process in running:
        process.start()
    written = list[Written]()
    while len(written) < processes:
        with contextlib.suppress(Empty):
            written.append(queue.get(timeout=5))
        if any(process.exitcode for process in running):
            raise UserError(
                f"{sum(bool(process.exitcode) for process in running)} of {processes} processes ended with an error"
            )
    for process in running:
        process.join()
    return written


def _end(uri: str, trials: set[str]) -> int:
    """Do what a sweep's driver does at its end. Returns the number of runs removed: duplicates that late answers had caused."""
    client = tracking_store.connect(uri)
    experiment = tracking_store.open_experiment(client, EXPERIMENT)
    before = len(client.search_runs([experiment], max_results=10_000))
    recorder.interrupt(client, EXPERIMENT, trials)
    return before - len(client.search_runs([experiment], max_results=10_000))


def compare(uri: str, trials: int, rows: int) -> tuple[int, int, int]:
    """The numbers of trials without a finished run, of duplicate runs and metric points, and of trials with changed values."""
    client = tracking_store.connect(uri)
    sweep = sweeps.read(EXPERIMENT, uri=uri)
    runs = client.search_runs([tracking_store.open_experiment(client, EXPERIMENT)], max_results=10_000)
    counts = Counter(run.data.tags[tracking_store.TRIAL] for run in runs if tracking_store.TRIAL in run.data.tags)
    metrics = {run.info.run_id: run.data.metrics for run in runs}
    expected = {outcome.trial.id: outcome for outcome in (result(number, rows) for number in range(trials))}

    def check(run: tracking_runs.Recorded) -> tuple[int, int]:
        outcome = expected[run.trial]
        content = results.artifact(client, run.run_id, run.artifacts, tracking_store.MEASURES)
        same = pd.read_parquet(BytesIO(content)).equals(results.long_table(outcome))
        same &= all(metrics[run.run_id][name] == value for name, value in outcome.headline.items())
        twice = 0
        for name in HISTORIES:
            points = [(point.step, point.value) for point in client.get_metric_history(run.run_id, name)]
            twice += len(points) - len({step for step, _ in points})
            wanted = [(step.step, getattr(step, name.partition("/")[2])) for step in outcome.curve if "/" in name]
            same &= not wanted or sorted(points) == sorted(wanted)
        return twice, int(not same)

    with ThreadPoolExecutor(8) as pool:
        checked = list(pool.map(check, sweep.recorded))
    duplicated = sum(count - 1 for count in counts.values()) + sum(twice for twice, _ in checked)
    return trials - len(sweep.recorded), duplicated, sum(changed for _, changed in checked)


if __name__ == "__main__":
    application(main)()
