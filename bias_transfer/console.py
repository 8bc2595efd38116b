"""For people: progress (a bar with time left on a terminal, plain lines elsewhere), and mistakes as one paragraph."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bias_transfer.errors import UserError


def console(stderr: bool = False) -> Console:
    """Standard output (or error), 120 wide where it is no terminal, so that tables in a log file stay whole. Text is shown as
    it is: a group may be called `[/]`."""
    width = None if sys.stdout.isatty() else 120
    return Console(stderr=stderr, width=width, soft_wrap=False, highlight=False, markup=False)


def tell(text: str) -> None:
    """A paragraph on standard output that a terminal wraps, so that a command or path in it can be copied whole."""
    console().print(text, soft_wrap=True)


TrackingUri = Annotated[
    str | None, typer.Option(help="The MLflow store (default: MLFLOW_TRACKING_URI, or mlflow.db here).")
]
CheckpointMinutes = Annotated[
    float, typer.Option(min=0, help="Between two checkpoints, from which a killed trial goes on; inf: none.")
]
"""Options that several commands have."""

Report = Callable[[str, int, int], None]
"""(what is being done, done, of how many): called as often as one likes."""

LINE_EVERY = 10.0
"""Seconds between two plain lines about the same thing."""


def silent(what: str, done: int, total: int) -> None:
    """Reports nothing."""


@contextmanager
def reporting() -> Iterator[Report]:
    """A Report that writes to standard error."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _lines() -> Report:
    began: dict[str, tuple[float, int]] = {}
    last: dict[str, float] = {}
    latest: dict[str, int] = {}

    def report(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < latest.get(what, total + 1):  # it begins, or begins again
            began[what], last[what] = (now, done), now
        latest[what] = done
        if done < total and now - last[what] < LINE_EVERY:
            return
        last[what] = now
        start, first = began[what]
        rate = (done - first) / (now - start) if now > start else 0.0
        left = f", {(total - done) / rate:.0f} s left" if done < total and rate else ""
        print(f"{what}: {done}/{total}{left}", file=sys.stderr, flush=True)

    return report


@contextmanager
def user_errors() -> Iterator[None]:
    """Print a UserError as one paragraph on standard error, and end with its exit status."""
    try:
        yield
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(error.status) from None
