"""Read what finished trials recorded: headline metrics, artifacts, and the long table of measures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.rest_utils import http_request

from bias_transfer.errors import UserError
from bias_transfer.spec import Label, Measure, Trial, TrialResult
from bias_transfer.tracking.runs import DONE, Recorded
from bias_transfer.tracking.store import MEASURES, TRIAL, VERSION, searched

MEASURE_COLUMNS = ("trial", "stage", "metric", "group", "template", "value", "n")


def long_table(result: TrialResult) -> pd.DataFrame:
    """The long table of a trial's result: a row per measure, with the columns `MEASURE_COLUMNS`."""
    names = [field.name for field in fields(Measure)] if result.measures else []
    frame = pd.DataFrame({name: [getattr(measure, name) for measure in result.measures] for name in names})
    frame.insert(0, "trial", result.trial.id)
    return frame


def headlines(
    client: MlflowClient, experiment: str, trials: Sequence[Trial], labels: Mapping[str, Label] | None = None
) -> pd.DataFrame:
    """One row per finished trial, in the order of `trials`: fields of the trial, headline metrics, and warnings (a tuple)."""
    known, by_id = client.get_experiment_by_name(experiment), {trial.id: trial for trial in trials}
    runs = searched(client, known.experiment_id, DONE) if known else ()
    tagged = ((run.data.tags[TRIAL], run.data) for run in runs)
    shown = labels or {}
    rows = {key: _row(by_id[key], data, shown.get(key) or by_id[key].label) for key, data in tagged if key in by_id}
    return pd.DataFrame([rows[trial_id] for trial_id in by_id if trial_id in rows])


def _row(trial: Trial, run: Any, label: Label) -> dict[str, Any]:
    names = ("id", "task", "data", "model", "upstream", "seed")
    metrics = {name: value for name, value in run.metrics.items() if not name.startswith("training/")}
    warnings = tuple(text for name, text in sorted(run.tags.items()) if name.startswith("warning."))
    fields = {name: getattr(trial, name) for name in names} | {"setting": label.setting, "arm": label.arm}
    return fields | metrics | {"warnings": warnings}


def measures_of(client: MlflowClient, run: Recorded) -> list[Measure]:
    """What a finished run measured. Raises UserError as `artifact` does."""
    frame = pd.read_parquet(BytesIO(artifact(client, run.run_id, run.artifacts, MEASURES)))
    names = [field.name for field in fields(Measure)]
    return [Measure(*row) for row in frame[names].itertuples(index=False)]


def versions(client: MlflowClient, experiment: str, trials: Sequence[Trial]) -> dict[str, dict[str, str]]:
    """Trial id -> package -> version, of the finished ones of these trials."""
    known, ids = client.get_experiment_by_name(experiment), {trial.id for trial in trials}
    tags = [run.data.tags for run in searched(client, known.experiment_id, DONE)] if known else []
    return {
        of_run[TRIAL]: {name.removeprefix(VERSION): value for name, value in of_run.items() if name.startswith(VERSION)}
        for of_run in tags
        if of_run[TRIAL] in ids
    }


def local_folder(artifacts: str) -> Path | None:
    """The folder that an artifact URI names, if it is on this machine."""
    return Path(local_file_uri_to_path(artifacts)) if urlsplit(artifacts).scheme in ("", "file") else None


def artifact(client: MlflowClient, run_id: str, artifacts: str, name: str) -> bytes:
    """The content of a run's artifact `name`, from the disk, or by one request to the server (MLflow's client makes three).

    artifacts: the URI of the run's artifacts (`Recorded.artifacts`). Thread-safe. Raises UserError if it cannot be read.
    """
    try:
        if folder := local_folder(artifacts):
            return (folder / name).read_bytes()
        if urlsplit(artifacts).scheme == "mlflow-artifacts":
            return _proxied(client, f"{artifacts}/{name}")
        with tempfile.TemporaryDirectory() as copies:
            return Path(client.download_artifacts(run_id, name, copies)).read_bytes()
    except (OSError, MlflowException) as error:  # the exceptions of requests are OSErrors
        raise UserError(unreadable(run_id, name, str(error))) from error


def unreadable(run_id: str, name: str, why: str) -> str:
    """The message for a run whose artifact is lost or broken."""
    return (
        f"{name} of run {run_id} cannot be read: {why[:300]}. If it is lost, delete the run in MLflow and start the sweep "
        f"again: it runs only what is missing."
    )


def _proxied(client: MlflowClient, artifact_uri: str) -> bytes:
    address = MlflowArtifactsRepository.resolve_uri(artifact_uri, client.tracking_uri)
    response = http_request(get_default_host_creds(address), "", "GET")
    response.raise_for_status()
    return bytes(response.content)
