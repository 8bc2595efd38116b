"""One parent run a sweep: it keeps the whole grid, the plan of the analysis, and the report."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from bias_transfer.spec import AnalysisPlan
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.spec import parse_trial
from bias_transfer.errors import unknown
from bias_transfer.tracking.lease import begun_first
from bias_transfer.tracking.results import MEASURE_COLUMNS
from bias_transfer.tracking.results import artifact
from bias_transfer.tracking.runs import Recorded
from bias_transfer.tracking.runs import failed
from bias_transfer.tracking.runs import recorded
from bias_transfer.tracking.store import GRID
from bias_transfer.tracking.store import KIND
from bias_transfer.tracking.store import MEASURES
from bias_transfer.tracking.store import SWEEP
from bias_transfer.tracking.store import connect
from bias_transfer.tracking.store import open_experiment
from bias_transfer.tracking.store import search

Primary = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Sweep:
    """A sweep as its parent run and the runs of its trials tell it."""

    experiment: str
    run_id: str
    """The parent run's."""
    name: str
    trials: tuple[Trial, ...]
    """The whole grid, resolved."""
    primary: dict[str, dict[str, str]]
    """Task -> stage -> the metric that headline and regressions read."""
    runs: dict[str, str]
    """Trial id -> MLflow run id, of finished trials."""
    failed: dict[str, str]
    """Trial id -> the error, of trials that failed and did not finish since."""
    recorded: tuple[Recorded, ...] = ()
    """`runs`, with what it takes to fetch them; in the order of `trials`."""
    plan: AnalysisPlan = field(default_factory=AnalysisPlan)
    """What the config fixed for the analysis when this sweep was first started."""


def open_sweep(
    client: MlflowClient,
    experiment: str,
    trials: Sequence[Trial],
    primary: Primary,
    plan: AnalysisPlan = AnalysisPlan(),  # noqa: B008 - frozen
) -> str:
    """The id of this grid's parent run: found again when the same grid was started before, else a new one. The plan is that
    of the first start: a margin is stated before the results are seen."""
    experiment_id = open_experiment(client, experiment)
    sweep_id = digest(sorted(trial.id for trial in trials))[:12]
    found = search(client, experiment_id, f"tags.`{SWEEP}` = '{sweep_id}'")
    if found:
        run_id = str(min(found, key=begun_first).info.run_id)
        client.update_run(run_id, status="RUNNING")
        return run_id
    name = f"{experiment} ({len(trials)} trials)"
    run = client.create_run(experiment_id, run_name=name, tags={KIND: "sweep", SWEEP: sweep_id})
    grid = {
        "trials": [trial.model_dump() for trial in trials],
        "primary": primary,
        "plan": plan.model_dump(exclude_defaults=True),
    }
    client.log_dict(run.info.run_id, grid, GRID)
    return str(run.info.run_id)


def close_sweep(client: MlflowClient, parent: str, complete: bool) -> None:
    """End the parent run: FINISHED when every trial of it is, else FAILED."""
    client.set_terminated(parent, "FINISHED" if complete else "FAILED")


def attach(client: MlflowClient, run_id: str, files: Sequence[Path], folder: str) -> None:
    """Keep the files with a run, under that folder; those of the same names are replaced."""
    for file in files:
        client.log_artifact(run_id, str(file), folder)


def attached(client: MlflowClient, run_id: str, folder: str) -> list[str]:
    """The names of what is kept with a run under that folder."""
    return [Path(file.path).name for file in client.list_artifacts(run_id, folder)]


def has_parent(client: MlflowClient, run_id: str) -> bool:
    """Whether the store has this run: a new store has none of an older one's."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return False


def read(experiment: str, sweep: str | None = None, uri: str | None = None, known: Collection[Recorded] = ()) -> Sweep:
    """The experiment's latest sweep, or the one whose parent run is named by id or name. Raises UserError.

    known: runs of the experiment that were finished at an earlier time; a server then has less to tell (`changed`).
    """
    client = connect(uri)
    experiment_id, run = _parent(client, experiment, sweep)
    grid = json.loads(artifact(client, run.info.run_id, run.info.artifact_uri, GRID))
    trials = tuple(parse_trial(fields) for fields in grid["trials"])
    ids = [trial.id for trial in trials]
    done = recorded(client, experiment_id, known)
    if known and not done.keys() >= set(ids):
        done = recorded(client, experiment_id)
    found = tuple(done[key] for key in ids if key in done)
    runs = {one.trial: one.run_id for one in found}
    errors = {key: value for key, value in failed(client, experiment).items() if key in set(ids) - set(runs)}
    return Sweep(
        experiment,
        run.info.run_id,
        run.info.run_name,
        trials,
        grid["primary"],
        runs,
        errors,
        found,
        AnalysisPlan(**grid.get("plan", {})),
    )


def _parent(client: MlflowClient, experiment: str, sweep: str | None) -> tuple[str, Any]:
    """The experiment's id, and the parent run of the sweep named, or of the latest."""
    known = client.get_experiment_by_name(experiment)
    if known is None:
        names = [entry.name for entry in client.search_experiments() if entry.name != "Default"]
        raise UserError(unknown("experiment", experiment, names))
    parents = search(client, known.experiment_id, f"tags.`{KIND}` = 'sweep'")
    chosen = [run for run in parents if sweep in (None, run.info.run_id, run.info.run_name)]
    if not chosen:
        names = [f"{run.info.run_id} ({run.info.run_name})" for run in parents]
        raise UserError(unknown(f"sweep of {experiment}", sweep or "", names))
    return str(known.experiment_id), max(chosen, key=_last_used)


def _last_used(run: Any) -> int:
    return int(run.info.end_time or run.info.start_time)


def measures(sweep: Sweep, uri: str | None = None) -> pd.DataFrame:
    """The measures of all finished trials of a sweep, as `long_table` has them, one run after another: `analysis.fetch` does
    it faster for many."""
    client = connect(uri)
    frames = [pd.read_parquet(BytesIO(artifact(client, run.run_id, run.artifacts, MEASURES))) for run in sweep.recorded]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(MEASURE_COLUMNS))
