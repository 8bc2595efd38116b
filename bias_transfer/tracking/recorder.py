"""Write one MLflow run per trial: start it, then record its result or its error."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow.entities as entities
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from bias_transfer.spec import Trial, TrialResult
from bias_transfer.tracking import sql
from bias_transfer.tracking.carried import CarriedTrial
from bias_transfer.tracking.results import local_folder, long_table
from bias_transfer.tracking.runs import finished
from bias_transfer.tracking.sql import together
from bias_transfer.tracking.store import (
    ERROR,
    IMPORTED,
    KEPT,
    KIND,
    MACHINE,
    MEASURES,
    PREDICTIONS,
    RESULT,
    TRIAL,
    VERSION,
    open_experiment,
    search,
    source,
)

LONGEST_NAME = 250
"""Longest run name in characters that PostgreSQL's column takes; a longer one is an error there."""


def start(
    client: MlflowClient, experiment: str, trial: Trial, parent: str | None = None, name: str = "", arm: str = ""
) -> str:
    """Set the trial's run to RUNNING, the one from an earlier start or else a new one. Returns its run id.

    name, arm: as MLflow's UI shows them (default: the trial's, with every option).
    """
    experiment_id = open_experiment(client, experiment)
    return _opened(client, experiment_id, trial, parent, (name, arm), _runs(client, experiment_id, trial))


def begin(
    client: MlflowClient, experiment: str, trial: Trial, parent: str | None = None, name: str = "", arm: str = ""
) -> str | None:
    """As `start`, but returns None and changes nothing if the trial is finished already."""
    experiment_id = open_experiment(client, experiment)
    earlier = _runs(client, experiment_id, trial)
    if any(run.info.status == "FINISHED" for run in earlier):
        return None
    return _opened(client, experiment_id, trial, parent, (name, arm), earlier)


def _runs(client: MlflowClient, experiment_id: str, trial: Trial) -> list[Any]:
    """The trial's runs, newest first."""
    store = sql.database(client)
    # Nearly always there is none, which the tables say 15 ms sooner than a search.
    if store is not None and not sql.has_run(store, experiment_id, trial.id):
        return []
    return search(client, experiment_id, f"tags.`{TRIAL}` = '{trial.id}'")


def _opened(
    client: MlflowClient,
    experiment_id: str,
    trial: Trial,
    parent: str | None,
    label: tuple[str, str],
    earlier: list[Any],
) -> str:
    shown = (label[0] or trial.name)[:LONGEST_NAME]
    tags = {KIND: "trial", TRIAL: trial.id, MLFLOW_RUN_NAME: shown, **_compared(trial), "arm": label[1] or trial.arm}
    tags |= source()
    if parent:
        tags[MLFLOW_PARENT_RUN_ID] = parent
    if earlier and not earlier[0].data.params.items() <= _parameters(trial).items():
        # MLflow's parameters are immutable. The earlier run's differ if it read the same data from another folder.
        client.delete_run(earlier[0].info.run_id)
        earlier = []
    if not earlier:
        return str(client.create_run(experiment_id, run_name=shown, tags=tags).info.run_id)
    run_id = str(earlier[0].info.run_id)
    client.update_run(run_id, status="RUNNING")
    client.log_batch(run_id, tags=[entities.RunTag(key, value) for key, value in tags.items()])
    if ERROR in earlier[0].data.tags:
        client.delete_tag(run_id, ERROR)
    return run_id


def _parameters(trial: Trial) -> dict[str, str]:
    fields = trial.model_dump(exclude_none=True, exclude={"options"}) | trial.options
    return {name: str(value) for name, value in fields.items()}


def _compared(trial: Trial) -> dict[str, str]:
    """The fields of a trial that are tags, so that MLflow's UI can compare and filter runs by them."""
    names = ("task", "data", "model", "upstream", "upstream_dose", "downstream", "downstream_dose", "seed")
    return {name: str(getattr(trial, name)) for name in names if getattr(trial, name) is not None}


def record(client: MlflowClient, run_id: str, result: TrialResult) -> None:
    """Record the result of a finished trial and set its run to FINISHED. Recording it again changes nothing."""
    curve = [
        (f"training/{name}", getattr(step, name), step.step)
        for step in result.curve
        for name in ("loss", "learning_rate")
    ]
    values = [(name, value, 0) for name, value in result.headline.items() if value == value] + curve
    tags = {f"seconds.{name}": f"{value:.2f}" for name, value in result.seconds.items()}
    tags |= {f"warning.{number}": text for number, text in enumerate(result.warnings)}
    tags |= {name: str(value) for name, value in result.facts.items() if name.startswith(VERSION)}
    if "machine" in result.facts:
        tags[MACHINE] = str(result.facts["machine"])
    if result.predictions is not None:
        tags[KEPT] = str(len(result.predictions))
    # Files first: a run that is FINISHED has everything.
    _log_artifacts(client, run_id, lambda folder: _write_artifacts(folder, result))
    data = _input(result.trial.data, result.trial.data_digest, result.facts)
    _finish(client, run_id, data, _parameters(result.trial), tags, values)


