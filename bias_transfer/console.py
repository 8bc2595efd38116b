"""Terminal output: tables and paragraphs, progress (bars on a terminal, plain lines in a log), errors that a user can fix."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bias_transfer.errors import UserError


def console(stderr: bool = False) -> Console:
    """A console for standard output (or error), 120 columns wide where that is no terminal, so that tables in a log file
    stay whole. Markup is off: a group of people may be called `[/]`."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 120
    return Console(stderr=stderr, width=width, soft_wrap=False, highlight=False, markup=False)


def tell(text: str) -> None:
    """Print a paragraph and leave the wrapping to the terminal, so that a command or path in it can be copied whole."""
    console().print(text, soft_wrap=True)


AUTHORITY = re.compile(r"^([\w+.-]+://)(?:[^/?#@]*:.*@|[^/?#@]*@)?([^?]*).*", re.DOTALL)
"""The scheme, then a user and a password, then the rest up to the query. The password may hold any character: one that is
not escaped, as in `//user:a#b@host`, ends at the last @ and not at the #, where a URI's host would end."""


def redacted(uri: str) -> str:
    """The URI of a server, a database or a bucket as messages may show it: without user, password and query, each of which
    may hold a secret. What is no URI, such as a folder's path, is returned as it is."""
    return AUTHORITY.sub(r"\1\2", uri)


COMMAND = {"max_content_width": 110}
"""Context settings of every command: the width of its --help."""


def application(*commands: Callable[..., Any], help: str = "", **named: Callable[..., Any]) -> typer.Typer:
    """A command-line application: of one command, or of several sub-commands by name. help: what several have in common."""
    app = typer.Typer(help=help, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    for command in commands:
        app.command(context_settings=COMMAND)(command)
    for name, command in named.items():
        app.command(name, context_settings=COMMAND)(command)
    return app


TrackingUri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="The MLflow store (default: the variable MLFLOW_TRACKING_URI, or else mlflow.db in this folder).",
    ),
]
CheckpointMinutes = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="MINUTES",
        help="Time between two checkpoints, from which an interrupted trial resumes; inf: no checkpoints.",
    ),
]
KeepModels = Annotated[
    bool,
    typer.Option(
        "--keep-models",
        help="Store each fine-tuned classifier under its trial's id, next to the checkpoints (of LoRA and frozen trials only "
        "what was trained).",
    ),
]
KeepPredictions = Annotated[
    bool,
    typer.Option(
        "--keep-predictions",
        help="Store each prediction of the classifier, one Parquet file per trial: an artifact of its run, or next to "
        "--json.",
    ),
]
"""Options that several commands have."""

Report = Callable[[str, int, int], None]
"""(stage, steps done, steps in all): may be called as often as its caller likes."""

LINE_EVERY = 10.0
"""Seconds between two plain lines about the same stage."""


def silent(stage: str, done: int, total: int) -> None:
    """A Report that prints nothing."""


@contextmanager
def reporting() -> Iterator[Report]:
    """A Report that writes to standard error: a bar per stage on a terminal, else a line when a stage begins or ends, and every
    `LINE_EVERY` seconds."""
    with _bars() as bars:
        tasks, line = {}, _lines(bars.console)

        def report(stage: str, done: int, total: int) -> None:
            if bars.disable:
                line(stage, done, total)
                return
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def _bars() -> Progress:
    """Progress bars on standard error, which draw nothing where it is no terminal."""
    terminal = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)


def _lines(log: Console) -> Report:
    began: dict[str, tuple[float, int]] = {}
    printed: dict[str, float] = {}
    latest: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < latest.get(stage, total + 1):  # the stage begins, or begins again
            began[stage], printed[stage] = (now, done), now
        latest[stage] = done
        if 0 < done < total and now - printed[stage] < LINE_EVERY:
            return
        printed[stage] = now
        start, first = began[stage]
        rate = (done - first) / (now - start) if now > start else 0.0
        left = f", {(total - done) / rate:.0f} s left" if done < total and rate else ""
        log.print(f"{stage}: {done}/{total}{left}", soft_wrap=True)

    return report


@contextmanager
def user_errors() -> Iterator[None]:
    """Print a UserError as one paragraph on standard error, and exit with its status. Other exceptions pass: they are bugs,
    and keep their traceback."""
    try:
        yield
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(error.status) from None


@dataclass(frozen=True)
class Doing:
    """What a trial is doing: the arguments of a `Report`."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Running:
    """The trials that run now, and the last warning that one gave."""

    trials: Mapping[str, Doing | None]
    """Name -> what it is doing, as far as that is known."""
    warning: str = ""


Counts = Callable[[int, int, int, str], None]
"""(trials done, running and failed, what just happened)"""

SHOWN = 12
"""Running trials that the table shows; the others are counted."""


@contextmanager
def progress(total: int, look: Callable[[], Running] = lambda: Running({})) -> Iterator[Counts]:
    """Show how many trials are done, running and failed, and the time left: on a terminal with a table of the running trials,
    else a line per event. look: is asked for those about once per second."""
    start, log = time.monotonic(), console(stderr=True)
    latest = f"0 done, 0 running, 0 failed of {total}"

    def draw() -> Group:
        return Group(Text(latest), *running_table(look()))

    with (
        Live(get_renderable=draw, console=log, transient=True, refresh_per_second=1)
        if log.is_terminal
        else nullcontext()
    ):

        def report(done: int, running: int, failed: int, event: str) -> None:
            nonlocal latest
            ended = done + failed
            left = (
                f"{_minutes((time.monotonic() - start) / ended * (total - ended))} left"
                if ended
                else "time left unknown"
            )
            latest = f"{done} done, {running} running, {failed} failed of {total}, {left}"
            log.print(event if log.is_terminal else f"{event}; {latest}", soft_wrap=True)

        yield report


def running_table(running: Running) -> list[RenderableType]:
    """A row per running trial with its stage and a bar, how many more there are, and the last warning on one line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, doing in list(running.trials.items())[:SHOWN]:
        if doing is None:
            table.add_row(Text(name), Text("starts"), "", "")
        else:
            bar = ProgressBar(total=max(doing.total, 1), completed=doing.done, width=24)
            table.add_row(Text(name), Text(doing.stage), bar, Text(f"{doing.done}/{doing.total}"))
    more, warning = len(running.trials) - SHOWN, " ".join(running.warning.split())
    return [
        table,
        *([Text(f"... and {more} more")] if more > 0 else []),
        *([Text(f"Last warning: {warning}", no_wrap=True, overflow="ellipsis")] if warning else []),
    ]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
