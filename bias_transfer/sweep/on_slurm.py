"""`sweep --slurm`: what is found out on the login node before a sweep is submitted, and what is printed."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

import typer

from bias_transfer.cluster import slurm, submit
from bias_transfer.cluster.slurm import Batch
from bias_transfer.console import tell
from bias_transfer.errors import Exit, UserError
from bias_transfer.spec import Trial
from bias_transfer.sweep.plan import Request, check_all, make_plan

LEFT_OUT = ("config", "cluster", "slurm", "sbatch", "setup", "dry_run", "teraflops", "tracking_uri")
"""Parameters of the sweep command that the job's own command does not get: they are used here, or reach it by other ways."""

OTHERS = {
    "cluster": "it runs the sweep on a cluster that `ray up` started",
    "address": "the job starts a Ray of its own in its allocation",
}
"""Parameters that cannot be combined with --slurm, and why."""


def check_options(context: typer.Context) -> None:
    """Raises UserError for options that do not go together."""
    given = context.params
    if given["slurm"]:
        for name, why in OTHERS.items():
            if given[name]:
                raise UserError(f"--{name} cannot be combined with --slurm: {why}. Leave one of them out.")
    for name in ("sbatch", "setup"):
        if given[name] and not given["slurm"]:
            raise UserError(f"--{name} belongs to --slurm: add --slurm, or leave --{name} out")


def batch_of(context: typer.Context, config: Path, trials: Sequence[Trial], uri: str) -> Batch:
    """The sweep as a job, by the options that the command was given. Raises UserError."""
    sbatch, setup = context.params["sbatch"] or [], context.params["setup"] or []
    directory = Path.cwd()
    folder, words = slurm.folder_of(config, directory), submit.words(context, LEFT_OUT)
    again = ["--slurm", *_repeated("--sbatch", sbatch), *_repeated("--setup", setup), *words]
    return Batch(
        experiment=config.stem,
        folder=folder,
        directory=directory,
        options=slurm.parse(sbatch, max(trial.threads for trial in trials)),
        setup=tuple(setup),
        words=(str(folder / config.name), *words),
        command=f"bias-transfer sweep {shlex.join([str(config), *again])}",
        uri=uri,
    )


def _repeated(option: str, values: Collection[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def show_script(batch: Batch) -> None:
    """The script, as it would be submitted."""
    tell(f"The batch script; without --dry-run it is submitted with sbatch, as {batch.script}:\n\n{slurm.text(batch)}")


def run(request: Request, batch: Batch, config: Path) -> Exit:
    """Submit the sweep, unless nothing of it is left to run. Raises UserError with what is wrong, before anything is submitted:
    the job may wait in the queue for hours before it finds the same."""
    slurm.check_command()
    plan = make_plan(request, batch.uri)
    missing = {trial.id for trial in plan.todo}
    if not missing and not plan.pending:
        done = sum(trial.id in plan.done for trial in plan.trials)
        tell(f"{plan.experiment}: nothing to run, {done} of {len(plan.trials)} trials are done. Nothing was submitted.")
        return Exit.DONE
    tell("Reading the data and the models ...")
    for remark in check_all([entry for entry in request.resolved if entry.id in missing]):
        tell(remark)
    slurm.write(batch, config)
    _show_job(batch, slurm.submit(batch), len(missing), len(plan.trials))
    return Exit.DONE


def _show_job(batch: Batch, job: str, missing: int, total: int) -> None:
    tell(f"Job {job}: {batch.experiment}, {missing} of {total} trials to run. It was submitted with {batch.script}")
    tell(f"Follow it: squeue --jobs {job}; tail -F {shlex.quote(str(batch.folder / job))}.log")
    tell(f"Progress: bias-transfer status {shlex.quote(batch.experiment)}")
    tell(f"Stop it: scancel {job}. To go on afterwards, or when trials failed, run the same command again.")
