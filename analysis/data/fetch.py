"""The measures of finished runs: fetched from the store once, several at a time, and from then on read from a local file."""

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
from bias_transfer.tracking import results
from bias_transfer.tracking import store
from bias_transfer.tracking import sweeps
from bias_transfer.console import Report
from bias_transfer.console import console
from bias_transfer.console import reporting
from bias_transfer.errors import UserError
from bias_transfer.tracking.store import MEASURES
from bias_transfer.tracking.runs import Recorded
from bias_transfer.tracking.sweeps import Sweep

THREADS = 16
"""A server's answer is 40 ms of waiting and 2 of work."""

PATIENCE = 3.0
"""Seconds before progress is shown."""


@dataclass(frozen=True, eq=False)
class Found:
    """A sweep, and what the cache holds of its experiment."""

    sweep: Sweep
    path: Path
    """Of the cache's file."""
    cached: pa.Table
    """A pack (`pack.SCHEMA`)."""


def find(experiment: str, sweep: str | None = None, uri: str | None = None, folder: Path | None = None) -> Found:
    """The sweep, as `tracking.read` finds it. folder: of the cache. Raises UserError."""
    path = measure_cache.place(store.tracking_uri(uri), experiment, folder)
    cached = measure_cache.read(path)
    known = [Recorded(*row) for row in measure_cache.runs_of(cached)]
    return Found(sweeps.read(experiment, sweep, uri, known), path, cached)


def measures(found: Sequence[Found], runs: Sequence[Recorded], uri: str | None = None) -> pd.DataFrame:
    """The measures of these runs, which the sweeps found hold, in their order: a row a measure, as `tracking.long_table` has
    them, with words as categories. What is not in the cache is fetched, and is in it afterwards. Raises UserError."""
    packs = [_completed(one, runs, uri) for one in found]
    table = measure_cache.ordered(measure_cache.join(packs), {run.run_id: place for place, run in enumerate(runs)})
    frame: pd.DataFrame = table.select(measure_cache.MEASURES.names).to_pandas()
    return frame.assign(**{name: _sorted(frame[name]) for name in measure_cache.TEXTS})


def _sorted(words: pd.Series) -> pd.Series:
    """Categories that are there, in the order in which plain strings would be sorted."""
    used = words.cat.remove_unused_categories()
    return used.cat.reorder_categories(sorted(used.cat.categories))


def _completed(found: Found, runs: Sequence[Recorded], uri: str | None) -> pa.Table:
    """What the cache holds of those of the runs that are the sweep's, and what it lacked."""
    own = set(found.sweep.recorded)
    wanted = [run for run in runs if run in own]
    cached = {(run_id, ended) for run_id, _, ended in measure_cache.runs_of(found.cached)}
    lacking = [run for run in wanted if (run.run_id, run.ended) not in cached]
    if not lacking:
        return measure_cache.keep(found.cached, [run.run_id for run in wanted])
    whole = measure_cache.join([_current(found), *_fetched(lacking, found.sweep.experiment, uri)])
    _write(found.path, whole)
    return measure_cache.keep(whole, [run.run_id for run in wanted])


def _current(found: Found) -> pa.Table:
    """The cache without runs that are no longer the sweep's: deleted, or started again since. Those of other sweeps stay."""
    trials = {trial.id for trial in found.sweep.trials}
    now = {(run.run_id, run.ended) for run in found.sweep.recorded}
    rows = measure_cache.runs_of(found.cached)
    return measure_cache.keep(
        found.cached, [run_id for run_id, trial, ended in rows if trial not in trials or (run_id, ended) in now]
    )


def _fetched(runs: Sequence[Recorded], experiment: str, uri: str | None) -> list[pa.Table]:
    client = store.connect(uri)

    def one(run: Recorded) -> pa.Table:
        content = results.artifact(client, run.run_id, run.artifacts, MEASURES)
        try:
            return measure_cache.parse(content, run.run_id, run.ended)
        except (ValueError, KeyError, pa.ArrowException) as error:
            raise UserError(results.unreadable(run.run_id, MEASURES, str(error))) from error

    tables = list[pa.Table]()
    with _patient(f"runs of {experiment}") as report, ThreadPoolExecutor(THREADS) as pool:
        for table in pool.map(one, runs):
            tables.append(table)
            report(len(tables), len(runs))
    return tables


@contextmanager
def _patient(what: str) -> Iterator[Callable[[int, int], None]]:
    """(done, of how many), shown once it takes longer than `PATIENCE`."""
    begun = time.monotonic()
    with ExitStack() as stack:
        shown = list[Report]()

        def report(done: int, total: int) -> None:
            if not shown and time.monotonic() - begun > PATIENCE:
                shown.append(stack.enter_context(reporting()))
            for each in shown:
                each(what, done, total)

        yield report


def _write(path: Path, table: pa.Table) -> None:
    try:
        measure_cache.write(path, table)
    except OSError as error:
        console(stderr=True).print(
            f"The cache {path.parent} cannot be written ({error.strerror}): the next load fetches again."
        )
