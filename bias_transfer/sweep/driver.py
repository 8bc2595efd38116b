"""A sweep's driver: hold the lease, run what is missing, see that every result is recorded, and show what was found."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from bias_transfer.console import redacted, tell
from bias_transfer.errors import Exit, UserError
from bias_transfer.storage import filesystem
from bias_transfer.sweep import display, keeping, tune
from bias_transfer.sweep.plan import Plan, Request, in_turn, make_plan, recorded_conditions
from bias_transfer.sweep.tune import Scheduling
from bias_transfer.sweep.worker import Where
from bias_transfer.tracking import lease, recorder, results, retry, runs, store, sweeps
from bias_transfer.tracking.delivery import Sent, TrialEnd, deliver, describe, send
from bias_transfer.tracking.outbox import Entry

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ended:
    """What MLflow says when the last trial has ended."""

    done: frozenset[str]
    """Ids of the sweep's finished trials."""
    failed: dict[str, str]
    """Trial id -> error."""
    headlines: pd.DataFrame
    attached: list[str]
    """Names of the report's files, if there is a report."""
    sent: Sent


def run(request: Request, where: Where, scheduling: Scheduling, command: str, report: bool = True) -> Exit:
    """Run what is missing and show the results. Raises HeldError if another driver runs the sweep.

    where: its parent run is set here. command: what the user types to start the sweep again. report: whether a complete
    sweep ends with its report.
    """
    client = store.connect(where.uri, create=True)
    store.check_artifacts(client, request.experiment, where.patience)
    parent = sweeps.open_sweep(
        client, request.experiment, request.trials, _primary(request), request.analysis, request.labels, command
    )
    where = replace(where, parent=parent)
    # One driver per sweep: two would run the same missing trials.
    with lease.held(client, parent) as lost:
        # Results of an earlier start come first: what they hold need not run again.
        _send_pending(client, where)
        # Planned again under the lease: since the checks, another driver may have finished trials.
        plan = make_plan(request, where.uri)
        outcomes = _run_missing(request, plan, where, scheduling, lost)
        if lost.is_set():
            raise lease.HeldError("another driver took this sweep over, and goes on with it")
        # Not to be recorded by a driver that has lost its lease: the new one may be running the same trials.
        outcomes = {key: _record_death(plan, where, key, outcome) for key, outcome in outcomes.items()}
        display.show_incomplete(plan, outcomes)
        # Patiently: hours of trials must not end in an error because MLflow restarts at this moment.
        try:
            ended = retry.patiently(lambda: _close(plan, where), where.patience)
        except Exception as error:
            pending = [outcome for outcome in outcomes.values() if outcome.state == "pending"]
            display.show_unreachable(plan, pending, where.uri, describe(error, redacted(where.uri)))
            return Exit.PENDING
        display.show_results(plan, ended.headlines)
        if not ended.headlines.empty:
            display.show_baselines(request.resolved)
        display.show_failures(plan, ended.failed, command)
        if where.keep_models:
            keeping.show_missing(plan, ended.done, filesystem.named(where.storage))
        if where.keep_predictions:
            keeping.show_without_predictions(plan, ended.done, where.uri)
        return _show_end(plan, where, outcomes, ended, report)


def _send_pending(client: MlflowClient, where: Where) -> None:
    """Send what an earlier start left in the outbox. Raises UserError if MLflow is unreachable: nothing was lost, and nothing
    is started."""
    try:
        display.show_sent(retry.patiently(lambda: send(client, where.experiment, where.parent), where.patience))
    except Exception as error:
        shown = redacted(where.uri)
        raise UserError(
            f"MLflow at {shown} stopped answering: {describe(error, shown)}. Start the sweep again when it is reachable."
        ) from None


def _primary(request: Request) -> dict[str, dict[str, str]]:
    """Task -> stage -> the metric that the headline and the regressions read."""
    primary = {entry.trial.task: dict(entry.task.primary) for entry in request.resolved}
    for task, outcome in request.analysis.primary.items():
        primary[task]["downstream"] = outcome
    return primary


def _run_missing(
    request: Request, plan: Plan, where: Where, scheduling: Scheduling, lost: threading.Event
) -> dict[str, TrialEnd]:
    if plan.todo:
        tell(
            f"{plan.experiment}: {len(plan.todo)} of {len(plan.trials)} trials to run, each shown as: upstream arm + "
            "downstream arm, seed, task, model"
        )
        missing = {trial.id for trial in plan.todo}
        todo = in_turn([entry for entry in request.resolved if entry.id in missing])
        recorded = {} if scheduling.accept_machine else recorded_conditions(request, where.uri)
        return tune.run_trials(replace(plan, todo=todo), where, scheduling, lost, recorded)
    done = sum(trial.id in plan.done for trial in plan.trials)
    tell(f"{plan.experiment}: nothing to run, {done} of {len(plan.trials)} trials are done")
    return {}


def _record_death(plan: Plan, where: Where, trial_id: str, outcome: TrialEnd) -> TrialEnd:
    """A trial whose process died before it could record its failure is recorded by the driver."""
    if outcome.state != "died":
        return outcome
    trial = next(trial for trial in plan.todo if trial.id == trial_id)
    label = plan.labels[trial_id]
    entry = Entry(plan.experiment, where.parent, label.name, trial, outcome.why, label.arm)
    return deliver(entry, where.uri, where.patience)


def _close(plan: Plan, where: Where) -> Ended:
    """Send what is pending, end the runs whose process is gone, and read the state of the sweep."""
    client = store.client_of(where.uri)
    # Sent before finished trials are counted, so that results which were delivered late are in the tables.
    sent = send(client, plan.experiment, where.parent)
    # Ray has ended, so a run of these trials that is still RUNNING has no process that could end it.
    recorder.interrupt(client, plan.experiment, {trial.id for trial in plan.todo})
    grid = {trial.id for trial in plan.trials}
    done = grid & runs.finished(client, plan.experiment).keys()
    errors = runs.failed(client, plan.experiment)
    sweeps.close_sweep(client, where.parent, done == grid)
    return Ended(
        frozenset(done),
        {key: error for key, error in errors.items() if key in grid - done},
        results.headlines(client, plan.experiment, plan.trials, plan.labels),
        sweeps.attached(client, where.parent, "report"),
        sent,
    )


def _show_end(plan: Plan, where: Where, outcomes: Mapping[str, TrialEnd], ended: Ended, report: bool) -> Exit:
    """Where the results are, what to do next, and the exit status."""
    missing = len(plan.trials) - len(ended.done)
    if report and not missing:
        display.show_report(plan, where.uri, ended.attached)
    display.show_sent(ended.sent)
    recorded = {*ended.done, *ended.failed}
    pending = [outcome for key, outcome in outcomes.items() if outcome.state == "pending" and key not in recorded]
    display.show_pending(plan, pending, where.uri)
    display.show_next(plan, where.uri, missing)
    if pending or ended.sent.left:
        return Exit.PENDING
    if ended.failed or any(outcome.state == "incomplete" for outcome in outcomes.values()):
        return Exit.FAILED
    return Exit.DONE if all(trial.id in ended.done for trial in plan.todo) else Exit.STOPPED
