"""python -m benchmarks.analysis_load: how long a sweep's measures take to load, against a plain loop over MLflow's client."""

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

from benchmarks.performance.load_stores import EXPERIMENT
from benchmarks.performance.load_stores import record
from benchmarks.performance.load_stores import served
from bias_transfer.tracking import results
from bias_transfer.tracking import store as tracking_store
from bias_transfer.console import console
from bias_transfer.console import user_errors

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

LEAST_RATIO = 5.0
"""Asked of a first load against the plain loop, for `MANY` runs or more: with few, MLflow's own start is all there is."""
MANY = 1000
COLUMNS = list(results.MEASURE_COLUMNS)


@app.command(context_settings={"max_content_width": 110})
def main(
    runs: Annotated[int, typer.Option(min=1, help="Runs that are recorded, then loaded.")] = 1400,
    rows: Annotated[int, typer.Option(min=1, help="Measures of each run.")] = 100,
    sample: Annotated[
        int,
        typer.Option(min=0, help="Time the plain loop through the server on so many runs, and scale it (0: on all)."),
    ] = 200,
) -> None:
    """Record runs in a temporary folder, then time a plain loop, our first and our second load: SQLite, and a server.

    \b
    python -m benchmarks.analysis_load
    python -m benchmarks.analysis_load --sample 0                   # a quarter of an hour longer
    python -m benchmarks.analysis_load --runs 200 --sample 50       # a quick look
    """
    with user_errors(), tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        (folder / "store").mkdir()
        uri = record(folder / "store", runs, rows)
        timed = {"SQLite": _times(uri, folder / "caches" / "a", runs, 0)}
        with served(folder / "store", folder / "served") as address:
            timed["mlflow server"] = _times(address, folder / "caches" / "b", runs, sample)
    _print(timed, runs, rows, sample)
    slow = any(plain < LEAST_RATIO * first for plain, first, _ in timed.values())
    raise typer.Exit(int(slow and runs >= MANY))


def _times(uri: str, cache: Path, runs: int, sample: int) -> tuple[float, float, float]:
    """Seconds of the plain loop (scaled to all runs), of our first and of our second load. Raises AssertionError where their
    frames differ."""
    looped = min(sample or runs, runs)
    plain, theirs = _alone(plain_loop, uri, looped)
    first, ours = _alone(our_load, uri, str(cache))
    second, again = _alone(our_load, uri, str(cache))
    pd.testing.assert_frame_equal(ours, again, check_exact=True)
    same = ours[ours["trial"].isin(theirs["trial"])].sort_values("trial", kind="stable", ignore_index=True)
    theirs = theirs.sort_values("trial", kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(same, theirs, check_exact=True)
    assert ours["trial"].nunique() == runs
    return plain * runs / looped, first, second


def _alone(function: Callable[..., tuple[float, pd.DataFrame]], *given: object) -> tuple[float, pd.DataFrame]:
    """In a process of its own: nothing is warm that a user's first call would find cold, but for imports."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def plain_loop(uri: str, runs: int) -> tuple[float, pd.DataFrame]:
    """What one writes first: search the runs, then download and read each one's measures."""
    from mlflow import MlflowClient

    begun = time.perf_counter()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment
    found, token = list[str](), None
    while True:
        page = client.search_runs([experiment.experiment_id], "status = 'FINISHED'", page_token=token, max_results=1000)
        found += [run.info.run_id for run in page if tracking_store.TRIAL in run.data.tags]
        token = page.token
        if not token:
            break
    frames = list[pd.DataFrame]()
    searched = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        for run_id in found[:runs]:
            frames.append(pd.read_parquet(client.download_artifacts(run_id, tracking_store.MEASURES, folder)))
    table = pd.concat(frames, ignore_index=True)
    return searched * runs / len(found) + time.perf_counter() - begun, table[COLUMNS]


def our_load(uri: str, cache: str) -> tuple[float, pd.DataFrame]:
    """load.load, tables and all; the columns of the measures are handed back."""
    from analysis.data import fetch  # noqa: F401 (imported before the clock starts)
    from analysis.data import runs as data_runs  # noqa: F401 (imported before the clock starts)

    begun = time.perf_counter()
    runs = data_runs.load(EXPERIMENT, uri=uri, cache=Path(cache))
    seconds = time.perf_counter() - begun
    return seconds, data_runs.plain(runs.table[COLUMNS])


def _print(timed: dict[str, tuple[float, float, float]], runs: int, rows: int, sample: int) -> None:
    scaled = f"; the server's plain loop on {sample} runs, scaled" if 0 < sample < runs else ""
    title = (
        f"{runs} runs, {runs * rows} rows{scaled}; frames equal; seconds, each in a fresh process, imports not counted"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("store", "plain loop", "first load", "ratio", "second load", "ratio"):
        table.add_column(column, justify="left" if column == "store" else "right")
    for store, (plain, first, second) in timed.items():
        ratios = (f"{plain / first:.1f}", f"{plain / second:.1f}")
        table.add_row(store, f"{plain:.2f}", f"{first:.2f}", ratios[0], f"{second:.2f}", ratios[1])
    console().print(table)


if __name__ == "__main__":
    app()
