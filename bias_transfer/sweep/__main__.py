"""The command of a sweep: a grid of trials, scheduled by Ray Tune and recorded in MLflow.

bias-transfer sweep tune_configs/wiki_small.yaml
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from bias_transfer.cluster import submit
from bias_transfer.cluster.environment import ALLOCATION
from bias_transfer.config import cost, grid
from bias_transfer.console import (
    CheckpointMinutes,
    KeepModels,
    KeepPredictions,
    TrackingUri,
    application,
    tell,
    user_errors,
)
from bias_transfer.spec import CHECKPOINT_MINUTES
from bias_transfer.sweep import display, keeping, on_slurm
from bias_transfer.sweep.plan import (
    Request,
    check_all,
    check_conditions,
    check_margins,
    check_primary,
    make_plan,
    precision_warning,
    recorded_conditions,
    resolve_all,
    unreachable,
)
from bias_transfer.sweep.ray_cluster import check_address, cluster_address
from bias_transfer.sweep.tune import Scheduling
from bias_transfer.sweep.worker import PATIENCE, Where

ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file with the grid; the experiment is named after it. Default: the quickstart that is built in.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="List the trials (done, to do, failed), estimate the GPU-hours, and stop.")
]
Teraflops = Annotated[
    float,
    typer.Option(
        min=0.001, metavar="N", help="With --dry-run: TFLOP/s that one GPU sustains, for the estimate of GPU-hours."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Run at most N trials in this invocation.", metavar="N")]
Only = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Keep only the trials that match; repeatable.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field of every trial; a list is an axis; repeatable."),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop the sweep when a trial fails.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run trials again that failed before.")]
AcceptMachine = Annotated[
    bool,
    typer.Option(
        "--accept-machine",
        help="Go on with a sweep whose finished trials ran on another kind of machine, or with other package versions.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="A running Ray cluster, or auto to find it (default: the variable RAY_ADDRESS, or else Ray is started here).",
    ),
]
CpusPerTrial = Annotated[
    float | None, typer.Option(min=0, metavar="N", help="CPU cores per trial (default: the trial's `threads`).")
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="N", help="GPUs per trial; a fraction shares one (default: 1, or 0 where there is no GPU)."
    ),
]
Patience = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="How long a result waits for an unreachable MLflow before it goes to the outbox."
    ),
]
MaxConcurrent = Annotated[int | None, typer.Option(min=1, metavar="N", help="Run at most N trials at a time.")]
Cluster = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Run the sweep on the cluster that `ray up FILE` started, and follow it."),
]
Slurm = Annotated[
    bool,
    typer.Option(
        "--slurm", help="Submit the sweep as a job of a SLURM cluster; with --dry-run, print its batch script."
    ),
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="With --slurm: an option of sbatch, such as nodes=2, gpus-per-node=4, cpus-per-task=16, mem=64G, time=12:00:00, "
        "partition=gpu or account=NAME; repeatable.",
    ),
]
Setup = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LINE", help="With --slurm: a line of shell before Python starts, as 'module load cuda'; repeatable."
    ),
]
Report = Annotated[
    bool, typer.Option("--report/--no-report", help="Whether to write a report when all trials are done.")
]


def main(
    context: typer.Context,
    config: ConfigFile = grid.EMBEDDED,
    dry_run: DryRun = False,
    teraflops: Teraflops = cost.TERAFLOPS,
    limit: Limit = None,
    only: Only = None,
    set_: Set = None,
    fail_fast: FailFast = False,
    retry_failed: RetryFailed = False,
    accept_machine: AcceptMachine = False,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
    patience: Patience = PATIENCE,
    max_concurrent: MaxConcurrent = None,
    cluster: Cluster = None,
    slurm: Slurm = False,
    sbatch: Sbatch = None,
    setup: Setup = None,
    report: Report = True,
    keep_models: KeepModels = False,
    keep_predictions: KeepPredictions = False,
) -> None:
    """Run those trials of a grid that are not finished.

    \b
    bias-transfer sweep                                       # the built-in quickstart
    bias-transfer sweep tune_configs/wiki_small.yaml --set data=FOLDER --dry-run
    bias-transfer sweep CONFIG --only upstream=perturb --only seed=0 --limit 2
    bias-transfer sweep --cluster cluster.yaml CONFIG --gpus-per-trial 0.25
    bias-transfer sweep --slurm CONFIG --sbatch nodes=2 --sbatch gpus-per-node=4 --sbatch time=12:00:00
    """
    with user_errors():
        on_slurm.check_options(context)
        if cluster:
            raise typer.Exit(submit.run(cluster, config, submit.words(context)))
        from bias_transfer.storage import filesystem
        from bias_transfer.tracking import store

        uri, content = store.tracking_uri(tracking_uri), grid.load(config)
        trials = grid.override(content.trials, set_ or [])
        batch = on_slurm.batch_of(context, config, trials, uri) if slurm else None
        # Without the hub a dry run still lists the trials: that is how a laptop plans what a cluster will run.
        if dry_run and (reason := unreachable(trials)):
            display.show_plugins(trials)
            display.show_unresolved(config.stem, grid.only(trials, only) if only else trials, reason, teraflops)
            if keep_models:
                tell("The size of the classifiers that --keep-models stores cannot be known here.")
            if keep_predictions:
                tell("The size of the predictions that --keep-predictions stores cannot be known here.")
            if batch:
                on_slurm.show_script(batch)
            return
        request = Request(config.stem, resolve_all(trials), content.analysis, tuple(only or ()), limit, retry_failed)
        check_primary(request)
        check_margins(request)
        display.show_plugins(request.trials)
        if dry_run:
            plan = make_plan(request, uri)
            display.show_dry_run(plan, teraflops)
            if keep_models:
                keeping.show_prompts(request.resolved)
                keeping.show_size(plan, request.resolved, filesystem.named(None))
                keeping.show_missing(plan, plan.done, filesystem.named(None))
            if keep_predictions:
                keeping.show_size_of_predictions(plan, request.resolved)
                keeping.show_without_predictions(plan, plan.done, uri)
            if batch:
                on_slurm.show_script(batch)
            return
        if keep_models:
            keeping.check("SLURM's" if batch else cluster_address(address), filesystem.default())
            keeping.show_prompts(request.resolved)
        if batch:
            raise typer.Exit(on_slurm.run(request, batch, config))
        _check(request, uri, address, accept_machine)
        from bias_transfer.sweep.driver import run

        storage = filesystem.default()
        where = Where(config.stem, "", uri, patience, storage, checkpoint_minutes, keep_models, keep_predictions)
        scheduling = Scheduling(address, cpus_per_trial, gpus_per_trial, max_concurrent, fail_fast, accept_machine)
        command = _command(config, set_ or [], keep_models, keep_predictions)
        status = run(request, where, scheduling, command, report)
    raise typer.Exit(status)


def _check(request: Request, uri: str, address: str | None, accept_machine: bool) -> None:
    """Find what is wrong before the first trial starts. Raises UserError."""
    todo = {trial.id for trial in make_plan(request, uri).todo}
    missing = [entry for entry in request.resolved if entry.id in todo]
    if not missing:
        return
    check_address(address)
    # The machines of a cluster are asked when it is joined.
    if not accept_machine and not cluster_address(address):
        from bias_transfer.resolved import Places
        from bias_transfer.storage import fingerprint

        machine = fingerprint.hardware(Places().device)
        check_conditions(recorded_conditions(request, uri), {machine}, fingerprint.versions())
    tell("Reading the data and the models ...")
    for remark in check_all(missing):
        tell(remark)
    if not cluster_address(address) and (warning := precision_warning([entry.trial for entry in missing])):
        tell(warning)


def _command(config: Path, overrides: list[str], keep_models: bool, keep_predictions: bool = False) -> str:
    """What starts this sweep again; in a SLURM job, what the user typed to submit it."""
    if submitted := os.environ.get(ALLOCATION):
        return submitted
    words = [str(config), *(word for text in overrides for word in ("--set", text))]
    words += ["--keep-models"] if keep_models else []
    words += ["--keep-predictions"] if keep_predictions else []
    return f"bias-transfer sweep {shlex.join(words)}"


if __name__ == "__main__":
    application(main)()
