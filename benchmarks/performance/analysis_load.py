"""python -m benchmarks.performance.analysis_load: time to load the measures of a sweep, against a loop over MLflow's client."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.performance.load_stores import EXPERIMENT, record, served
from bias_transfer.console import application, console, user_errors
from bias_transfer.tracking import results
from bias_transfer.tracking import store as tracking_store

LEAST_RATIO = 5.0
"""Speed-up over the plain loop that a first load must reach with `MANY` or more runs. With few, MLflow's start-up dominates."""
MANY = 1000
COLUMNS = list(results.MEASURE_COLUMNS)


def main(
    runs: Annotated[int, typer.Option(min=1, help="Number of runs that are recorded and then loaded.")] = 1400,
    rows: Annotated[int, typer.Option(min=1, help="Measures per run.")] = 100,
    sample: Annotated[
        int,
        typer.Option(min=0, help="Time the plain loop over the server on this many runs and scale (0: all)."),
    ] = 200,
) -> None:
    """Record runs in a temporary folder, then time a plain loop and this project's first and second load of them.

    Both are timed with SQLite and with an MLflow server.

    \b
    python -m benchmarks.performance.analysis_load
    python -m benchmarks.performance.analysis_load --sample 0                   # takes a quarter of an hour longer
    python -m benchmarks.performance.analysis_load --runs 200 --sample 50       # a quick look
    """
    with user_errors(), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "store").mkdir()
        uri = record(folder / "store", runs, rows)
        timed = {"SQLite": _times(uri, folder / "caches" / "a", runs, 0)}
        with served(folder / "store", folder / "served") as address:
            timed["mlflow server"] = _times(address, folder / "caches" / "b", runs, sample)
    _print(timed, runs, rows, sample)
    slow = any(plain < LEAST_RATIO * first for plain, first, _ in timed.values())
    raise typer.Exit(int(slow and runs >= MANY))


def _times(uri: str, cache: Path, runs: int, sample: int) -> tuple[float, float, float]:
    """Seconds of the plain loop (scaled to all runs), and of this project's first and second load.

    Raises AssertionError if they return different frames.
    """
    looped = min(sample or runs, runs)
    plain, theirs = _in_new_process(plain_loop, uri, looped)
    first, ours = _in_new_process(our_load, uri, str(cache))
    second, again = _in_new_process(our_load, uri, str(cache))
    pd.testing.assert_frame_equal(ours, again, check_exact=True)
    same = ours[ours["trial"].isin(theirs["trial"])].sort_values("trial", kind="stable", ignore_index=True)
    theirs = theirs.sort_values("trial", kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(same, theirs, check_exact=True)
    assert ours["trial"].nunique() == runs
    return plain * runs / looped, first, second


def _in_new_process(function: Callable[..., tuple[float, pd.DataFrame]], *given: object) -> tuple[float, pd.DataFrame]:
    """Call the function in a new process, in which nothing but imports is warm, as on a user's first call."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def plain_loop(uri: str, runs: int) -> tuple[float, pd.DataFrame]:
    """The straightforward way: search the runs, then download and read the measures of each."""
    from mlflow import MlflowClient

    started = time.perf_counter()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment
    run_ids, token = list[str](), None
    while True:
        page = client.search_runs([experiment.experiment_id], "status = 'FINISHED'", page_token=token, max_results=1000)
        run_ids += [run.info.run_id for run in page if tracking_store.TRIAL in run.data.tags]
        token = page.token
        if not token:
            break
    frames = list[pd.DataFrame]()
    searched = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for run_id in run_ids[:runs]:
            frames.append(pd.read_parquet(client.download_artifacts(run_id, tracking_store.MEASURES, folder)))
    table = pd.concat(frames, ignore_index=True)
    return searched * runs / len(run_ids) + time.perf_counter() - started, table[COLUMNS]


def our_load(uri: str, cache: str) -> tuple[float, pd.DataFrame]:
    """Time `analysis.data.runs.load`. Returns the seconds and the columns of the measures."""
    from analysis.data import fetch  # noqa: F401 (imported before the clock starts)
    from analysis.data import runs as data_runs

    started = time.perf_counter()
    runs = data_runs.load(EXPERIMENT, uri=uri, cache=Path(cache))
    seconds = time.perf_counter() - started
    return seconds, data_runs.plain(runs.table[COLUMNS])


def _print(timed: dict[str, tuple[float, float, float]], runs: int, rows: int, sample: int) -> None:
    scaled = f"; the plain loop over the server was timed on {sample} runs and scaled" if 0 < sample < runs else ""
    title = f"{runs} runs, {runs * rows} rows{scaled}. Seconds, each in a new process, without imports. All frames are equal."
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("store", "plain loop", "first load", "ratio", "second load", "ratio"):
        table.add_column(column, justify="left" if column == "store" else "right")
    for store, (plain, first, second) in timed.items():
        ratios = (f"{plain / first:.1f}", f"{plain / second:.1f}")
        table.add_row(store, f"{plain:.2f}", f"{first:.2f}", ratios[0], f"{second:.2f}", ratios[1])
    console().print(table)


if __name__ == "__main__":
    application(main)()
