"""python -m benchmarks.start_up: how long one waits for each command, and for a sweep's first trial."""

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
from bias_transfer.console import console
from bias_transfer.console import reporting
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

SMALL = """
defaults: {task: wiki, data: {name: synthetic, size: 200, pretraining_sentences: 300}, epochs: 0.5, max_tokens: 16, seed: [0]}
grid: [{model: {name: tiny, steps: 5, width: 16, layers: 1, vocabulary: 1200}}]
"""
"""A sweep of one trial that takes hardly any time."""

COMMANDS = (
    ("-c", "pass"),
    *(("-m", f"bias_transfer.{name}", "--help") for name in ("sweep", "trial", "status", "sync", "pretrain")),
    ("-m", "analysis", "--help"),
    ("-m", "bias_transfer.sweep", "--dry-run"),
    ("-m", "bias_transfer.sweep", "small.yaml", "--no-report"),
    ("-m", "bias_transfer.sweep", "small.yaml", "--no-report"),
)
"""In their order; the last is the second start of a complete sweep."""

COLUMNS = ("python", "s", "s of CPU")


@app.command(context_settings={"max_content_width": 110})
def main(
    times: Annotated[int, typer.Option(min=1, help="How often each is run; the median counts.")] = 3,
    keep: Annotated[bool, typer.Option("--write", help="Put the table into docs/performance.md.")] = False,
) -> None:
    """How long each command takes to answer, a sweep of one trial, and its second start.

    \b
    python -m benchmarks.start_up --write
    python -m benchmarks.start_up --times 1         # a quick look
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
        tell(f"Written: {docs_blocks.PERFORMANCE}")


def measure(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds until it ends, and of CPU (without Ray's own processes), in a folder without runs of others. Raises UserError."""
    (folder / "small.yaml").write_text(SMALL)
    own = {
        **os.environ,
        "BIAS_TRANSFER_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    before, start = _cpu(), time.monotonic()
    done = subprocess.run([sys.executable, *words], cwd=folder, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"python {' '.join(words)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - start, _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cells(seconds: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[str, ...]]:
    """A row a command: medians over the runs. seconds: a run's (wall, CPU) of each command."""
    shown = [" ".join(words) for words in COMMANDS]
    again = [name + (" (again: nothing to run)" if name in shown[:index] else "") for index, name in enumerate(shown)]
    medians = [[statistics.median(values) for values in zip(*runs, strict=True)] for runs in zip(*seconds, strict=True)]
    return [(name, *(f"{value:.2f}" for value in own)) for name, own in zip(again, medians, strict=True)]


def page(rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown, and what made it."""
    head = [
        f"{os.cpu_count()} cores ({platform.machine()}). Written by `python -m benchmarks.start_up --write`; `small.yaml` has "
        f"one trial that takes hardly any time.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --: | --: |",
    ]
    return "\n".join([*head, *(f"| `{name}` | {' | '.join(values)} |" for name, *values in rows)])


if __name__ == "__main__":
    app()
