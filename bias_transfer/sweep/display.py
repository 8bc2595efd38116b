"""What a sweep tells people: the plan, the progress, the results, the failures, and what to do next."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from bias_transfer.config import cost
from bias_transfer.config import grid
from bias_transfer.storage.cache import default_folder
from bias_transfer.console import console
from bias_transfer.console import tell
from bias_transfer.spec import Trial
from bias_transfer.sweep.plan import Plan

if TYPE_CHECKING:
    import pandas as pd


def show_plan(plan: Plan) -> None:
    """The trials as a table."""
    table, states = Table("id", "trial", "state", title=f"{plan.experiment}: {len(plan.trials)} trials"), plan.states()
    for key, state in states.items():
        table.add_row(key, plan.names[key], state)
    console().print(table)
    counts = [*states.values()]
    console().print(", ".join(f"{counts.count(state)} {state}" for state in ("done", "to do", "failed", "left out")))


def show_unresolved(experiment: str, trials: Sequence[Trial], why: str, teraflops: float) -> None:
    """The trials of a grid whose data or model is on a hub that cannot be asked: named, counted, without ids."""
    table = Table("trial", title=f"{experiment}: {len(trials)} trials")
    for name in grid.names(trials):
        table.add_row(name)
    console().print(table)
    tell(f"{len(trials)} trials. Their ids, and which are done, are not known here: {why}")
    show_estimate(trials, teraflops)


def show_estimate(trials: Sequence[Trial], teraflops: float) -> None:
    """GPU-hours of the trials, and what the figure rests on."""
    found = cost.gpu_hours(trials, teraflops)
    if found is None:
        return
    assumed = f" {', '.join(found.unknown)} is taken for a base model." if found.unknown else ""
    console().print(
        f"About {found.hours:.1f} GPU-hours ({60 * found.per_trial:.1f} min a trial on average): fine-tuning and prediction on "
        f"the task's published data, at {found.teraflops:g} TFLOP/s sustained, which is stated, not measured (--teraflops)."
        + assumed,
        markup=False,
        soft_wrap=True,
    )


Counts = Callable[[int, int, int, str], None]
"""(done, running, failed, what just happened)"""


@contextmanager
def progress(total: int) -> Iterator[Counts]:
    """Trials done, running and failed with the time left: a bar on a terminal, a line an event elsewhere."""
    terminal, start = console(stderr=True), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    bars = Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)
    bar = bars.add_task("trials", total=total, left="")

    def report(done: int, running: int, failed: int, event: str) -> None:
        ended = done + failed
        left = _minutes((time.monotonic() - start) / ended * (total - ended)) if ended else "unknown"
        bars.update(
            bar, completed=ended, description=f"{done} done, {running} running, {failed} failed", left=f"{left} left"
        )
        if terminal.is_terminal:
            bars.print(event)
        else:
            terminal.print(
                f"{event}; {done} done, {running} running, {failed} failed of {total}, {left} left", soft_wrap=True
            )

    with bars:
        yield report


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


SHOWN = ("roc_auc", "accuracy", "upstream_mean", "dataset_mean", "downstream_mean", "downstream_sd")


SHORT = 30
"""Characters of an arm's name that stand on one line; a longer one is folded, so that it takes no number away."""


def show_results(plan: Plan, headlines: pd.DataFrame) -> None:
    """Mean and SD over seeds of the headline metrics, an arm a row, and the yardstick beside them."""
    if headlines.empty:
        return
    frame = headlines.assign(setting=_settings(headlines))
    keys = ["setting", "data", "model", "arm"]
    names = [name for name in SHOWN if name in headlines]
    table = Table(title="Mean (SD) over seeds; upstream, dataset and downstream: mean and SD over groups")
    several = frame[keys[:3]].drop_duplicates().shape[0] > 1
    if several:
        table.add_column("setting", overflow="fold")
    short = headlines["arm"].str.len().max() <= SHORT
    table.add_column("arm", overflow="fold", no_wrap=short and not several)
    for name in ("seeds", *names):
        table.add_column(name.replace("_", "\n"), min_width=7)
    for key, rows in frame.groupby(keys, sort=False):
        cells = [_mean_sd(rows[name]) for name in names]
        table.add_row(*([str(key[0])] if several else []), str(key[3]), str(len(rows)), *cells)
    console().print(table)
    _show_yardsticks(plan)
    for warning in sorted({text for texts in headlines[headlines.upstream == "none"]["warnings"] for text in texts}):
        console().print(f"Warning: {warning}")


