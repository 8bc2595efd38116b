"""Find the finished and the failed runs of an experiment, by trial id."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import mlflow.entities as entities
from mlflow import MlflowClient

from bias_transfer.tracking import sql
from bias_transfer.tracking.store import ERROR, IMPORTED, KEPT, KIND, MACHINE, MANAGING, TRIAL, VERSION, search


@dataclass(frozen=True)
class Recorded:
    """A finished run of a trial. While its run id and end are the same, so is everything that it recorded."""

    run_id: str
    trial: str
    ended: int
    """Milliseconds since 1970, by the clock of the machine that ran the trial."""
    artifacts: str = ""
    """URI of the run's artifacts; empty if MLflow was not asked."""


DONE = f"tags.`{KIND}` = 'trial' AND attributes.status = 'FINISHED'"


def finished(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Trial id -> run id, of the experiment's finished trials."""
    known = client.get_experiment_by_name(experiment)
    return {trial: run.run_id for trial, run in recorded(client, known.experiment_id).items()} if known else {}


@dataclass(frozen=True)
class Conditions:
    """What a trial's bits depend on in addition to its id, as it was recorded; empty if it was not."""

    machine: str
    """The fingerprint."""
    versions: str
    """Of packages, as in `numpy 2.4.6, torch 2.13.0`."""
    imported: str = ""
    """Digest of the file from which the run was imported (`bias-transfer runs import`)."""


def conditions(client: MlflowClient, experiment: str) -> dict[str, Conditions]:
    """Trial id -> where and with what it ran, of the experiment's finished trials."""
    known = client.get_experiment_by_name(experiment)
    # Of several runs of a trial the one that ended last, as in `recorded`.
    runs = sorted(search(client, known.experiment_id, DONE), key=lambda run: int(run.info.end_time)) if known else []
    return {tags[TRIAL]: _conditions(tags) for tags in (run.data.tags for run in runs)}


def _conditions(tags: Mapping[str, str]) -> Conditions:
    return Conditions(tags.get(MACHINE, ""), _versions(tags), tags.get(IMPORTED, ""))


def _versions(tags: Mapping[str, str]) -> str:
    versions = {name.removeprefix(VERSION): number for name, number in tags.items() if name.startswith(VERSION)}
    return ", ".join(f"{name} {number}" for name, number in sorted(versions.items()) if name not in MANAGING)


def with_predictions(client: MlflowClient, experiment: str) -> frozenset[str]:
    """Ids of the experiment's finished trials whose predictions were kept."""
    known = client.get_experiment_by_name(experiment)
    runs = search(client, known.experiment_id, DONE) if known else []
    return frozenset(run.data.tags[TRIAL] for run in runs if KEPT in run.data.tags)


def failed(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Trial id -> error, of the experiment's failed trials."""
    known = client.get_experiment_by_name(experiment)
    query = f"tags.`{KIND}` = 'trial' AND attributes.status = 'FAILED'"
    runs = search(client, known.experiment_id, query) if known else []
    return {run.data.tags[TRIAL]: str(run.data.tags.get(ERROR, "no error was recorded")) for run in runs}


def recorded(client: MlflowClient, experiment_id: str, known: Collection[Recorded] = ()) -> dict[str, Recorded]:
    """Trial id -> its finished run; of several runs, the one that ended last. known: see `changed`."""
    store = sql.database(client)
    if store is not None:
        rows = [Recorded(*row) for row in sql.finished_runs(store, experiment_id)]
    else:
        rows = changed(client, experiment_id, known) if known else listed(client, experiment_id, DONE)
    return {row.trial: row for row in sorted(rows, key=lambda row: (row.ended, row.run_id))}


def of_trial(client: MlflowClient, trial_id: str) -> Recorded | None:
    """The finished run of a trial in any experiment; of several the one that ended last. None if there is none."""
    query = f"{DONE} AND tags.`{TRIAL}` = '{trial_id}'"
    runs = [run for known in client.search_experiments() for run in listed(client, known.experiment_id, query)]
    return max(runs, key=lambda run: run.ended, default=None)


def listed(client: MlflowClient, experiment_id: str, query: str) -> list[Recorded]:
    """The runs of an experiment that match a query, which must ask for finished runs of trials."""
    return [
        Recorded(run.info.run_id, run.data.tags[TRIAL], int(run.info.end_time), run.info.artifact_uri)
        for run in search(client, experiment_id, query)
    ]


def changed(client: MlflowClient, experiment_id: str, known: Collection[Recorded]) -> list[Recorded]:
    """Bring a list of finished runs up to date: without the runs that were deleted or started again since, and with those
    that ended since. That takes three small answers of a server instead of a large one.

    A run that ended since on a machine whose clock lags is missed. A caller that misses a trial asks again with nothing known.
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
