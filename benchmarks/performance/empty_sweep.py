"""A sweep of trials that return immediately, by this project or by plain Ray Tune: a process of sweep_overhead.

python -m benchmarks.performance.empty_sweep (ours | plain) TRIALS FOLDER
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.performance.load_stores import EXPERIMENT, result
from bias_transfer.spec import Trial, TrialResult
from bias_transfer.sweep.worker import Where

ROWS = 200
"""Measures per empty trial."""

DOSES = 10
"""Arms in the grid, each with the same number of seeds."""

CONFIG = """
defaults: {{task: wiki, data: {{name: synthetic, size: 300}}, model: tiny, seed: {seeds}}}
grid: [{{upstream: {{name: perturb, dose: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]}}}}]
"""

USAGE = "usage.json"
"""File in which the process writes its CPU seconds and peak memory."""


def ours(trials: int, folder: Path) -> int:
    """Run `python -m bias_transfer.sweep` with empty trials. Returns its exit status."""
    from bias_transfer.console import application
    from bias_transfer.sweep import tune as sweep_tune
    from bias_transfer.sweep.__main__ import main

    config = folder / f"{EXPERIMENT}.yaml"
    config.write_text(CONFIG.format(seeds=list(range(trials // DOSES))))
    with mock.patch.object(sweep_tune, "_run_one", empty):
        try:
            application(main)([str(config), "--no-report"])
        except SystemExit as exit_:
            return int(exit_.code or 0)
    return 0


def empty(config: dict[str, Any], where: Where, shipped: Mapping[str, Any]) -> None:
    """In a worker: everything that a sweep does for a trial, except running it."""
    import ray
    from ray import tune

    from bias_transfer.sweep import inputs
    from bias_transfer.sweep.worker import work

    with mock.patch.object(inputs, "run", returned):
        tune.report({"done": True, **work(config["trial"], where, shipped, ray.get)})


def returned(trial: Trial, *given: Any) -> TrialResult:
    """Replaces `inputs.run`: immediately returns a result of the usual size."""
    return dataclasses.replace(_usual(), trial=trial)


@functools.cache
def _usual() -> TrialResult:
    return result(0, ROWS)


def plain(trials: int, folder: Path) -> int:
    """Run plain Ray Tune with reused actors and its MLflow callback, which records as many headline metrics and parameters."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AIR_NEW_OUTPUT="0", MLFLOW_DISABLE_TELEMETRY="true")
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    ray.init("local", log_to_driver=False, include_dashboard=False, num_cpus=len(os.sched_getaffinity(0)))
    fields = _usual().trial.model_dump(exclude_none=True, exclude={"options", "seed"})
    recorder = MLflowLoggerCallback(tracking_uri=os.environ["MLFLOW_TRACKING_URI"], experiment_name=EXPERIMENT)
    tune.Tuner(
        tune.with_resources(reported, {"cpu": 1}),
        param_space={**fields, "seed": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="plain", storage_path=str(folder), verbose=1, callbacks=[recorder]),
    ).fit()
    ray.shutdown()
    return 0


def reported(config: dict[str, Any]) -> None:
    """An empty trial of plain Ray Tune."""
    from ray import tune

    tune.report(_usual().headline)


def main(kind: str, trials: int, folder: Path) -> int:
    """Run a sweep of this kind (ours or plain), and write what the process used. Returns the exit status."""
    status = {"ours": ours, "plain": plain}[kind](trials, folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    (folder / USAGE).write_text(json.dumps({"cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
