"""A sweep's driver: open the parent run, run what is to do, show what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bias_transfer import sweep_ray
from bias_transfer.console import console
from bias_transfer.sweep_plan import Plan
from bias_transfer.sweep_ray import Resources
from bias_transfer.sweep_report import show_failures, show_next, show_report, show_results

STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""


def run(plan: Plan, resources: Resources, config: Path, overrides: Sequence[str]) -> int:
    """Run what is to do and show the results. Returns the exit status: 1 where a trial failed, `STOPPED` where some were
    left undone by Ctrl-C, else 0."""
    from bias_transfer import tracking
    from bias_transfer.tasks.tables import task_of

    client = tracking.connect(resources.uri, create=True)
    primary = {trial.task: dict(task_of(trial.task, trial.data).primary) for trial in plan.trials}
    for task, outcome in plan.analysis.primary.items():
        primary[task]["downstream"] = outcome
    parent = tracking.open_sweep(client, plan.experiment, plan.trials, primary, plan.analysis)
    if plan.todo:
        console().print(f"{plan.experiment}: {len(plan.todo)} of {len(plan.trials)} trials to run")
        sweep_ray.run_trials(plan, resources, parent)
    else:
        console().print(
            f"{plan.experiment}: nothing to run, {sum(trial.id in plan.done for trial in plan.trials)} of "
            f"{len(plan.trials)} trials are done"
        )
    done = tracking.finished(client, plan.experiment)
    own = {trial.id: trial for trial in plan.trials}
    failed = {
        key: error for key, error in tracking.failed(client, plan.experiment).items() if key in own and key not in done
    }
    tracking.close_sweep(client, parent, all(key in done for key in own))
    show_results(plan, tracking.headlines(client, plan.experiment, plan.trials))
    show_failures(plan, [(own[key], error) for key, error in failed.items()], config, overrides)
    missing = len(own) - sum(key in done for key in own)
    if resources.report and not missing:
        show_report(plan, resources.uri, tracking.attached(client, parent, "report"))
    show_next(plan, resources.uri, missing)
    return 1 if failed else 0 if all(trial.id in done for trial in plan.todo) else STOPPED
