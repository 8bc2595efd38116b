"""Write and read one parent run per sweep, which holds the whole grid, the plan of the analysis, and the report."""

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

from bias_transfer.errors import UserError, unknown
from bias_transfer.spec import OBSOLETE_MARGINS, AnalysisPlan, Label, Trial, parse_trial
from bias_transfer.tracking.carried import CarriedSweep, grid_id
from bias_transfer.tracking.lease import begun_first
from bias_transfer.tracking.results import MEASURE_COLUMNS, artifact
from bias_transfer.tracking.runs import Recorded, failed, recorded
from bias_transfer.tracking.store import (
    COMMAND,
    GRID,
    IMPORTED,
    KIND,
    MEASURES,
    SWEEP,
    connect,
    open_experiment,
    search,
    source,
)

Primary = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Sweep:
    """A sweep, read from its parent run and the runs of its trials."""

    experiment: str
    run_id: str
    """Of the parent run."""
    name: str
    trials: tuple[Trial, ...]
    """The whole grid, with every default filled in."""
    primary: dict[str, dict[str, str]]
    """Task -> stage -> the metric that headlines and regressions use."""
    runs: dict[str, str]
    """Trial id -> MLflow run id, of the finished trials."""
    failed: dict[str, str]
    """Trial id -> error, of the trials that failed and have not finished since."""
    recorded: tuple[Recorded, ...] = ()
    """`runs` with the artifact URIs by which they are fetched, in the order of `trials`."""
    plan: AnalysisPlan = field(default_factory=AnalysisPlan)
    """The analysis plan of the config when this sweep was first started."""
    obsolete_margins: bool = False
    """Whether that plan had margins in the form of `spec.OBSOLETE_MARGINS`, which count as none."""
    labels: Mapping[str, Label] = field(default_factory=dict)
    """Trial id -> how it is shown."""
    command: str = ""
    """What starts the sweep again, as its last start was given; empty where an older version started it."""


def open_sweep(
    client: MlflowClient,
    experiment: str,
    trials: Sequence[Trial],
    primary: Primary,
    plan: AnalysisPlan = AnalysisPlan(),  # noqa: B008 - frozen
    labels: Mapping[str, Label] | None = None,
    command: str = "",
) -> str:
    """Return the id of the grid's parent run: that of an earlier start of the same grid, else a new one.

    command: what starts the sweep again.

    The plan of the first start is kept, since a margin has to be stated before the results are seen.
    """
    experiment_id = open_experiment(client, experiment)
    sweep_id = grid_id(trials)
    if parent := parent_of(client, experiment_id, sweep_id):
        client.update_run(parent.info.run_id, status="RUNNING")
        client.set_tag(parent.info.run_id, COMMAND, command)
        return str(parent.info.run_id)
    name = f"{experiment} ({len(trials)} trials)"
    tags = {KIND: "sweep", SWEEP: sweep_id, COMMAND: command, **source()}
    run = client.create_run(experiment_id, run_name=name, tags=tags)
    grid = {
        "trials": [trial.model_dump() for trial in trials],
        "primary": primary,
        "plan": plan.model_dump(exclude_defaults=True),
        "labels": {trial_id: label._asdict() for trial_id, label in (labels or {}).items()},
    }
    client.log_dict(run.info.run_id, grid, GRID)
    return str(run.info.run_id)


def parent_of(client: MlflowClient, experiment_id: str, sweep_id: str) -> Any | None:
    """The parent run of a grid, by the grid's id; None if there is none."""
    parents = search(client, experiment_id, f"tags.`{SWEEP}` = '{sweep_id}'")
    # Two starts at the same moment may both have created one; every driver then chooses the first (`lease.held`).
    return min(parents, key=begun_first, default=None)


def parents(client: MlflowClient, experiment_id: str) -> list[Any]:
    """The parent runs of an experiment's grids, latest first."""
    return search(client, experiment_id, f"tags.`{KIND}` = 'sweep'")


def collected(client: MlflowClient, run: Any) -> CarriedSweep:
    """A parent run, to be carried to another store."""
    grid = json.loads(artifact(client, run.info.run_id, run.info.artifact_uri, GRID))
    return CarriedSweep(run.data.tags[SWEEP], run.info.run_name, int(run.info.start_time), _last_used(run), grid)


