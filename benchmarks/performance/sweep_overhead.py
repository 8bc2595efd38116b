"""python -m benchmarks.performance.sweep_overhead: the overhead of a sweep, measured with trials that take no time."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks import docs_blocks
from benchmarks.performance.empty_sweep import DOSES, USAGE
from benchmarks.performance.load_stores import EXPERIMENT
from bias_transfer.console import Report, application, console, reporting, tell, user_errors
from bias_transfer.errors import UserError
from bias_transfer.tracking import store

STARTS = 3
"""Runs of the shortest sweep, of which the medians count."""

NAMES = {"ours": "this sweep", "plain": "plain Ray Tune with its MLflow callback"}

COLUMNS = (
    "sweep", "trials", "total, s", "start and end, s", "ms per trial", "driver's CPU, ms per trial", "driver's peak, MB",
    "lost", "duplicated",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """The cost of one sweep."""

    kind: str
    """A key of `NAMES`."""
    trials: int
    wall: float
    """Seconds of its process, imports included."""
    cpu: float
    """CPU seconds of the driver's process alone."""
    peak: float
    """Peak memory of the driver's process, MB."""
    lost: int
    """Trials without a finished run."""
    duplicated: int
    """Finished runs in addition to the first of a trial."""


def main(
    trials: Annotated[
        list[int] | None,
        typer.Option(min=2 * DOSES, help="Number of trials; repeatable.", show_default="100, 1000, 10000"),
    ] = None,
    plain_up_to: Annotated[
        int, typer.Option(min=0, help="Run plain Ray Tune too, with at most this many trials.")
    ] = 1000,
    keep: Annotated[bool, typer.Option("--write", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Measure the overhead per trial of whole sweeps of empty trials, recording included, against plain Ray Tune.

    A sweep of ten trials is first run three times; its time is taken as that for starting and ending a sweep.

    \b
    python -m benchmarks.performance.sweep_overhead --write                   # takes about twenty minutes on two cores
    python -m benchmarks.performance.sweep_overhead --trials 100              # a quick look
    python -m benchmarks.performance.sweep_overhead --trials 100 --trials 1000 --plain-up-to 0
    """
    wanted = sorted(trials or [100, 1000, 10_000])
    sizes = {"ours": wanted, "plain": [number for number in wanted if number <= plain_up_to]}
    with user_errors(), reporting() as report:
        costs = [
            measure(kind, count, report)
            for kind, counts in sizes.items()
            if counts
            for count in (*[DOSES] * STARTS, *counts)
        ]
    rows = cells(costs)
    table = Table(title="Overhead of sweeps of empty trials")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "sweep" else "right")
    for row in rows:
        table.add_row(*row)
    console().print(table)
    wrong = sum(cost.lost + cost.duplicated for cost in costs)
    tell(f"{wrong} trials were lost or recorded twice." if wrong else "No trial was lost or recorded twice.")
    if keep:
        docs_blocks.put("overhead", page(rows), docs_blocks.PERFORMANCE)
        tell(f"Wrote the table into {docs_blocks.PERFORMANCE}.")
    raise typer.Exit(int(wrong > 0))


def cells(costs: Sequence[Cost]) -> list[tuple[str, ...]]:
    """One row per sweep except the shortest of each kind.

    The medians of the shortest are the cost of starting and ending; the excess over them is divided by the excess trials.
    """
    rows = []
    for kind in dict.fromkeys(cost.kind for cost in costs):
        of_kind = [cost for cost in costs if cost.kind == kind]
        least = min(cost.trials for cost in of_kind)
        wall = statistics.median(cost.wall for cost in of_kind if cost.trials == least)
        cpu = statistics.median(cost.cpu for cost in of_kind if cost.trials == least)
        for cost in of_kind:
            more = cost.trials - least
            if more:
                shares = [f"{1000 * seconds / more:.1f}" for seconds in (cost.wall - wall, cost.cpu - cpu)]
                seconds = f"{cost.wall:.1f}", f"{wall:.1f}"
                checks = str(cost.lost), str(cost.duplicated)
                rows.append((NAMES[kind], f"{cost.trials:,}", *seconds, *shares, f"{cost.peak:.0f}", *checks))
    return rows


def page(rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown, after a line about machine and command."""
    head = [
        f"{os.cpu_count()} cores ({platform.machine()}), SQLite. Written by "
        "`python -m benchmarks.performance.sweep_overhead --write`.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"| --- |{' --: |' * (len(COLUMNS) - 1)}",
    ]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def measure(kind: str, trials: int, report: Report) -> Cost:
    """Run a sweep in a new process and folder. Raises UserError if it fails."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, start = Path(temporary), time.monotonic()
        uri = f"{store.SQLITE}{folder / 'mlflow.db'}"
        variables = {**os.environ, "BIAS_TRANSFER_CACHE": str(folder / "cache"), "MLFLOW_TRACKING_URI": uri}
        words = [sys.executable, "-m", "benchmarks.performance.empty_sweep", kind, str(trials), str(folder)]
        with subprocess.Popen(
            words, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child:
            output = _follow(child, kind, trials, report)
        wall = time.monotonic() - start
        if child.returncode:
            raise UserError(f"{NAMES[kind]}, {trials} trials, exited with status {child.returncode}: {output}")
        usage = json.loads((folder / USAGE).read_text())
        return Cost(kind, trials, wall, usage["cpu"], usage["peak"], *counted(uri, trials))


def _follow(child: subprocess.Popen[str], kind: str, trials: int, report: Report) -> str:
    """Report how many trials are done according to the process's output. Returns the last lines of the output."""
    lines, label = deque[str](maxlen=20), f"{NAMES[kind]}, {trials} trials"
    report(label, 0, trials)
    for line in child.stdout or ():
        lines.append(line)
        done = re.search(r"; (\d+) done, \d+ running", line)
        if done:
            report(label, int(done[1]), trials)
    report(label, trials, trials)
    return "".join(lines)


def counted(uri: str, trials: int) -> tuple[int, int]:
    """The numbers of trials without a finished run and of duplicate runs. Seed and dose identify a trial."""
    client = store.connect(uri)
    done = "attributes.status = 'FINISHED'"
    runs = client.search_runs([store.open_experiment(client, EXPERIMENT)], done, max_results=50_000)
    finished = Counter(
        (run.data.params["seed"], run.data.params.get("upstream_dose")) for run in runs if run.data.params
    )
    return trials - len(finished), finished.total() - len(finished)


if __name__ == "__main__":
    application(main)()
