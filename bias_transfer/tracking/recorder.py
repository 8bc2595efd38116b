"""One run a trial: started, then recorded or failed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import mlflow.entities as entities
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from bias_transfer.spec import Trial
from bias_transfer.spec import TrialResult
from bias_transfer.tracking import sql
from bias_transfer.tracking.results import local_folder
from bias_transfer.tracking.results import long_table
from bias_transfer.tracking.runs import finished
from bias_transfer.tracking.store import ERROR
from bias_transfer.tracking.store import KIND
from bias_transfer.tracking.store import MEASURES
from bias_transfer.tracking.store import RESULT
from bias_transfer.tracking.store import TRIAL
from bias_transfer.tracking.store import open_experiment
from bias_transfer.tracking.store import search
from bias_transfer.tracking.together import together

LONGEST_NAME = 250
"""Characters of a run's name that PostgreSQL's column takes; a longer one is refused there."""


def start(client: MlflowClient, experiment: str, trial: Trial, parent: str | None = None, name: str = "") -> str:
    """The trial's run, RUNNING: the one that it had before, else a new one. `name`: what the UI shows, if not the trial's
    own. Returns its run id."""
    experiment_id = open_experiment(client, experiment)
    return _opened(client, experiment_id, trial, parent, name, _runs(client, experiment_id, trial))


def begin(client: MlflowClient, experiment: str, trial: Trial, parent: str | None = None, name: str = "") -> str | None:
    """As `start`, but None, and nothing done, where the trial is finished."""
    experiment_id = open_experiment(client, experiment)
    before = _runs(client, experiment_id, trial)
    if any(run.info.status == "FINISHED" for run in before):
        return None
    return _opened(client, experiment_id, trial, parent, name, before)


def _runs(client: MlflowClient, experiment_id: str, trial: Trial) -> list[Any]:
    store = sql.database(client)
    if store is not None and not sql.has_run(store, experiment_id, trial.id):
        return []
    return search(client, experiment_id, f"tags.`{TRIAL}` = '{trial.id}'")


def _opened(
    client: MlflowClient, experiment_id: str, trial: Trial, parent: str | None, name: str, before: list[Any]
) -> str:
    shown = (name or trial.name)[:LONGEST_NAME]
    tags = {KIND: "trial", TRIAL: trial.id, MLFLOW_RUN_NAME: shown, **_compared(trial)}
    if parent:
        tags[MLFLOW_PARENT_RUN_ID] = parent
    if before and not before[0].data.params.items() <= _parameters(trial).items():
        client.delete_run(before[0].info.run_id)  # it names another folder of the same data, which cannot be changed
        before = []
    if not before:
        return str(client.create_run(experiment_id, run_name=shown, tags=tags).info.run_id)
    run_id = str(before[0].info.run_id)
    client.update_run(run_id, status="RUNNING")
    client.log_batch(run_id, tags=[entities.RunTag(key, value) for key, value in tags.items()])
    if ERROR in before[0].data.tags:
        client.delete_tag(run_id, ERROR)
    return run_id


def _parameters(trial: Trial) -> dict[str, str]:
    fields = trial.model_dump(exclude_none=True, exclude={"options"}) | trial.options
    return {name: str(value) for name, value in fields.items()}


def _compared(trial: Trial) -> dict[str, str]:
    """What one compares runs by in the UI."""
    names = ("task", "data", "model", "upstream", "upstream_dose", "downstream", "downstream_dose", "seed", "arm")
    return {name: str(getattr(trial, name)) for name in names if getattr(trial, name) is not None}


def record(client: MlflowClient, run_id: str, result: TrialResult) -> None:
    """Everything of a finished trial, then FINISHED. Recording it again changes nothing: timestamps are the steps."""
    curve = [
        (f"training/{name}", getattr(step, name), step.step)
        for step in result.curve
        for name in ("loss", "learning_rate")
    ]
    values = [(name, value, 0) for name, value in result.headline.items() if value == value] + curve
    tags = {f"seconds.{name}": f"{value:.2f}" for name, value in result.seconds.items()}
    tags |= {f"warning.{number}": text for number, text in enumerate(result.warnings)}
    _log_artifacts(client, run_id, result)
    with together(client) as writer:
        writer.log_inputs(run_id, [_input(result)])
        writer.log_batch(
            run_id,
            metrics=[entities.Metric(name, value, step, step) for name, value, step in values],
            params=[entities.Param(name, value) for name, value in _parameters(result.trial).items()],
            tags=[entities.RunTag(name, text) for name, text in tags.items()],
        )
        writer.set_terminated(run_id, "FINISHED")


def _log_artifacts(client: MlflowClient, run_id: str, result: TrialResult) -> None:
    """Into the run's folder where that is one of this machine, else by MLflow, which asks for the whole run first."""
    store = sql.database(client)
    place = sql.artifacts_of(store, run_id) if store is not None else None
    if place and (own := local_folder(place)):
        own.mkdir(parents=True, exist_ok=True)
        _write_artifacts(own, result)
        return
    with tempfile.TemporaryDirectory() as folder:
        _write_artifacts(Path(folder), result)
        client.log_artifacts(run_id, folder)


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
    with together(client) as writer:
        writer.set_tag(run_id, ERROR, error[:5000])
        writer.set_terminated(run_id, "FAILED")


def interrupt(client: MlflowClient, experiment: str, trials: Collection[str]) -> None:
    """End the runs of these trials (ids) that are RUNNING, since their processes are gone: KILLED. One beside a finished run of
    the same trial is deleted: a server that answers late is asked to create a run again, and then has two."""
    known = client.get_experiment_by_name(experiment)
    query, done = f"tags.`{KIND}` = 'trial' AND attributes.status = 'RUNNING'", finished(client, experiment)
    for run in search(client, known.experiment_id, query) if known else []:
        if run.data.tags[TRIAL] in done:
            client.delete_run(run.info.run_id)
        elif run.data.tags[TRIAL] in trials:
            client.set_terminated(run.info.run_id, "KILLED")
