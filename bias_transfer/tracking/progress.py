"""The progress of an experiment's sweeps, for `bias-transfer status`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient

from bias_transfer.errors import UserError, unknown
from bias_transfer.spec import parse_trial
from bias_transfer.tracking.lease import Lease, holder
from bias_transfer.tracking.results import artifact
from bias_transfer.tracking.runs import Recorded, recorded
from bias_transfer.tracking.store import ERROR, GRID, KIND, TRIAL, search


@dataclass(frozen=True)
class Progress:
    """The state of one sweep at this moment."""

    experiment: str
    run_id: str
    """Of the parent run."""
    name: str
    trials: tuple[str, ...]
    """The ids of the whole grid."""
    done: tuple[Recorded, ...]
    running: tuple[str, ...]
    """The ids of trials whose run is RUNNING. Without a driver, they are what a dead driver left."""
    failed: tuple[tuple[str, str], ...]
    """(trial id, error), latest first."""
    lease: Lease | None


def watch(client: MlflowClient, experiment: str) -> list[Progress]:
    """The sweeps of an experiment, latest first. Raises UserError for an unknown experiment."""
    entry = client.get_experiment_by_name(experiment)
    if entry is None:
        raise UserError(unknown("experiment", experiment, experiments(client)))
    experiment_id = entry.experiment_id
    done = recorded(client, experiment_id)
    running = _trials(client, experiment_id, "RUNNING")
    failed = _trials(client, experiment_id, "FAILED")
    parents = search(client, experiment_id, f"tags.`{KIND}` = 'sweep'")
    return [_progress(client, experiment, run, done, running, failed) for run in parents]


def experiments(client: MlflowClient) -> list[str]:
    """The names of all experiments but MLflow's default one, including those that the project has no runs in."""
    return [entry.name for entry in client.search_experiments() if entry.name != "Default"]


def _trials(client: MlflowClient, experiment_id: str, status: str) -> list[Any]:
    runs = search(client, experiment_id, f"tags.`{KIND}` = 'trial' AND attributes.status = '{status}'")
    return sorted(runs, key=lambda run: run.info.end_time or 0, reverse=True)


def _progress(
    client: MlflowClient, experiment: str, run: Any, done: dict[str, Recorded], running: list[Any], failed: list[Any]
) -> Progress:
    grid = json.loads(artifact(client, run.info.run_id, run.info.artifact_uri, GRID))
    ids = tuple(parse_trial(fields).id for fields in grid["trials"])
    missing = set(ids) - done.keys()
    errors = {trial.data.tags[TRIAL]: trial.data.tags.get(ERROR, "no error was recorded") for trial in failed}
    return Progress(
        experiment,
        run.info.run_id,
        run.info.run_name,
        ids,
        tuple(done[key] for key in ids if key in done),
        tuple(sorted({trial.data.tags[TRIAL] for trial in running} & missing)),
        tuple((key, error) for key, error in errors.items() if key in missing),
        holder(run),
    )
