"""Ray Tune maps the worker over the trials of a plan."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bias_transfer.console import progress, reporting, tell
from bias_transfer.errors import UserError
from bias_transfer.spec import Trial
from bias_transfer.storage import cache
from bias_transfer.sweep import live
from bias_transfer.sweep.plan import Plan, check_conditions
from bias_transfer.sweep.ray_cluster import cluster_address, offered, running_ray
from bias_transfer.sweep.worker import Where

if TYPE_CHECKING:
    from bias_transfer.tracking.delivery import TrialEnd
    from bias_transfer.tracking.runs import Conditions


@dataclass(frozen=True)
class Scheduling:
    """Where a sweep's trials run, and how many at a time."""

    address: str | None = None
    """A running Ray cluster; None: RAY_ADDRESS, or one that is started on this machine."""
    cpus_per_trial: float | None = None
    """None: the trial's threads."""
    gpus_per_trial: float | None = None
    """None: 1 where the cluster has any."""
    max_concurrent: int | None = None
    """Most trials at a time."""
    fail_fast: bool = False
    """Whether the sweep ends at the first trial that fails."""
    accept_machine: bool = False
    """Whether finished trials may have run on another kind of machine, or with other versions of packages."""


def run_trials(
    plan: Plan,
    where: Where,
    scheduling: Scheduling,
    lost: threading.Event,
    recorded: Mapping[str, Conditions] = MappingProxyType({}),
) -> dict[str, TrialEnd]:
    """Map the worker over the trials that are to run, as plain dicts, until all have ended or `lost` is set. Returns how they
    ended, by trial id.

    recorded: where and with what finished trials of the sweep ran. Raises UserError, before a trial starts, if that was on
    machines that the cluster does not have, or with other packages.

    A trial whose process dies (killed, out of memory, its machine lost) starts again in another process, `RETRIES` times. A
    trial that raises does not: its worker records the error.
    """
    address = cluster_address(scheduling.address)
    outcomes: dict[str, TrialEnd] = {}
    # Workers on this machine read the files at the paths that the trials name, and pre-train what is missing into one cache.
    stand_ins = _stand_ins(plan.todo) if address else {}
    running = dict[str, str]()
    with (
        running_ray(address),
        live.board() as board,
        progress(len(plan.todo), partial(live.look, board, running)) as report,
    ):
        from ray import tune

        from bias_transfer.sweep.callbacks import RETRIES, follow
        from bias_transfer.sweep.search import InOrder
        from bias_transfer.tracking.delivery import TrialEnd

        # Tune warns of slow snapshots of its own state, from which no sweep is ever restored.
        logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
        # A new name for each start: what is done is known from MLflow, never from what Tune left of an earlier one.
        storage, name = cache.default_folder() / "ray", f"{plan.experiment}-{time.time_ns()}"
        per_trial = _per_trial(scheduling, max(trial.threads for trial in plan.todo))
        # Plugins always: workers of this machine as well run what the driver has read, whatever is edited meanwhile.
        shipped = _ship_plugins(plan.todo) | (_ship(plan.todo, stand_ins) if address else {})
        if address:
            _check_machines(per_trial, recorded)
        callback, stopper = follow(report, outcomes, lost, scheduling.fail_fast, running)
        settings = tune.RunConfig(
            name=name, storage_path=str(storage.absolute()), verbose=0, callbacks=[callback], stop=stopper,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        )  # fmt: skip
        try:
            # `reuse_actors`: a warm worker starts a trial in 0.1 s, a fresh one imports torch for seconds.
            tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(_run_one, where=where, shipped=shipped, board=board), per_trial
                ),
                tune_config=tune.TuneConfig(
                    search_alg=InOrder({"trial": _config(plan, trial)} for trial in plan.todo),
                    num_samples=len(plan.todo),
                    reuse_actors=True,
                    max_concurrent_trials=scheduling.max_concurrent,
                ),
                run_config=settings,
            ).fit()
        except (tune.TuneError, OSError) as error:  # what a dying worker left, or a full disk
            why = f"Ray Tune stopped: {_in_one_line(error, storage)}"
            outcomes |= {trial.id: TrialEnd("incomplete", why) for trial in plan.todo if trial.id not in outcomes}
    shutil.rmtree(storage / name, ignore_errors=True)
    return outcomes


