"""Fetch the measures of finished runs from MLflow, several at a time, and cache them in a local file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis.data import measure_cache
from bias_transfer.console import Report, console, reporting
from bias_transfer.errors import UserError
from bias_transfer.tracking import results, store, sweeps
from bias_transfer.tracking.runs import Recorded
from bias_transfer.tracking.store import MEASURES
from bias_transfer.tracking.sweeps import Sweep

THREADS = 16
"""Parallel requests. Each spends 40 ms waiting for the server and 2 ms computing."""

PATIENCE = 3.0
"""Seconds after which progress is shown."""


@dataclass(frozen=True, eq=False)
class CachedSweep:
    """A sweep, and what the cache holds of its experiment."""

    sweep: Sweep
    path: Path
    """The cache file."""
    cached: pa.Table
    """Its content (`measure_cache.SCHEMA`)."""


def find(experiment: str, sweep: str | None = None, uri: str | None = None, folder: Path | None = None) -> CachedSweep:
    """Find a sweep (as `tracking.sweeps.read` does) and read its cache. folder: the cache's. Raises UserError."""
    path = measure_cache.place(store.tracking_uri(uri), experiment, folder)
    cached = measure_cache.read(path)
    known = [Recorded(*row) for row in measure_cache.runs_of(cached)]
    return CachedSweep(sweeps.read(experiment, sweep, uri, known), path, cached)


def measures(found: Sequence[CachedSweep], runs: Sequence[Recorded], uri: str | None = None) -> pd.DataFrame:
    """The measures of these runs of the sweeps, in the order of `runs`. Raises UserError.

    One row per measure with the columns of `tracking.results.long_table`; strings are categories. Measures that are not
    cached are fetched and cached.
    """
    tables = [_completed(cached_sweep, runs, uri) for cached_sweep in found]
    positions = {run.run_id: position for position, run in enumerate(runs)}
    table = measure_cache.ordered(measure_cache.join(tables), positions)
    frame: pd.DataFrame = table.select(measure_cache.MEASURES.names).to_pandas()
    return frame.assign(**{name: _sorted(frame[name]) for name in measure_cache.TEXTS})


def _sorted(column: pd.Series) -> pd.Series:
    """The column with the categories that occur in it, in the order in which plain strings would be sorted."""
    used = column.cat.remove_unused_categories()
    return used.cat.reorder_categories(sorted(used.cat.categories))


def _completed(found: CachedSweep, runs: Sequence[Recorded], uri: str | None) -> pa.Table:
    """The cache table of those of the runs that belong to the sweep; what is not cached is fetched first."""
    recorded = set(found.sweep.recorded)
    wanted = [run for run in runs if run in recorded]
    cached = {(run_id, ended) for run_id, _, ended in measure_cache.runs_of(found.cached)}
    lacking = [run for run in wanted if (run.run_id, run.ended) not in cached]
    if not lacking:
        return measure_cache.keep(found.cached, [run.run_id for run in wanted])
    table = measure_cache.join([_current(found), *_fetched(lacking, found.sweep.experiment, uri)])
    _write(found.path, table)
    return measure_cache.keep(table, [run.run_id for run in wanted])


def _current(found: CachedSweep) -> pa.Table:
    """The cache table without outdated runs of the sweep's trials: those deleted or started again. Other sweeps' runs stay."""
    trials = {trial.id for trial in found.sweep.trials}
    recorded = {(run.run_id, run.ended) for run in found.sweep.recorded}
    rows = measure_cache.runs_of(found.cached)
    return measure_cache.keep(
        found.cached, [run_id for run_id, trial, ended in rows if trial not in trials or (run_id, ended) in recorded]
    )


def _fetched(runs: Sequence[Recorded], experiment: str, uri: str | None) -> list[pa.Table]:
    client = store.connect(uri)

    def fetch(run: Recorded) -> pa.Table:
        content = results.artifact(client, run.run_id, run.artifacts, MEASURES)
        try:
            return measure_cache.parse(content, run.run_id, run.ended)
        except (ValueError, KeyError, pa.ArrowException) as error:
            raise UserError(results.unreadable(run.run_id, MEASURES, str(error))) from error

    tables = list[pa.Table]()
    with _patient(f"runs of {experiment}") as report, ThreadPoolExecutor(THREADS) as pool:
        for table in pool.map(fetch, runs):
            tables.append(table)
            report(len(tables), len(runs))
    return tables


@contextmanager
def _patient(activity: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that shows progress once the activity has taken longer than `PATIENCE`."""
    started = time.monotonic()
    with ExitStack() as stack:
        displays = list[Report]()

        def report(done: int, total: int) -> None:
            if not displays and time.monotonic() - started > PATIENCE:
                displays.append(stack.enter_context(reporting()))
            for display in displays:
                display(activity, done, total)

        yield report


def _write(path: Path, table: pa.Table) -> None:
    try:
        measure_cache.write(path, table)
    except OSError as error:
        console(stderr=True).print(
            f"The cache {path.parent} cannot be written ({error.strerror}). The next load will fetch the measures again."
        )
