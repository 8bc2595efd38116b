"""Ray Tune maps the worker over the trials of a plan: it, sweep_follow and sweep_queue alone import ray."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bias_transfer.storage import cache
from bias_transfer.sweep.ray_cluster import offered
from bias_transfer.sweep.ray_cluster import check_answers
from bias_transfer.sweep.ray_cluster import cluster_address
from bias_transfer.sweep.ray_cluster import own_token
from bias_transfer.spec import CHECKPOINT_MINUTES
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError
from bias_transfer.errors import first_line
from bias_transfer.storage.filesystem import default as default_storage
from bias_transfer.sweep.plan import Plan
from bias_transfer.console import progress
from bias_transfer.sweep.worker import Where

if TYPE_CHECKING:
    from bias_transfer.tracking.delivery import Outcome

STARTING = 120
"""Seconds that each part of a Ray that is started here has to come up; 30 were too few on an overloaded machine."""

QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path means the same in every process
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner; the progress is ours
    "TUNE_MAX_PENDING_TRIALS_PG": "4",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # files of each trial's result, which nobody reads
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's own state, from which no sweep is restored
    "TOKENIZERS_PARALLELISM": "false",
    "MALLOC_ARENA_MAX": "1",  # each trial of a warm worker is a new thread, and would leave an arena of memory behind
    "RAY_gcs_server_port_wait_time_s": f"{STARTING}",
    "RAY_raylet_start_wait_time_s": f"{STARTING}",
    "RAY_agent_register_timeout_ms": f"{STARTING * 1000}",
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
    report: bool
    """Whether a complete sweep ends with its report."""
    patience: float
    """Seconds for which results wait for a store that is away."""
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    """As `trial.Places` has it."""
    max_concurrent: int | None = None
    """Trials at a time, at most."""


def run_trials(plan: Plan, resources: Resources, parent: str, lost: threading.Event) -> dict[str, Outcome]:
    """Map the worker over what is to do, as plain dicts, until all have ended or `lost` is set. Returns what
    became of those that ended, by trial id.

    A process that dies (killed, out of memory, its machine lost) is told from a trial that raises: the trial starts again in
    another, `RETRIES` times.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    from ray import tune

    from bias_transfer.tracking.delivery import Outcome
    from bias_transfer.sweep.callbacks import RETRIES
    from bias_transfer.sweep.callbacks import follow
    from bias_transfer.sweep.search import InOrder

    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)  # its state is never restored
    storage, name = cache.default_folder() / "ray", f"{plan.experiment}-{time.time_ns()}"
    where = Where(
        plan.experiment,
        parent,
        resources.uri,
        resources.patience,
        default_storage(),
        resources.checkpoint_minutes,
    )
    outcomes: dict[str, Outcome] = {}
    address = cluster_address(resources.address)
    with _ray(address), progress(len(plan.todo)) as report:
        per_trial = _per_trial(resources, max(trial.threads for trial in plan.todo))
        kept = _kept(plan.todo) if address else {}
        callback, stopper = follow(report, outcomes, lost, resources.fail_fast)
        settings = tune.RunConfig(
            name=name, storage_path=str(storage.absolute()), verbose=0, callbacks=[callback], stop=stopper,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        )  # fmt: skip
        try:
            tune.Tuner(
                tune.with_resources(tune.with_parameters(_one, where=where, kept=kept), per_trial),
                tune_config=tune.TuneConfig(
                    search_alg=InOrder({"trial": _named(plan, trial)} for trial in plan.todo),
                    num_samples=len(plan.todo),
                    reuse_actors=True,
                    max_concurrent_trials=resources.max_concurrent,
                ),
                run_config=settings,
            ).fit()
        except (tune.TuneError, OSError) as error:  # what a dying worker left, or a full disk
            why = f"Ray Tune stopped: {_told(error, storage)}"
            outcomes |= {trial.id: Outcome("undone", why) for trial in plan.todo if trial.id not in outcomes}
    shutil.rmtree(storage / name, ignore_errors=True)
    return outcomes


def _told(error: Exception, storage: Path) -> str:
    """The error in a line. Tune's own holds the traceback of the one that it met."""
    from bias_transfer.tracking.delivery import told

    return told(error, str(storage)) if isinstance(error, OSError) else str(error).strip().splitlines()[-1][:300]


def _named(plan: Plan, trial: Trial) -> dict[str, Any]:
    return {"id": trial.id, "name": plan.names[trial.id], "fields": trial.model_dump()}


def _kept(trials: Sequence[Trial]) -> dict[str, Any]:
    """Digest -> the object by which a worker on another machine fetches the files; handed to Ray once."""
    import ray

    from bias_transfer.sweep import inputs

    return {digest: ray.put(packed) for digest, packed in inputs.packs(trials)}


def _one(config: dict[str, Any], where: Where, kept: dict[str, Any]) -> None:
    """In a worker: one trial, and what became of it as Tune's result."""
    import ray
    from ray import tune

    from bias_transfer.sweep.worker import work

    tune.report({"done": True, **work(config["trial"], where, kept, ray.get)})


def check_address(given: str | None) -> None:
    """Raises UserError where the cluster that is to be joined does not answer."""
    if address := cluster_address(given):
        from ray._private.services import canonicalize_bootstrap_address

        check_answers(address, canonicalize_bootstrap_address)


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """Join the cluster at the address, else start one on this machine, which asks for a token."""
    import ray

    local: dict[str, Any] = {
        "num_cpus": len(os.sched_getaffinity(0)),
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }
    own = _code() if address else local
    try:
        if not address:
            own_token()
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # its parts raise Exception itself too
        raise UserError(_why(address, error)) from None
    try:
        yield
    finally:
        ray.shutdown()


def _why(address: str | None, error: Exception) -> str:
    if address:
        return f"Ray at {address} cannot be used: {first_line(error)}"
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")
    return (
        f"Ray did not start on this machine: {first_line(error).rstrip('.')}. Each of its parts has {STARTING} s, enough "
        f"unless the machine is overloaded (load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores now) or the disk of "
        f"{folder} is full ({shutil.disk_usage(folder.parent).free / 1e9:.1f} GB free); logs: {folder}/session_latest/logs. "
        f"Start again when there is room, or join a cluster that runs: --address HOST:PORT."
    )


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

    there = offered(ray.cluster_resources)
    cpus = min(float(threads), there.get("CPU", 1.0)) if resources.cpus is None else resources.cpus
    gpus = min(1.0, there.get("GPU", 0.0)) if resources.gpus is None else resources.gpus
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted > there.get(name, 0.0):
            raise UserError(
                f"--{name.lower()}s-per-trial {wanted:g}: the cluster has {there.get(name, 0.0):g} {name}s in all"
            )
    return {"cpu": cpus, "gpu": gpus}