def _in_one_line(error: Exception, storage: Path) -> str:
    """Tune's own errors hold the traceback of the one that Tune met."""
    from bias_transfer.tracking.delivery import describe

    return describe(error, str(storage)) if isinstance(error, OSError) else str(error).strip().splitlines()[-1][:300]


def _config(plan: Plan, trial: Trial) -> dict[str, Any]:
    label = plan.labels[trial.id]
    return {"id": trial.id, "name": label.name, "arm": label.arm, "fields": trial.model_dump()}


def _check_machines(per_trial: Mapping[str, float], recorded: Mapping[str, Conditions]) -> None:
    """Ask every machine of the cluster that can run a trial for its fingerprint. Machines of several kinds are reported; for
    finished trials that ran elsewhere UserError is raised. A machine that joins later is not asked."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    wanted = {"CPU": per_trial["cpu"], "GPU": per_trial["gpu"]}
    nodes = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and all(node["Resources"].get(name, 0.0) >= count for name, count in wanted.items())
    ]
    ask = ray.remote(_conditions_here).options
    # No core, so that the question does not wait for a busy machine; a sliver of a GPU, since a worker without any sees none.
    gpus = min(per_trial["gpu"], 0.01)
    answers = ray.get(
        [
            ask(
                num_cpus=0, num_gpus=gpus, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote()
            for node in nodes
        ]
    )
    machines = {machine for machine, _ in answers}
    for _, versions in answers:
        check_conditions(recorded, machines, versions)
    if len(machines) > 1:
        tell(
            f"The cluster has {len(machines)} kinds of machine, on which the same trial has other bits "
            f"({'; '.join(sorted(machines))}). The report names the pairs of trials that ran on two."
        )


def _conditions_here() -> tuple[str, str]:
    """(fingerprint, versions) of this machine, in a worker."""
    from bias_transfer.resolved import Places
    from bias_transfer.storage import fingerprint

    return fingerprint.hardware(Places().device), fingerprint.versions()


def _stand_ins(trials: Sequence[Trial]) -> dict[str, Path]:
    """The stand-ins that are pre-trained for the trials, made on this machine before a worker of another one would."""
    from bias_transfer.resolved import Places
    from bias_transfer.sweep import inputs

    with reporting() as report:
        return inputs.stand_ins(trials, Places(report=report))


def _ship(trials: Sequence[Trial], stand_ins: Mapping[str, Path]) -> dict[str, Any]:
    """What `inputs.run` takes as shipped: references by which a worker on another machine fetches files. Each file is given to
    Ray once."""
    import ray

    from bias_transfer.models import hub
    from bias_transfer.sweep import inputs

    shipped: dict[str, Any] = {digest: ray.put(packed) for digest, packed in inputs.packs(trials)}
    for key, folder in stand_ins.items():
        shipped[key] = hub.folder_digest(folder), ray.put(inputs.pack(folder, hub.checkpoint_files))
    return shipped


def _ship_plugins(trials: Sequence[Trial]) -> dict[str, Any]:
    """The same for the modules of plugins, whose code no worker need have."""
    if not any(trial.plugins for trial in trials):
        return {}
    import ray

    from bias_transfer.sweep import inputs

    return {digest: ray.put(packed) for digest, packed in inputs.plugin_packs(trials)}


def _run_one(config: dict[str, Any], where: Where, shipped: dict[str, Any], board: Any = None) -> None:
    """Run one trial, in a worker, and report how it ended as Tune's result."""
    import ray
    from ray import tune

    from bias_transfer.sweep.worker import work

    report, warn = live.posting(board, config["trial"]["id"])
    # Few scalars: whatever is reported here stays in the driver's memory for every trial. The measures go to MLflow.
    tune.report({"done": True, **work(config["trial"], where, shipped, ray.get, report, warn)})


def _per_trial(scheduling: Scheduling, threads: int) -> dict[str, float]:
    """CPU cores and GPUs per trial. Raises UserError if the cluster has fewer in all: the trial would wait for ever."""
    import ray

    total = offered(ray.cluster_resources)
    cpus, gpus = scheduling.cpus_per_trial, scheduling.gpus_per_trial
    cpus = min(float(threads), total.get("CPU", 1.0)) if cpus is None else cpus
    gpus = min(1.0, total.get("GPU", 0.0)) if gpus is None else gpus
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted > total.get(name, 0.0):
            raise UserError(
                f"--{name.lower()}s-per-trial {wanted:g}: the cluster has {total.get(name, 0.0):g} {name}s in all"
            )
    return {"cpu": cpus, "gpu": gpus}