def _settings(headlines: pd.DataFrame) -> pd.Series[str]:
    """Task, model and tuning, and the data where they differ."""
    if len(set(headlines["data"])) == 1:
        return headlines["setting"]
    return headlines["setting"] + " " + headlines["data"].str.rstrip("/").str.rsplit("/", n=1).str[-1]


def _mean_sd(values: pd.Series[float]) -> str:
    mean = f"{values.mean():.3f}" if values.notna().any() else "missing"
    return f"{mean} ({values.std():.3f})" if values.notna().sum() > 1 else mean


def _show_yardsticks(plan: Plan) -> None:
    """A line a name of data; a range where its options make several data sets."""
    from bias_transfer.pipeline import load_splits
    from bias_transfer.tasks.baseline import roc_auc

    found: dict[str, list[tuple[float, int]]] = {}
    sets = {(trial.task, trial.data_digest, str(trial.options_of("data"))): trial for trial in plan.trials}
    for trial in sets.values():
        auc = roc_auc(trial, partial(load_splits, trial), default_folder())
        found.setdefault(f"{trial.task} {trial.data}", []).append(auc)
    for name, own in found.items():
        low, high = f"{min(own)[0]:.3f}", f"{max(own)[0]:.3f}"
        told = low if low == high else f"{low} to {high} over {len(own)} data sets"
        sizes = " or ".join(map(str, sorted({n for _, n in own})))
        tell(f"Yardstick, TF-IDF and logistic regression on {name}: ROC AUC {told} (n = {sizes})")


def show_failures(plan: Plan, failed: Sequence[tuple[Trial, str]], config: Path, overrides: Sequence[str]) -> None:
    """Each failed trial with its error and the line that runs it alone."""
    for trial, error in failed:
        tell(f"FAILED {trial.id} {plan.names[trial.id]}: {error.splitlines()[0]}")
        words = ["python", "-m", "bias_transfer.trial", *grid.command_line(trial)]
        tell(f"  reproduce: {shlex.join(words)}")
    if failed:
        again = shlex.join([str(config), *(word for text in overrides for word in ("--set", text)), "--retry-failed"])
        tell(f"{len(failed)} failed. Mend it, then: python -m bias_transfer.sweep {again}")


def show_report(plan: Plan, uri: str, attached: Sequence[str]) -> None:
    """Make the report of a complete sweep, unless its parent run has it, and say where it is. In a process of its own, since
    `analysis` knows nothing of trials; what goes wrong there is told, and the sweep is complete all the same."""
    where = f"with the parent run in MLflow: report/{REPORT}"
    if REPORT in attached:
        tell(f"Report: {where} (python -m analysis {plan.experiment} makes it anew)")
        return
    out = Path("results") / plan.experiment
    console(stderr=True).print("Making the report ...")
    words = [sys.executable, "-m", "analysis", plan.experiment, "--out", str(out), "--attach"]
    own = {**os.environ, "MLFLOW_TRACKING_URI": uri}  # not a word of the command, which others can read
    made = subprocess.run(words, capture_output=True, text=True, check=False, env=own)  # noqa: S603 - our own words
    if made.returncode:
        why = (made.stderr.strip() or "no message").splitlines()[-1]
        tell(f"The report could not be made: {why}")
    else:
        tell(f"Report: {out / REPORT} (open it in a browser), and {where}")


REPORT = "report.html"


def show_next(plan: Plan, uri: str, missing: int) -> None:
    """Where the results are, and what to do next."""
    from bias_transfer.tracking import store

    shown = store.shown(uri)
    local = not shown.startswith("http")
    hint = f" (see them: mlflow ui --backend-store-uri {shown})" if local else ""
    flag = " --allow-missing" if missing else ""
    tell(f"Runs: experiment {plan.experiment!r} in {shown}{hint}")
    console().print(f"Tables: {store.MEASURES} of each run, or all of them by the next command")
    if missing:
        console().print(f"Missing: {missing} of {len(plan.trials)} trials; start the sweep again to run them")
    tell(f"Next: python -m analysis {plan.experiment}{flag}{store.option(uri)}")
