"""One run a trial: started, then recorded or failed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import mlflow.entities as entities
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from bias_transfer.spec import Trial, TrialResult
from bias_transfer.tracking.results import long_table
from bias_transfer.tracking.store import ERROR, KIND, MEASURES, RESULT, TRIAL, open_experiment, search


def start(client: MlflowClient, experiment: str, trial: Trial, parent: str | None = None, name: str = "") -> str:
    """The trial's run, RUNNING: the one that it had before, else a new one. `name`: what the UI shows, if not the trial's
    own. Returns its run id."""
    experiment_id = open_experiment(client, experiment)
    before = search(client, experiment_id, f"tags.`{TRIAL}` = '{trial.id}'")
    tags = {KIND: "trial", TRIAL: trial.id, MLFLOW_RUN_NAME: name or trial.name, **_compared(trial)}
    if parent:
        tags[MLFLOW_PARENT_RUN_ID] = parent
    if not before:
        return str(client.create_run(experiment_id, run_name=name or trial.name, tags=tags).info.run_id)
    run_id = str(before[0].info.run_id)
    client.update_run(run_id, status="RUNNING")
    client.log_batch(run_id, tags=[entities.RunTag(key, value) for key, value in tags.items()])
    if ERROR in before[0].data.tags:
        client.delete_tag(run_id, ERROR)
    return run_id


def _compared(trial: Trial) -> dict[str, str]:
    """What one compares runs by in the UI."""
    names = ("task", "data", "model", "upstream", "upstream_dose", "downstream", "downstream_dose", "seed", "arm")
    return {name: str(getattr(trial, name)) for name in names if getattr(trial, name) is not None}


def record(client: MlflowClient, run_id: str, result: TrialResult) -> None:
    """Everything of a finished trial, then FINISHED. Recording it again changes nothing: timestamps are the steps."""
    parameters = result.trial.model_dump(exclude_none=True, exclude={"options"}) | result.trial.options
    curve = [
        (f"training/{name}", getattr(step, name), step.step)
        for step in result.curve
        for name in ("loss", "learning_rate")
    ]
    values = [(name, value, 0) for name, value in result.headline.items() if value == value] + curve
    tags = {f"seconds.{name}": f"{value:.2f}" for name, value in result.seconds.items()}
    tags |= {f"warning.{number}": text for number, text in enumerate(result.warnings)}
    client.log_inputs(run_id, [_input(result)])
    with tempfile.TemporaryDirectory() as folder:
        _write_artifacts(Path(folder), result)
        client.log_artifacts(run_id, folder)
    client.log_batch(
        run_id,
        metrics=[entities.Metric(name, value, step, step) for name, value, step in values],
        params=[entities.Param(name, str(value)) for name, value in parameters.items()],
        tags=[entities.RunTag(name, text) for name, text in tags.items()],
    )
    client.set_terminated(run_id, "FINISHED")


def _write_artifacts(folder: Path, result: TrialResult) -> None:
    long_table(result).to_parquet(folder / MEASURES)
    content = {"trial": result.trial.model_dump(), "id": result.trial.id, "facts": result.facts}
    (folder / RESULT).write_text(json.dumps(content, indent=1, sort_keys=True))


def _input(result: TrialResult) -> Any:
    facts = {name: value for name, value in result.facts.items() if name.startswith("examples.")}
    data = entities.Dataset(
        name=result.trial.data.rstrip("/").rsplit("/", 1)[-1],
        digest=str(result.facts["digest.train"])[:32],
        source_type="bias_transfer",
        source=json.dumps({"data": result.trial.data, "content": result.trial.data_digest}),
        profile=json.dumps(facts),
    )
    return entities.DatasetInput(data, [entities.InputTag(MLFLOW_DATASET_CONTEXT, "training")])


def fail(client: MlflowClient, run_id: str, error: str) -> None:
    """End a trial's run as FAILED, with its error."""
    client.set_tag(run_id, ERROR, error[:5000])
    client.set_terminated(run_id, "FAILED")


def interrupt(client: MlflowClient, experiment: str, trial: Trial, error: str | None) -> None:
    """End the run of a trial whose process is gone: FAILED with its error, or KILLED where it was only stopped."""
    known = client.get_experiment_by_name(experiment)
    runs = search(client, known.experiment_id, f"tags.`{TRIAL}` = '{trial.id}'") if known else []
    if error:
        fail(client, str(runs[0].info.run_id) if runs else start(client, experiment, trial), error)
    elif runs and runs[0].info.status == "RUNNING":
        client.set_terminated(runs[0].info.run_id, "KILLED")
