"""A sweep's driver: hold the sweep, run what is to do, see that all of it is in the store, show what was found."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bias_transfer.sweep import tune
from mlflow import MlflowClient
from bias_transfer.tracking import lease
from bias_transfer.tracking import recorder
from bias_transfer.tracking import results
from bias_transfer.tracking import retry
from bias_transfer.tracking import runs
from bias_transfer.tracking import store
from bias_transfer.tracking import sweeps
from bias_transfer.console import tell
from bias_transfer.tracking.delivery import Outcome
from bias_transfer.tracking.delivery import Sent
from bias_transfer.tracking.delivery import deliver
from bias_transfer.tracking.delivery import send
from bias_transfer.tracking.delivery import told
from bias_transfer.tracking.outbox import Entry
from bias_transfer.errors import Exit
from bias_transfer.errors import UserError
from bias_transfer.sweep.kept import show_away
from bias_transfer.sweep.kept import show_kept
from bias_transfer.sweep.kept import show_sent
from bias_transfer.sweep.kept import show_undone
from bias_transfer.sweep.plan import Plan
from bias_transfer.sweep.plan import Wanted
from bias_transfer.sweep.plan import make_plan
from bias_transfer.sweep.tune import Resources
from bias_transfer.sweep.display import show_failures
from bias_transfer.sweep.display import show_next
from bias_transfer.sweep.display import show_report
from bias_transfer.sweep.display import show_results
from bias_transfer.tasks.registry import task_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ended:
    """What the store says when the last trial has ended."""

    done: frozenset[str]
    """Ids of the sweep's finished trials."""
    failed: dict[str, str]
    """Trial id -> error."""
    headlines: pd.DataFrame
    attached: list[str]
    """Names of the report's files, if there is one."""
    sent: Sent


def run(wanted: Wanted, resources: Resources, config: Path, overrides: Sequence[str]) -> Exit:
    """Run what is to do and show the results. Raises HeldError where another driver runs the sweep."""
    client = store.connect(resources.uri, create=True)
    parent = sweeps.open_sweep(client, wanted.experiment, wanted.trials, _primary(wanted), wanted.analysis)
    with lease.held(client, parent) as lost:
        _send(client, wanted.experiment, parent, resources)
        plan = make_plan(wanted, resources.uri)
        outcomes = _run(plan, resources, parent, lost)
        if lost.is_set():
            raise lease.HeldError("another driver took this sweep over, and goes on with it")
        outcomes = {key: _recorded(plan, resources, parent, key, outcome) for key, outcome in outcomes.items()}
        show_undone(plan, outcomes)
        try:
            ended = retry.patiently(lambda: _close(plan, resources.uri, parent), resources.patience)
        except Exception as error:
            kept = [outcome for outcome in outcomes.values() if outcome.state == "kept"]
            show_away(plan, kept, resources.uri, told(error, store.shown(resources.uri)))
            return Exit.KEPT
        return _shown(plan, resources, outcomes, ended, config, overrides)


def _send(client: MlflowClient, experiment: str, parent: str, resources: Resources) -> None:
    """What an earlier start kept. Raises UserError where the store is away: nothing was lost, and nothing is begun."""
    try:
        show_sent(retry.patiently(lambda: send(client, experiment, parent), resources.patience))
    except Exception as error:
        shown = store.shown(resources.uri)
        raise UserError(
            f"the store {shown} stopped answering: {told(error, shown)}. Start again when it is back."
        ) from None


def _primary(wanted: Wanted) -> dict[str, dict[str, str]]:
    primary = {trial.task: dict(task_of(trial.task, trial.data).primary) for trial in wanted.trials}
    for task, outcome in wanted.analysis.primary.items():
        primary[task]["downstream"] = outcome
    return primary


def _run(plan: Plan, resources: Resources, parent: str, lost: threading.Event) -> dict[str, Outcome]:
    from bias_transfer.storage.fingerprint import in_turn

    if plan.todo:
        tell(f"{plan.experiment}: {len(plan.todo)} of {len(plan.trials)} trials to run")
        return tune.run_trials(replace(plan, todo=in_turn(plan.todo)), resources, parent, lost)
    done = sum(trial.id in plan.done for trial in plan.trials)
    tell(f"{plan.experiment}: nothing to run, {done} of {len(plan.trials)} trials are done")
    return {}


def _recorded(plan: Plan, resources: Resources, parent: str, trial_id: str, outcome: Outcome) -> Outcome:
    """A trial whose process could not record that it failed is recorded by the driver."""
    if outcome.state != "died":
        return outcome
    trial = next(trial for trial in plan.todo if trial.id == trial_id)
    entry = Entry(plan.experiment, parent, plan.names[trial_id], trial, outcome.why)
    return deliver(entry, resources.uri, resources.patience)


def _close(plan: Plan, uri: str, parent: str) -> Ended:
    """Send what was kept, end the runs whose process is gone, and read how the sweep stands."""
    client = store.client_of(uri)
    sent = send(client, plan.experiment, parent)
    recorder.interrupt(client, plan.experiment, {trial.id for trial in plan.todo})
    own = {trial.id for trial in plan.trials}
    done = own & runs.finished(client, plan.experiment).keys()
    errors = runs.failed(client, plan.experiment)
    sweeps.close_sweep(client, parent, done == own)
    return Ended(
        frozenset(done),
        {key: error for key, error in errors.items() if key in own - done},
        results.headlines(client, plan.experiment, plan.trials),
        sweeps.attached(client, parent, "report"),
        sent,
    )


def _shown(
    plan: Plan,
    resources: Resources,
    outcomes: Mapping[str, Outcome],
    ended: Ended,
    config: Path,
    overrides: Sequence[str],
) -> Exit:
    show_results(plan, ended.headlines)
    own = {trial.id: trial for trial in plan.trials}
    show_failures(plan, [(own[key], error) for key, error in ended.failed.items()], config, overrides)
    missing = len(own) - len(ended.done)
    if resources.report and not missing:
        show_report(plan, resources.uri, ended.attached)
    show_sent(ended.sent)
    kept = [
        value for key, value in outcomes.items() if value.state == "kept" and key not in {*ended.done, *ended.failed}
    ]
    show_kept(plan, kept, resources.uri)
    show_next(plan, resources.uri, missing)
    if kept or ended.sent.left:
        return Exit.KEPT
    if ended.failed or any(outcome.state == "undone" for outcome in outcomes.values()):
        return Exit.FAILED
    return Exit.DONE if all(trial.id in ended.done for trial in plan.todo) else Exit.STOPPED
