"""How far the sweeps of an experiment are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient

from bias_transfer.errors import UserError
from bias_transfer.spec import parse_trial
from bias_transfer.errors import unknown
from bias_transfer.tracking.lease import Lease
from bias_transfer.tracking.lease import holder
from bias_transfer.tracking.results import artifact
from bias_transfer.tracking.runs import Recorded
from bias_transfer.tracking.runs import recorded
from bias_transfer.tracking.store import ERROR
from bias_transfer.tracking.store import GRID
from bias_transfer.tracking.store import KIND
from bias_transfer.tracking.store import TRIAL
from bias_transfer.tracking.store import search


@dataclass(frozen=True)
class Progress:
    """One sweep at this moment."""

    experiment: str
    run_id: str
    """The parent run's."""
    name: str
    trials: tuple[str, ...]
    """Ids of the whole grid."""
    done: tuple[Recorded, ...]
    running: tuple[str, ...]
    """Ids of trials whose run is RUNNING; without a driver, what is left of a dead one."""
    failed: tuple[tuple[str, str], ...]
    """(id, error), latest first."""
    lease: Lease | None


def watch(client: MlflowClient, experiment: str) -> list[Progress]:
    """The experiment's sweeps, latest first. Raises UserError."""
    entry = client.get_experiment_by_name(experiment)
    if entry is None:
        raise UserError(unknown("experiment", experiment, experiments(client)))
    own = entry.experiment_id
    done = recorded(client, own)
    running = _trials(client, own, "RUNNING")
    failed = _trials(client, own, "FAILED")
    parents = search(client, own, f"tags.`{KIND}` = 'sweep'")
    return [_progress(client, experiment, run, done, running, failed) for run in parents]


def experiments(client: MlflowClient) -> list[str]:
    """Their names, those without runs of ours too."""
    return [entry.name for entry in client.search_experiments() if entry.name != "Default"]


def _trials(client: MlflowClient, experiment_id: str, status: str) -> list[Any]:
    found = search(client, experiment_id, f"tags.`{KIND}` = 'trial' AND attributes.status = '{status}'")
    return sorted(found, key=lambda run: run.info.end_time or 0, reverse=True)


def _progress(
    client: MlflowClient, experiment: str, run: Any, done: dict[str, Recorded], running: list[Any], failed: list[Any]
) -> Progress:
    grid = json.loads(artifact(client, run.info.run_id, run.info.artifact_uri, GRID))
    ids = tuple(parse_trial(fields).id for fields in grid["trials"])
    missing = set(ids) - done.keys()
    errors = {one.data.tags[TRIAL]: one.data.tags.get(ERROR, "no error was recorded") for one in failed}
    return Progress(
        experiment,
        run.info.run_id,
        run.info.run_name,
        ids,
        tuple(done[key] for key in ids if key in done),
        tuple(sorted({one.data.tags[TRIAL] for one in running} & missing)),
        tuple((key, error) for key, error in errors.items() if key in missing),
        holder(run),
    )
