"""Which trials of an experiment have finished or failed, by the trial's id."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import mlflow.entities as entities
from mlflow import MlflowClient

from bias_transfer.tracking import sql
from bias_transfer.tracking.store import ERROR
from bias_transfer.tracking.store import KIND
from bias_transfer.tracking.store import TRIAL
from bias_transfer.tracking.store import search


@dataclass(frozen=True)
class Recorded:
    """A finished run of a trial. While run id and end are the same, so is what it recorded."""

    run_id: str
    trial: str
    ended: int
    """Milliseconds since 1970, by the clock of the machine that ran it."""
    artifacts: str = ""
    """Where MLflow keeps the run's files; empty where it was not asked."""


DONE = f"tags.`{KIND}` = 'trial' AND attributes.status = 'FINISHED'"


def finished(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Trial id -> run id of the experiment's finished trials."""
    known = client.get_experiment_by_name(experiment)
    return {trial: run.run_id for trial, run in recorded(client, known.experiment_id).items()} if known else {}


def failed(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Trial id -> error of the experiment's failed trials."""
    known = client.get_experiment_by_name(experiment)
    query = f"tags.`{KIND}` = 'trial' AND attributes.status = 'FAILED'"
    runs = search(client, known.experiment_id, query) if known else []
    return {run.data.tags[TRIAL]: str(run.data.tags.get(ERROR, "no error was recorded")) for run in runs}


def recorded(client: MlflowClient, experiment_id: str, known: Collection[Recorded] = ()) -> dict[str, Recorded]:
    """Trial id -> its finished run; of several, the one that ended last. known: see `changed`."""
    store = sql.database(client)
    if store is not None:
        rows = [Recorded(*row) for row in sql.finished_runs(store, experiment_id)]
    else:
        rows = changed(client, experiment_id, known) if known else listed(client, experiment_id, DONE)
    return {row.trial: row for row in sorted(rows, key=lambda row: (row.ended, row.run_id))}


def listed(client: MlflowClient, experiment_id: str, query: str) -> list[Recorded]:
    found = search(client, experiment_id, query)
    return [
        Recorded(run.info.run_id, run.data.tags[TRIAL], int(run.info.end_time), run.info.artifact_uri) for run in found
    ]


def changed(client: MlflowClient, experiment_id: str, known: Collection[Recorded]) -> list[Recorded]:
    """From a server, what was known to be finished, less the runs that were deleted or started again since, and those that
    ended since: three small answers in place of one that holds everything.

    A run that ended since on a machine whose clock lags is not seen: who misses a trial asks again, with nothing known.
    """
    later = max(run.ended for run in known)
    new = listed(client, experiment_id, f"{DONE} AND attributes.end_time >= {later}")
    ids = {run.run_id for run in new}
    gone = [
        *search(client, experiment_id, f"tags.`{KIND}` = 'trial' AND attributes.status != 'FINISHED'"),
        *search(client, experiment_id, f"tags.`{KIND}` = 'trial'", entities.ViewType.DELETED_ONLY),
    ]
    ids |= {run.info.run_id for run in gone}
    return [*new, *(run for run in known if run.run_id not in ids)]
