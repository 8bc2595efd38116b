"""How far the sweeps are, from anywhere that reaches the store: python -m bias_transfer.status."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bias_transfer.console import TrackingUri
from bias_transfer.console import console
from bias_transfer.console import user_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from bias_transfer.tracking.progress import Progress

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

HOUR = 3600.0
ERRORS = 3
"""Errors that are shown of a sweep: the latest."""


@dataclass(frozen=True)
class Status:
    """A sweep at this moment, as `--json` has it."""

    experiment: str
    sweep: str
    run_id: str
    trials: int
    done: int
    running: int
    failed: int
    kept: int
    """Results in the outbox, as far as it is seen from here."""
    rate: float | None
    """Trials an hour, over the last hour or since the driver started."""
    seconds_left: float | None
    driver: str | None
    """Who runs it, if its process lives or may live."""
    beat_age: float | None
    """Seconds since the driver's last sign of life."""
    errors: tuple[str, ...]


@app.command(context_settings={"max_content_width": 110})
def main(
    experiment: Annotated[
        str, typer.Argument(metavar="[EXPERIMENT]", help="One experiment's sweeps.", show_default="all")
    ] = "",
    tracking_uri: TrackingUri = None,
    watch: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="Show it anew so often, until Ctrl-C.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one list of sweeps.")] = False,
) -> None:
    """Show the sweeps: trials done, running and failed, results not sent yet, the rate, the time left, and who runs them.

    \b
    python -m bias_transfer.status
    python -m bias_transfer.status wiki_small --watch 10 --tracking-uri http://127.0.0.1:5000
    """
    with user_errors():
        client, sweeps = _first_look(tracking_uri, experiment)
        if as_json:
            print(json.dumps([asdict(_status(sweep)) for sweep in sweeps], indent=1))
            return
        if watch is None:
            console().print(_shown(sweeps))
            return
        _watched(client, experiment, watch, sweeps)


def _first_look(uri: str | None, experiment: str) -> tuple[MlflowClient, list[Progress]]:
    """Nearly all of the command's time goes into importing mlflow. What that makes stays: not looking for garbage in it, in
    between and at the end, saves two fifths of it."""
    gc.disable()
    try:
        from bias_transfer.tracking import lease as tracking_lease
        from bias_transfer.tracking import progress
        from bias_transfer.tracking import store

        client = store.connect(uri)
        return client, _look(client, experiment)
    finally:
        gc.freeze()
        gc.enable()


def _watched(client: MlflowClient, experiment: str, seconds: float, sweeps: list[Progress]) -> None:
    """Again and again; a store that is away for a while is told and asked again."""
    with Live(_shown(sweeps), console=console(), auto_refresh=False) as live:
        while True:
            try:
                time.sleep(seconds)
                sweeps = _look(client, experiment)
                live.update(_shown(sweeps), refresh=True)
            except KeyboardInterrupt:
                return
            except Exception as error:
                told = f"the store does not answer ({type(error).__name__}); what it said last:"
                live.update(Group(Text(told), _shown(sweeps)), refresh=True)


def _look(client: MlflowClient, experiment: str) -> list[Progress]:
    from bias_transfer.tracking import lease as tracking_lease
    from bias_transfer.tracking import progress
    from bias_transfer.tracking import store

    names = [experiment] if experiment else progress.experiments(client)
    return [sweep for name in names for sweep in progress.watch(client, name)]


def _status(sweep: Progress) -> Status:
    from bias_transfer.tracking import outbox
    from bias_transfer.tracking import lease as tracking_lease
    from bias_transfer.tracking import progress
    from bias_transfer.tracking import store

    now, lease = time.time(), sweep.lease
    if lease and tracking_lease.alive(lease) is False:
        lease = None
    done = {run.trial for run in sweep.done}
    kept = (set(outbox.ids(sweep.experiment)) & set(sweep.trials)) - done
    rate = _rate(sweep, lease.since, now) if lease else None
    left = len(set(sweep.trials) - done - kept - {key for key, _ in sweep.failed})
    return Status(
        sweep.experiment, sweep.name, sweep.run_id, len(sweep.trials), len(done), len(sweep.running), len(sweep.failed),
        len(kept), rate, left / rate * HOUR if rate else None, lease.owner if lease else None,
        now - lease.beat if lease else None, tuple(f"{key}: {error}" for key, error in sweep.failed[:ERRORS]),
    )  # fmt: skip


def _rate(sweep: Progress, since: float, now: float) -> float:
    """Trials an hour, over the last hour or since `since`."""
    window = min(HOUR, max(now - since, 1.0))
    return sum(run.ended / 1000 >= now - window for run in sweep.done) / window * HOUR


def _shown(sweeps: list[Progress]) -> Group:
    table = Table("experiment", "sweep", "done", "running", "failed", "kept", "an hour", "left", "driver")
    lines = list[Text]()
    for status in map(_status, sweeps):
        table.add_row(
            status.experiment, status.run_id[:8], f"{status.done}/{status.trials}", str(status.running),
            str(status.failed), str(status.kept), f"{status.rate:.1f}" if status.rate is not None else "",
            _duration(status.seconds_left), _driver(status),
        )  # fmt: skip
        lines += [Text(f"FAILED {line.splitlines()[0][:200]}") for line in status.errors]
        if status.kept:
            lines.append(Text(f"{status.kept} results wait: python -m bias_transfer.sync {status.experiment}"))
    return Group(table, *lines)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds / HOUR:.1f} h" if seconds >= HOUR else f"{seconds / 60:.0f} min"


def _driver(status: Status) -> str:
    if status.driver:
        return f"{status.driver}, seen {status.beat_age:.0f} s ago"
    ended = status.done + status.failed + status.kept
    return "ended" if ended == status.trials else "no driver: start it again"


if __name__ == "__main__":
    app()
