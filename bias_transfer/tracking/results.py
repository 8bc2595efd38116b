"""What finished trials recorded: headline metrics, files, and the long table of measures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import fields
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

from bias_transfer.spec import Measure
from bias_transfer.spec import Trial
from bias_transfer.spec import TrialResult
from bias_transfer.errors import UserError
from bias_transfer.tracking.runs import DONE
from bias_transfer.tracking.store import TRIAL
from bias_transfer.tracking.store import searched

MEASURE_COLUMNS = ("trial", "stage", "metric", "group", "template", "value", "n")


def long_table(result: TrialResult) -> pd.DataFrame:
    """The long table of a trial's result, with its id: trial, stage, metric, group, template, value, n."""
    names = [field.name for field in fields(Measure)] if result.measures else []
    frame = pd.DataFrame({name: [getattr(measure, name) for measure in result.measures] for name in names})
    frame.insert(0, "trial", result.trial.id)
    return frame


def headlines(client: MlflowClient, experiment: str, trials: Sequence[Trial]) -> pd.DataFrame:
    """One row a finished trial, in the order of `trials`: what it is, the headline metrics, and its warnings (a tuple)."""
    known, own = client.get_experiment_by_name(experiment), {trial.id: trial for trial in trials}
    runs = searched(client, known.experiment_id, DONE) if known else ()
    tagged = ((run.data.tags[TRIAL], run.data) for run in runs)
    rows = {key: _row(own[key], data) for key, data in tagged if key in own}
    return pd.DataFrame([rows[key] for key in own if key in rows])


def _row(trial: Trial, run: Any) -> dict[str, Any]:
    names = ("id", "task", "data", "model", "setting", "upstream", "arm", "seed")
    metrics = {name: value for name, value in run.metrics.items() if not name.startswith("training/")}
    warnings = tuple(text for name, text in sorted(run.tags.items()) if name.startswith("warning."))
    return {name: getattr(trial, name) for name in names} | metrics | {"warnings": warnings}


def local_folder(artifacts: str) -> Path | None:
    """The folder of this machine that the address names, if it does."""
    return Path(local_file_uri_to_path(artifacts)) if urlsplit(artifacts).scheme in ("", "file") else None


def artifact(client: MlflowClient, run_id: str, artifacts: str, name: str) -> bytes:
    """A file of a run, read from the disk or by one request to the server, where MLflow's own way takes three.

    artifacts: where the run's files lie (`Recorded.artifacts`). Safe in threads. Raises UserError where it cannot be read.
    """
    try:
        if folder := local_folder(artifacts):
            return (folder / name).read_bytes()
        if urlsplit(artifacts).scheme == "mlflow-artifacts":
            return _proxied(client, f"{artifacts}/{name}")
        with tempfile.TemporaryDirectory() as copies:
            return Path(client.download_artifacts(run_id, name, copies)).read_bytes()
    except (OSError, MlflowException) as error:  # requests' errors are OSErrors
        raise UserError(unreadable(run_id, name, str(error))) from error


def unreadable(run_id: str, name: str, why: str) -> str:
    """What to do about a run whose file is lost or broken."""
    return (
        f"{name} of run {run_id} cannot be read: {why[:300]}. If it is lost, delete the run in MLflow and start the sweep "
        f"again: it runs only what is missing."
    )


def _proxied(client: MlflowClient, artifact_uri: str) -> bytes:
    address = MlflowArtifactsRepository.resolve_uri(artifact_uri, client.tracking_uri)
    response = http_request(get_default_host_creds(address), "", "GET")
    response.raise_for_status()
    return bytes(response.content)