def restore(client: MlflowClient, experiment_id: str, sweep: CarriedSweep, imported: str) -> str:
    """The id of the parent run of a sweep from another store, which is created unless the grid has one: the plan of the first
    start is kept. imported: the digest of the file that the sweep is from."""
    parent = parent_of(client, experiment_id, sweep.id)
    if parent is None:
        tags = {KIND: "sweep", SWEEP: sweep.id, IMPORTED: imported}
        parent = client.create_run(experiment_id, start_time=sweep.started, run_name=sweep.name, tags=tags)
    run_id = str(parent.info.run_id)
    # An import may have been cut off between the two.
    if not client.list_artifacts(run_id):
        client.log_dict(run_id, sweep.grid, GRID)
    return run_id


def close_sweep(client: MlflowClient, parent: str, complete: bool, ended: int | None = None) -> None:
    """Set the parent run to FINISHED if every trial of the sweep is finished (`complete`), else to FAILED.

    ended: when, in milliseconds since 1970 (default: now).
    """
    client.set_terminated(parent, "FINISHED" if complete else "FAILED", ended)


def attach(client: MlflowClient, run_id: str, files: Sequence[Path], folder: str) -> None:
    """Upload files as artifacts of a run, into its folder `folder`; files of the same names are replaced."""
    for file in files:
        client.log_artifact(run_id, str(file), folder)


def attached(client: MlflowClient, run_id: str, folder: str) -> list[str]:
    """The names of a run's artifacts in its folder `folder`."""
    return [Path(file.path).name for file in client.list_artifacts(run_id, folder)]


def has_parent(client: MlflowClient, run_id: str) -> bool:
    """Whether MLflow has this run. A new server has no runs of a former one."""
    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return False


def read(experiment: str, sweep: str | None = None, uri: str | None = None, known: Collection[Recorded] = ()) -> Sweep:
    """Read an experiment's latest sweep, or the one whose parent run has the id or name `sweep`. Raises UserError.

    known: runs of the experiment that had finished at an earlier time, which saves a server a large answer (`runs.changed`).
    """
    client = connect(uri)
    experiment_id, run = _parent(client, experiment, sweep)
    grid = json.loads(artifact(client, run.info.run_id, run.info.artifact_uri, GRID))
    trials = tuple(parse_trial(fields) for fields in grid["trials"])
    ids = [trial.id for trial in trials]
    done = recorded(client, experiment_id, known)
    # A run that ended on a machine whose clock lags is missing from the changes: then the full answer is asked for.
    if known and not done.keys() >= set(ids):
        done = recorded(client, experiment_id)
    finished = tuple(done[key] for key in ids if key in done)
    runs = {run.trial: run.run_id for run in finished}
    plan = grid.get("plan", {})
    errors = {key: value for key, value in failed(client, experiment).items() if key in set(ids) - set(runs)}
    return Sweep(
        experiment,
        run.info.run_id,
        run.info.run_name,
        trials,
        grid["primary"],
        runs,
        errors,
        finished,
        AnalysisPlan(**{key: value for key, value in plan.items() if key not in OBSOLETE_MARGINS}),
        any(key in plan for key in OBSOLETE_MARGINS),
        # A sweep that was recorded before labels were has the trials' own, with every option.
        {trial.id: Label(**grid["labels"][trial.id]) if grid.get("labels") else trial.label for trial in trials},
        run.data.tags.get(COMMAND, ""),
    )


def _parent(client: MlflowClient, experiment: str, sweep: str | None) -> tuple[str, Any]:
    """The experiment's id, and the parent run of the sweep that is named, or of the one that was used last."""
    known = client.get_experiment_by_name(experiment)
    if known is None:
        names = [entry.name for entry in client.search_experiments() if entry.name != "Default"]
        raise UserError(unknown("experiment", experiment, names))
    of_experiment = parents(client, known.experiment_id)
    chosen = [run for run in of_experiment if sweep in (None, run.info.run_id, run.info.run_name)]
    if not chosen:
        names = [f"{run.info.run_id} ({run.info.run_name})" for run in of_experiment]
        raise UserError(unknown(f"sweep of {experiment}", sweep or "", names))
    return str(known.experiment_id), max(chosen, key=_last_used)


def _last_used(run: Any) -> int:
    return int(run.info.end_time or run.info.start_time)


def measures(sweep: Sweep, uri: str | None = None) -> pd.DataFrame:
    """The long table of all finished trials of a sweep (see `results.long_table`), fetched one run after another. For many
    trials, `analysis.data.fetch` is faster."""
    client = connect(uri)
    frames = [pd.read_parquet(BytesIO(artifact(client, run.run_id, run.artifacts, MEASURES))) for run in sweep.recorded]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(MEASURE_COLUMNS))
