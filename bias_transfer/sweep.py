"""A grid of trials, scheduled by Ray Tune and recorded in MLflow: the only file that imports ray.

python -m bias_transfer.sweep tune_configs/wiki_small.yaml
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bias_transfer import estimate, grid
from bias_transfer.console import console, user_errors
from bias_transfer.spec import AnalysisPlan, Trial, UserError
from bias_transfer.sweep_report import (
    Counts,
    Plan,
    progress,
    show_estimate,
    show_failures,
    show_next,
    show_plan,
    show_results,
    show_unresolved,
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

QUICKSTART = Path(__file__).parents[1] / "tune_configs" / "quickstart.yaml"

QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path means the same in every process
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner; the progress is ours
    "TUNE_MAX_PENDING_TRIALS_PG": "4",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Set before ray starts, and so in its workers too."""


STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""


@dataclass(frozen=True)
class Resources:
    """What runs a sweep."""

    address: str | None
    cpus: float | None
    gpus: float | None
    fail_fast: bool
    uri: str


@app.command(context_settings={"max_content_width": 110})
def main(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="[CONFIG]",
            help="A YAML grid; its name is the experiment's.",
            show_default="tune_configs/quickstart.yaml",
        ),
    ] = QUICKSTART,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the trials (done, to do, failed) and the GPU-hours, and stop.")
    ] = False,
    teraflops: Annotated[
        float, typer.Option(min=0.001, help="With --dry-run: what one GPU sustains, for the estimate of GPU-hours.")
    ] = estimate.TERAFLOPS,
    limit: Annotated[int | None, typer.Option(min=1, help="Run at most so many trials now.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Keep only the trials that match; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a field of every trial; repeatable."),
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first trial that fails.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run trials again that failed before.")] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(help="The MLflow store (default: MLFLOW_TRACKING_URI, or mlflow.db here).")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster (default: RAY_ADDRESS, or one started here).")
    ] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(min=0, help="Cores a trial (default: its threads).")] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0, help="GPUs a trial; fractions share one (default: 1 where there are any).")
    ] = None,
) -> None:
    """Run a grid of trials; a second start runs only what is missing.

    \b
    python -m bias_transfer.sweep                                   # the embedded quickstart
    python -m bias_transfer.sweep tune_configs/wiki_small.yaml --set data=FOLDER --dry-run
    python -m bias_transfer.sweep CONFIG --only upstream=perturb --only seed=0 --limit 2
    python -m bias_transfer.sweep CONFIG --address ray://HOST:10001 --gpus-per-trial 0.25
    """
    with user_errors():
        from bias_transfer import tracking

        uri, read = tracking.tracking_uri(tracking_uri), grid.load(config)
        trials = grid.override(read.trials, set_ or [])
        if dry_run and (why := unreachable(trials)):
            show_unresolved(config.stem, grid.only(trials, only) if only else trials, why, teraflops)
            return
        plan = make_plan(config.stem, resolve_all(trials), uri, only or [], limit, retry_failed, read.analysis)
        if dry_run:
            show_plan(plan)
            show_estimate(plan.todo, teraflops)
            return
        check_all(plan.todo)
        status = run(plan, Resources(address, cpus_per_trial, gpus_per_trial, fail_fast, uri), config, set_ or [])
    raise typer.Exit(status)


def resolve_all(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Every trial resolved. Raises UserError for the first that cannot be, and for two that are one."""
    from bias_transfer.trial import resolve

    resolved = [resolve(trial) for trial in trials]
    seen: dict[str, Trial] = {}
    for trial in resolved:
        if trial.id in seen:
            raise UserError(
                f"the grid has one trial twice: {seen[trial.id].name} and {trial.name} give the same numbers"
            )
        seen[trial.id] = trial
    return tuple(resolved)


def unreachable(trials: Sequence[Trial]) -> str:
    """Why some trials cannot be resolved here, where that is the hub's absence alone; raises UserError as `resolve` does."""
    from bias_transfer.hub import NotReachedError
    from bias_transfer.trial import resolve

    why = ""
    for trial in {
        (trial.task, trial.data, trial.model, trial.arm, str(trial.options)): trial for trial in trials
    }.values():
        try:
            resolve(trial)
        except NotReachedError as error:
            why = str(error)
    return why


def check_all(trials: Sequence[Trial]) -> None:
    """Read the data and load the models of the trials. Raises UserError before any trial starts."""
    from bias_transfer.trial import Places, check

    places, seen = Places(), set[str]()
    for trial in trials:
        key = trial.model_copy(update={"seed": 0}).id
        if key not in seen:
            check(trial, places)
            seen.add(key)


def make_plan(
    experiment: str,
    trials: tuple[Trial, ...],
    uri: str,
    only: Sequence[str],
    limit: int | None,
    retry_failed: bool,
    analysis: AnalysisPlan,
) -> Plan:
    """Which trials are to run: those that match `only` and are neither done nor, unless retried, failed."""
    from bias_transfer import tracking

    client = tracking.connect(uri) if tracking.exists(uri) else None
    done = tracking.finished(client, experiment) if client else {}
    failed = tracking.failed(client, experiment) if client else {}
    failed = {key: error for key, error in failed.items() if key not in done}
    chosen = grid.only(trials, only) if only else trials
    todo = [trial for trial in chosen if trial.id not in done and (retry_failed or trial.id not in failed)]
    names = dict(zip((trial.id for trial in trials), grid.names(trials), strict=True))
    return Plan(experiment, trials, names, tuple(todo[:limit]), done, failed, analysis)


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
        run_trials(plan, resources, parent)
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
    show_next(plan, resources.uri, len(own) - sum(key in done for key in own))
    return 1 if failed else 0 if all(trial.id in done for trial in plan.todo) else STOPPED


def run_trials(plan: Plan, resources: Resources, parent: str) -> None:
    """Map `record(run_trial(trial))` over what is to do, as one grid axis of plain dicts."""
    from bias_transfer import cache

    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    from ray import tune

    storage, name = cache.default_folder() / "ray", f"{plan.experiment}-{time.time_ns()}"
    with _ray(resources.address), progress(len(plan.todo)) as report:
        per_trial = _per_trial(resources, max(trial.threads for trial in plan.todo))
        where = {"experiment": plan.experiment, "parent": parent, "uri": resources.uri}
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_one, where=where), per_trial),
            param_space={"trial": tune.grid_search([_named(plan, trial) for trial in plan.todo])},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(
                name=name, storage_path=str(storage.absolute()), verbose=0, callbacks=[_follow(report)],
                failure_config=tune.FailureConfig(fail_fast=resources.fail_fast),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )  # fmt: skip
        results = tuner.fit()
        _close_runs(plan, resources.uri, results)
    shutil.rmtree(storage / name, ignore_errors=True)


