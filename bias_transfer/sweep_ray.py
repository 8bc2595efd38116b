"""Ray Tune maps the worker over the trials of a plan: the only file that imports ray."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bias_transfer.spec import CHECKPOINT_MINUTES, Trial, UserError
from bias_transfer.sweep_plan import Plan
from bias_transfer.sweep_report import Counts, progress

QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path means the same in every process
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner; the progress is ours
    "TUNE_MAX_PENDING_TRIALS_PG": "4",
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "1",  # each trial of a warm worker is a new thread, and would leave an arena of memory behind
}
"""Set before ray starts, and so in its workers too."""


RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it where a submitted job runs."""

NOT_CODE = [
    "/.git", "/.venv/", "/.cache/", "/build/", "/data/", "/mlartifacts/", "/mlruns/", "/models/", "/results/", "/runs/",
    "*.db", "*.db-*", "*.egg-info/", "*.parquet", "*.safetensors", ".*_cache/", "__pycache__/",
]  # fmt: skip
"""What lies in a checkout beside its code, and is not sent to a cluster's workers."""


@dataclass(frozen=True)
class Resources:
    """What runs a sweep, and what follows it."""

    address: str | None
    cpus: float | None
    gpus: float | None
    fail_fast: bool
    uri: str
    report: bool = True
    """Whether a complete sweep ends with its report."""
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    """As `trial.Places` has it."""


def run_trials(plan: Plan, resources: Resources, parent: str) -> None:
    """Map `record(run_trial(trial))` over what is to do, as one grid axis of plain dicts."""
    from bias_transfer import cache, checkpoint

    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    from ray import tune

    storage, name = cache.default_folder() / "ray", f"{plan.experiment}-{time.time_ns()}"
    with _ray(_address(resources)), progress(len(plan.todo)) as report:
        per_trial = _per_trial(resources, max(trial.threads for trial in plan.todo))
        where = {
            "experiment": plan.experiment,
            "parent": parent,
            "uri": resources.uri,
            "storage": checkpoint.default_storage(),
            "checkpoint_minutes": resources.checkpoint_minutes,
        }
        kept = _kept(plan.todo) if _address(resources) else {}
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_one, where=where, kept=kept), per_trial),
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


def _kept(trials: Sequence[Trial]) -> dict[str, Any]:
    """Digest -> the object by which a worker on another machine fetches the files; handed to Ray once."""
    import ray

    from bias_transfer import content

    return {digest: ray.put(packed) for digest, packed in content.packs(trials)}


def _one(config: dict[str, Any], where: dict[str, Any], kept: dict[str, Any]) -> None:
    """In a worker: one trial. What it raises marks the trial as failed."""
    import ray
    from ray import tune

    from bias_transfer.sweep_worker import work

    work(config, where, kept, ray.get)
    tune.report({"done": 1})


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


def _address(resources: Resources) -> str | None:
    """Of the cluster to join."""
    return resources.address or os.environ.get("RAY_ADDRESS")


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """Join the cluster at the address, else start one on this machine that only it can reach."""
    import logging

    import ray

    local: dict[str, Any] = {
        "num_cpus": len(os.sched_getaffinity(0)),
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }
    own = _code() if address else local
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"Ray at {address or 'this machine'} cannot be used: {str(error).splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _code() -> dict[str, Any]:
    """To join a cluster with: this checkout's code as the workers' folder, so that they run what stands here.

    Nothing where the program is installed, and where it runs as a Ray job, whose workers have the job's folder.
    """
    root = Path(__file__).parents[1]
    if RAY_JOB in os.environ or not (root / ".git").exists():
        return {}
    return {"runtime_env": {"working_dir": str(root), "excludes": NOT_CODE}}


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
