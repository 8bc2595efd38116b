"""`bias-transfer status`: how far the sweeps are, from anywhere that reaches MLflow."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bias_transfer.console import TrackingUri, console, user_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from bias_transfer.tracking.progress import Progress

HOUR = 3600.0
ERRORS = 3
"""How many errors of a sweep are shown: the latest."""


@dataclass(frozen=True)
class Status:
    """A sweep at this moment: one object of `--json`."""

    experiment: str
    sweep: str
    run_id: str
    trials: int
    done: int
    running: int
    failed: int
    pending: int
    """Results in the outbox, as far as it is seen from this machine."""
    rate: float | None
    """Trials per hour, over the last hour or since the driver started."""
    seconds_left: float | None
    driver: str | None
    """Who runs the sweep, unless the process is known to be dead."""
    beat_age: float | None
    """Seconds since the driver's last sign of life."""
    errors: tuple[str, ...]


def main(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="Show only this experiment's sweeps.", show_default=False)
    ] = "",
    tracking_uri: TrackingUri = None,
    watch: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="Refresh every SECONDS until interrupted.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a list with one object per sweep.")] = False,
) -> None:
    """Show the progress of sweeps.

    That is, the numbers of trials that are done, running, failed and pending, their rate, the time left, and the driver.

    \b
    bias-transfer status
    bias-transfer status wiki_small --watch 10 --tracking-uri http://127.0.0.1:5000
    """
    from bias_transfer.tracking import store

    with user_errors():
        client = store.connect(tracking_uri)
        sweeps = _look(client, experiment)
        if as_json:
            print(json.dumps([asdict(_status(sweep)) for sweep in sweeps], indent=1))
        elif watch is None:
            console().print(_table(sweeps))
        else:
            _watch(client, experiment, watch, sweeps)


def _watch(client: MlflowClient, experiment: str, seconds: float, sweeps: list[Progress]) -> None:
    """Refresh until interrupted; while MLflow does not answer, the table shows its last answer and says so."""
    with Live(_table(sweeps), console=console(), auto_refresh=False) as live:
        while True:
            try:
                time.sleep(seconds)
                sweeps = _look(client, experiment)
                live.update(_table(sweeps), refresh=True)
            except KeyboardInterrupt:
                return
            except Exception as error:
                note = f"MLflow does not answer ({type(error).__name__}). Its last answer:"
                live.update(Group(Text(note), _table(sweeps)), refresh=True)


def _look(client: MlflowClient, experiment: str) -> list[Progress]:
    from bias_transfer.tracking import progress

    names = [experiment] if experiment else progress.experiments(client)
    return [sweep for name in names for sweep in progress.watch(client, name)]


def _status(sweep: Progress) -> Status:
    from bias_transfer.tracking import lease as leases
    from bias_transfer.tracking import outbox

    now, lease = time.time(), sweep.lease
    if lease and leases.alive(lease) is False:
        lease = None
    done = {run.trial for run in sweep.done}
    pending = (set(outbox.ids(sweep.experiment)) & set(sweep.trials)) - done
    rate = _rate(sweep, lease.since, now) if lease else None
    left = len(set(sweep.trials) - done - pending - {trial_id for trial_id, _ in sweep.failed})
    return Status(
        sweep.experiment, sweep.name, sweep.run_id, len(sweep.trials), len(done), len(sweep.running), len(sweep.failed),
        len(pending), rate, left / rate * HOUR if rate else None, lease.owner if lease else None,
        now - lease.beat if lease else None, tuple(f"{trial}: {error}" for trial, error in sweep.failed[:ERRORS]),
    )  # fmt: skip


def _rate(sweep: Progress, since: float, now: float) -> float:
    """Trials per hour, over the last hour or since `since`."""
    window = min(HOUR, max(now - since, 1.0))
    return sum(run.ended / 1000 >= now - window for run in sweep.done) / window * HOUR


def _table(sweeps: list[Progress]) -> Group:
    table = Table("experiment", "sweep", "done", "running", "failed", "pending", "per hour", "left", "driver")
    notes = list[Text]()
    for status in map(_status, sweeps):
        table.add_row(
            status.experiment, status.run_id[:8], f"{status.done}/{status.trials}", str(status.running),
            str(status.failed), str(status.pending), f"{status.rate:.1f}" if status.rate is not None else "",
            _duration(status.seconds_left), _driver(status),
        )  # fmt: skip
        notes += [Text(f"FAILED {error.splitlines()[0][:200]}") for error in status.errors]
        if status.pending:
            notes.append(
                Text(f"{status.pending} results are pending. Send them: bias-transfer sync {status.experiment}")
            )
    return Group(table, *notes)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds / HOUR:.1f} h" if seconds >= HOUR else f"{seconds / 60:.0f} min"


def _driver(status: Status) -> str:
    if status.driver:
        return f"{status.driver}, seen {status.beat_age:.0f} s ago"
    ended = status.done + status.failed + status.pending
    return "ended" if ended == status.trials else "no driver: start the sweep again"