def _named(plan: Plan, trial: Trial) -> dict[str, Any]:
    return {"name": plan.names[trial.id], "fields": trial.model_dump()}


def _one(config: dict[str, Any], where: dict[str, str]) -> None:
    """In a worker: one trial, recorded. What it raises is recorded in its run and marks the trial as failed."""
    from ray import tune

    from bias_transfer import tracking
    from bias_transfer.spec import parse_trial
    from bias_transfer.trial import run_trial

    client = tracking.connect(where["uri"])
    trial = parse_trial(config["trial"]["fields"])
    run_id = tracking.start(client, where["experiment"], trial, where["parent"], config["trial"]["name"])
    try:
        result = run_trial(trial)
    except Exception as error:
        tracking.fail(client, run_id, _told(error))
        raise
    tracking.record(client, run_id, result)
    tune.report({"done": 1})


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def _close_runs(plan: Plan, uri: str, results: Any) -> None:
    """End the runs whose process could not: with the error that Ray saw, or as stopped (by Ctrl-C)."""
    from bias_transfer import tracking
    from bias_transfer.spec import parse_trial

    client = tracking.connect(uri)
    ended = {**tracking.finished(client, plan.experiment), **tracking.failed(client, plan.experiment)}
    started = [result for result in results if result.config]  # one that was stopped may have none
    errors = {
        parse_trial(result.config["trial"]["fields"]).id: str(result.error).strip()
        for result in started
        if result.error
    }
    for trial in plan.todo:
        if trial.id not in ended:
            tracking.interrupt(client, plan.experiment, trial, errors.get(trial.id))


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """Join the cluster at the address (or RAY_ADDRESS), else start one on this machine that only it can reach."""
    import logging

    import ray

    address = address or os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {
        "num_cpus": len(os.sched_getaffinity(0)),
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else local))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"Ray at {address or 'this machine'} cannot be used: {str(error).splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _per_trial(resources: Resources, threads: int) -> dict[str, float]:
    """Cores and GPUs a trial. Raises UserError where the cluster has not so many, since the trial would wait for ever."""
    import ray

    there = ray.cluster_resources()
    cpus = min(float(threads), there.get("CPU", 1.0)) if resources.cpus is None else resources.cpus
    gpus = min(1.0, there.get("GPU", 0.0)) if resources.gpus is None else resources.gpus
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted > there.get(name, 0.0):
            raise UserError(
                f"--{name.lower()}s-per-trial {wanted:g}: the cluster has {there.get(name, 0.0):g} {name}s in all"
            )
    return {"cpu": cpus, "gpu": gpus}


def _follow(report: Counts) -> Any:
    """A Ray Tune callback that counts."""
    from ray.tune import Callback

    running, done, failed = set[str](), set[str](), set[str]()

    class Follow(Callback):
        def __reduce__(self) -> tuple[type, tuple[()]]:
            return Callback, ()  # Tune writes its settings to disk; the display stays here

        def _tell(self, event: str, trial: Any) -> None:
            report(len(done), len(running), len(failed), f"{event} {trial.config['trial']['name']}")

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            running.add(trial.trial_id)
            self._tell("started", trial)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            running.discard(trial.trial_id)
            done.add(trial.trial_id)
            self._tell("done", trial)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            running.discard(trial.trial_id)
            failed.add(trial.trial_id)
            self._tell("failed", trial)

    return Follow()


if __name__ == "__main__":
    app()
