"""python -m benchmarks.performance.start_up: how long each command takes to answer, and a sweep of one trial to finish."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks import docs_blocks
from bias_transfer.console import application, console, reporting, tell, user_errors
from bias_transfer.errors import UserError

SMALL = """
defaults: {task: wiki, data: {name: synthetic, size: 200, pretraining_sentences: 300}, epochs: 0.5, max_tokens: 16, seed: [0]}
grid: [{model: {name: tiny, steps: 5, width: 16, layers: 1, vocabulary: 1200}}]
"""
"""The config of a sweep of one very short trial."""

COMMANDS = (
    ("-c", "pass"),
    *(("-m", f"bias_transfer.{name}", "--help") for name in ("sweep", "trial", "status", "sync", "pretrain")),
    ("-m", "analysis", "--help"),
    ("-m", "bias_transfer.sweep", "--dry-run"),
    ("-m", "bias_transfer.sweep", "small.yaml", "--no-report"),
    ("-m", "bias_transfer.sweep", "small.yaml", "--no-report"),
)
"""Arguments of python, in order. The last one starts the complete sweep a second time."""

COLUMNS = ("python", "s", "CPU, s")


def main(
    times: Annotated[int, typer.Option(min=1, help="Runs per command; the median counts.")] = 3,
    keep: Annotated[bool, typer.Option("--write", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Time how long each command takes to answer, and how long a sweep of one trial and its second start take.

    \b
    python -m benchmarks.performance.start_up --write
    python -m benchmarks.performance.start_up --times 1         # a quick look
    """
    with user_errors(), reporting() as report:
        seconds = list[list[tuple[float, float]]]()
        for number in range(times):
            with tempfile.TemporaryDirectory() as folder:
                report("runs of all commands", number, times)
                seconds.append([measure(words, Path(folder)) for words in COMMANDS])
        report("runs of all commands", times, times)
    rows = cells(seconds)
    table = Table(*COLUMNS, title="Start-up")
    for row in rows:
        table.add_row(*row)
    console().print(table)
    if keep:
        docs_blocks.put("start-up", page(rows), docs_blocks.PERFORMANCE)
        tell(f"Wrote the table into {docs_blocks.PERFORMANCE}.")


def measure(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command (without Ray's processes), run in `folder`. Raises UserError if it fails."""
    (folder / "small.yaml").write_text(SMALL)
    variables = {
        **os.environ,
        "BIAS_TRANSFER_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    before, start = _cpu(), time.monotonic()
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"python {' '.join(words)} exited with status {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - start, _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cells(seconds: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[str, ...]]:
    """One row per command: medians over the runs. seconds: runs x commands x (wall, CPU)."""
    names = [" ".join(words) for words in COMMANDS]
    labels = [name + (" (again: nothing to run)" if name in names[:index] else "") for index, name in enumerate(names)]
    medians = [[statistics.median(values) for values in zip(*runs, strict=True)] for runs in zip(*seconds, strict=True)]
    return [(name, *(f"{value:.2f}" for value in values)) for name, values in zip(labels, medians, strict=True)]


def page(rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown, after a line about machine and command."""
    head = [
        f"{os.cpu_count()} cores ({platform.machine()}). Written by `python -m benchmarks.performance.start_up --write`; "
        "`small.yaml` contains one very short trial.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --: | --: |",
    ]
    return "\n".join([*head, *(f"| `{name}` | {' | '.join(values)} |" for name, *values in rows)])


if __name__ == "__main__":
    application(main)()
