"""python -m benchmarks.sweep_overhead: what a sweep costs beside its trials, which here take no time."""

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
from benchmarks.performance.empty_sweep import DOSES
from benchmarks.performance.empty_sweep import TOLD
from benchmarks.performance.load_stores import EXPERIMENT
from bias_transfer.tracking import store
from bias_transfer.console import Report
from bias_transfer.console import console
from bias_transfer.console import reporting
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

STARTS = 3
"""How often the shortest sweep is run: its times are the medians."""

NAMES = {"ours": "this sweep", "plain": "plain Ray Tune with its MLflow callback"}

COLUMNS = (
    "what", "trials", "s in all", "of these to start and end", "ms a trial", "driver's CPU, ms a trial", "driver's peak, MB",
    "lost", "double",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Of one sweep."""

    what: str
    trials: int
    wall: float
    """Seconds of its process, from before its first import to its end."""
    cpu: float
    """Seconds of the driver's process alone."""
    peak: float
    """MB of the driver's process."""
    lost: int
    """Trials without a finished run."""
    double: int
    """Runs beside the first of a trial."""


@app.command(context_settings={"max_content_width": 110})
def main(
    trials: Annotated[
        list[int] | None, typer.Option(min=2 * DOSES, help="How many; repeatable.", show_default="100, 1000, 10000")
    ] = None,
    plain_up_to: Annotated[int, typer.Option(min=0, help="Plain Ray Tune beside it, for at most so many.")] = 1000,
    keep: Annotated[bool, typer.Option("--write", help="Put the table into docs/performance.md.")] = False,
) -> None:
    """Overhead a trial: empty trials through the whole of a sweep, recording included, beside plain Ray Tune.

    A sweep of ten trials is run three times first: what it takes is taken for starting and ending one.

    \b
    python -m benchmarks.sweep_overhead --write                   # some twenty minutes on two cores
    python -m benchmarks.sweep_overhead --trials 100              # a quick look
    python -m benchmarks.sweep_overhead --trials 100 --trials 1000 --plain-up-to 0
    """
    wanted = sorted(trials or [100, 1000, 10_000])
    sizes = {"ours": wanted, "plain": [number for number in wanted if number <= plain_up_to]}
    with user_errors(), reporting() as report:
        costs = [
            measure(what, number, report) for what, own in sizes.items() if own for number in (*[DOSES] * STARTS, *own)
        ]
    rows = cells(costs)
    table = Table(title="Overhead of a sweep whose trials take no time")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        table.add_row(*row)
    console().print(table)
    wrong = sum(cost.lost + cost.double for cost in costs)
    tell(f"{wrong} trials were lost or recorded twice." if wrong else "No trial was lost, none was recorded twice.")
    if keep:
        docs_blocks.put("overhead", page(rows), docs_blocks.PERFORMANCE)
        tell(f"Written: {docs_blocks.PERFORMANCE}")
    raise typer.Exit(int(wrong > 0))


def cells(costs: Sequence[Cost]) -> list[tuple[str, ...]]:
    """A row each, but for the shortest sweeps: their median is what starting and ending takes, and a trial's share is of what
    is more."""
    rows = []
    for what in dict.fromkeys(cost.what for cost in costs):
        own = [cost for cost in costs if cost.what == what]
        least = min(cost.trials for cost in own)
        wall = statistics.median(cost.wall for cost in own if cost.trials == least)
        cpu = statistics.median(cost.cpu for cost in own if cost.trials == least)
        for cost in own:
            more = cost.trials - least
            if more:
                shares = [f"{1000 * seconds / more:.1f}" for seconds in (cost.wall - wall, cost.cpu - cpu)]
                seconds = f"{cost.wall:.1f}", f"{wall:.1f}"
                found = f"{cost.peak:.0f}", str(cost.lost), str(cost.double)
                rows.append((NAMES[what], f"{cost.trials:,}", *seconds, *shares, *found))
    return rows


def page(rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown, and what made it."""
    head = [
        f"{os.cpu_count()} cores ({platform.machine()}), SQLite. Written by `python -m benchmarks.sweep_overhead --write`.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"| --- |{' --: |' * (len(COLUMNS) - 1)}",
    ]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def measure(what: str, trials: int, report: Report) -> Cost:
    """A sweep in a process and a folder of its own. Raises UserError where it fails."""
    with tempfile.TemporaryDirectory() as given:
        folder, start = Path(given), time.monotonic()
        uri = f"{store.SQLITE}{folder / 'mlflow.db'}"
        own = {**os.environ, "BIAS_TRANSFER_CACHE": str(folder / "cache"), "MLFLOW_TRACKING_URI": uri}
        words = [sys.executable, "-m", "benchmarks.empty_sweep", what, str(trials), str(folder)]
        with subprocess.Popen(words, env=own, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
            last = _follow(child, what, trials, report)
        wall = time.monotonic() - start
        if child.returncode:
            raise UserError(f"{NAMES[what]}, {trials} trials, ended with status {child.returncode}: {last}")
        told = json.loads((folder / TOLD).read_text())
        return Cost(what, trials, wall, told["cpu"], told["peak"], *counted(uri, trials))


def _follow(child: subprocess.Popen[str], what: str, trials: int, report: Report) -> str:
    """Report how many trials are done, as its lines say. Returns the last of these."""
    lines, shown = deque[str](maxlen=20), f"{NAMES[what]}, {trials} trials"
    report(shown, 0, trials)
    for line in child.stdout or ():
        lines.append(line)
        done = re.search(r"; (\d+) done, \d+ running", line)
        if done:
            report(shown, int(done[1]), trials)
    report(shown, trials, trials)
    return "".join(lines)


def counted(uri: str, trials: int) -> tuple[int, int]:
    """Trials without a finished run, and finished runs beside the first of a trial, which its seed and dose tell."""
    client = store.connect(uri)
    done = "attributes.status = 'FINISHED'"
    runs = client.search_runs([store.open_experiment(client, EXPERIMENT)], done, max_results=50_000)
    found = Counter((run.data.params["seed"], run.data.params.get("upstream_dose")) for run in runs if run.data.params)
    return trials - len(found), found.total() - len(found)


if __name__ == "__main__":
    app()