def restore(client: MlflowClient, experiment_id: str, trial: CarriedTrial, parent: str | None, imported: str) -> str:
    """Record a trial that finished in another store as it was recorded there, and return its run id. What an earlier start, or
    an import that was cut off, left of it is deleted.

    imported: the digest of the file that the trial is from.
    """
    for earlier in search(client, experiment_id, f"tags.`{TRIAL}` = '{trial.trial}'"):
        if earlier.info.status != "FINISHED":
            client.delete_run(earlier.info.run_id)
    tags = {KIND: "trial", TRIAL: trial.trial, **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
    run = client.create_run(experiment_id, start_time=trial.started, run_name=trial.name, tags=tags)
    run_id = str(run.info.run_id)
    _log_artifacts(client, run_id, lambda folder: _write_carried(folder, trial))
    data = _input(str(trial.fields["data"]), str(trial.fields["data_digest"]), trial.facts)
    values = [(name, value, step) for name, step, value in trial.points]
    # The tag comes with the results: a run that was left without them may be run here.
    _finish(client, run_id, data, trial.parameters, trial.tags | {IMPORTED: imported}, values, trial.ended)
    return run_id


def _finish(
    client: MlflowClient,
    run_id: str,
    data: Any,
    parameters: Mapping[str, str],
    tags: Mapping[str, str],
    values: Sequence[tuple[str, float, int]],
    ended: int | None = None,
) -> None:
    """Log what a finished trial has, and set its run to FINISHED. values: (metric, value, step); ended: default now."""
    with together(client) as writer:
        writer.log_inputs(run_id, [data])
        writer.log_batch(
            run_id,
            # The step is the timestamp too, so that MLflow takes a value that is logged again for the same one.
            metrics=[entities.Metric(name, value, step, step) for name, value, step in values],
            params=[entities.Param(name, value) for name, value in parameters.items()],
            tags=[entities.RunTag(name, text) for name, text in tags.items()],
        )
        writer.set_terminated(run_id, "FINISHED", ended)


def _log_artifacts(client: MlflowClient, run_id: str, write: Callable[[Path], None]) -> None:
    """Write the artifacts into the run's folder if it is on this machine. MLflow's own way fetches the whole run first."""
    store = sql.database(client)
    artifacts = sql.artifacts_of(store, run_id) if store is not None else None
    if artifacts and (folder := local_folder(artifacts)):
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        return
    with tempfile.TemporaryDirectory() as copies:
        write(Path(copies))
        client.log_artifacts(run_id, copies)


def _write_artifacts(folder: Path, result: TrialResult) -> None:
    long_table(result).to_parquet(folder / MEASURES)
    if result.predictions is not None:
        (folder / PREDICTIONS).write_bytes(result.predictions)
    _write_result(folder, result.trial.id, result.trial.model_dump(), result.facts)


def _write_carried(folder: Path, trial: CarriedTrial) -> None:
    frame = trial.measures.to_pandas()
    frame.insert(0, "trial", trial.trial)
    frame.to_parquet(folder / MEASURES)
    _write_result(folder, trial.trial, trial.fields, trial.facts)


def _write_result(folder: Path, trial_id: str, fields: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    content = {"trial": fields, "id": trial_id, "facts": facts}
    (folder / RESULT).write_text(json.dumps(content, indent=1, sort_keys=True))


def _input(data: str, content: str, facts: Mapping[str, Any]) -> Any:
    """The data set of a run. data, content: the trial's field, and the digest of what it names."""
    sizes = {name: value for name, value in facts.items() if name.startswith("examples.")}
    dataset = entities.Dataset(
        name=data.rstrip("/").rsplit("/", 1)[-1],
        digest=str(facts["digest.train"])[:32],
        source_type="bias_transfer",
        source=json.dumps({"data": data, "content": content}),
        profile=json.dumps(sizes),
    )
    return entities.DatasetInput(dataset, [entities.InputTag(MLFLOW_DATASET_CONTEXT, "training")])


def fail(client: MlflowClient, run_id: str, error: str) -> None:
    """Set a trial's run to FAILED, with the error as a tag."""
    with together(client) as writer:
        # Every store of MLflow takes a tag of this length; some refuse a longer one.
        writer.set_tag(run_id, ERROR, error[:5000])
        writer.set_terminated(run_id, "FAILED")


def interrupt(client: MlflowClient, experiment: str, trials: Collection[str]) -> None:
    """Set the RUNNING runs of these trials (ids) to KILLED, since their processes are gone.

    A RUNNING run of a trial that has a finished run too is deleted: when a server's answer is late, MLflow's client asks
    again for a new run, and the server then has two.
    """
    known = client.get_experiment_by_name(experiment)
    query, done = f"tags.`{KIND}` = 'trial' AND attributes.status = 'RUNNING'", finished(client, experiment)
    for run in search(client, known.experiment_id, query) if known else []:
        if run.data.tags[TRIAL] in done:
            client.delete_run(run.info.run_id)
        elif run.data.tags[TRIAL] in trials:
            client.set_terminated(run.info.run_id, "KILLED")
