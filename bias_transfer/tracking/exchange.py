"""Carry an experiment's finished trials from one MLflow store to another: collect them, and record them elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from bias_transfer.errors import UserError, first_line, unknown
from bias_transfer.spec import NUMERICS
from bias_transfer.tracking import carried, lease, progress, recorder, runs, sweeps
from bias_transfer.tracking.carried import MEASURES, CarriedSweep, CarriedTrial, Point, Study
from bias_transfer.tracking.results import artifact, unreadable
from bias_transfer.tracking.store import KEPT, KIND, RESULT, SWEEP, TRIAL, open_experiment, search
from bias_transfer.tracking.store import MEASURES as MEASURES_FILE

CURVE = "training/"
"""Prefix of the metrics that have more than one point."""

AGAIN = "Import the file again"


@dataclass(frozen=True)
class Collected:
    """What an experiment has to export."""

    study: Study
    unfinished: Mapping[str, int]
    """State in lower case -> trials without a result."""
    older: int
    """Finished trials of other numerics, which are left out."""
    predictions: int
    """Exported trials whose predictions were kept; they are not exported."""


def collect(client: MlflowClient, experiment: str) -> Collected:
    """Read the finished trials and the sweeps of an experiment. Raises UserError for one that has none."""
    entry = client.get_experiment_by_name(experiment)
    if entry is None:
        raise UserError(unknown("experiment", experiment, progress.experiments(client)))
    all_runs = search(client, entry.experiment_id, f"tags.`{KIND}` = 'trial'")
    states = {run.data.tags[TRIAL]: run.info.status.lower() for run in all_runs}
    finished = _finished(all_runs)
    unfinished = Counter(state for trial, state in states.items() if trial not in finished)
    parents = sweeps.parents(client, entry.experiment_id)
    grids = _grids(client, parents)
    known = {grid.id for grid in grids}
    of_parent = {run.info.run_id: sweep for run in parents if (sweep := run.data.tags[SWEEP]) in known}
    every = [_carried(client, finished[trial], of_parent) for trial in sorted(finished)]
    current = tuple(trial for trial in every if _current(trial))
    if not current:
        raise UserError(_nothing(experiment, len(every), unfinished.total()))
    study = Study(experiment, version("bias-transfer"), NUMERICS, grids, current)
    kept = sum(KEPT in finished[trial.trial].data.tags for trial in current)
    return Collected(study, unfinished, len(every) - len(current), kept)


def _nothing(experiment: str, older: int, unfinished: int) -> str:
    return (
        f"{experiment} has no finished trial to export ({older} of other numerics than today's, {NUMERICS}; {unfinished} "
        f"without a result). Run bias-transfer sweep first."
    )


def _finished(all_runs: list[Any]) -> dict[str, Any]:
    """Trial id -> its finished run; of several the one that `runs.recorded` takes."""
    done = [run for run in all_runs if run.info.status == "FINISHED"]
    done.sort(key=lambda run: (int(run.info.end_time), run.info.run_id))
    return {run.data.tags[TRIAL]: run for run in done}


def _current(trial: CarriedTrial) -> bool:
    try:
        return carried.id_holds(trial.trial, trial.fields)
    except UserError:
        return False


def _grids(client: MlflowClient, parents: list[Any]) -> tuple[CarriedSweep, ...]:
    """The sweeps of these parent runs that have today's ids, first started first; of a grid's twins the first."""
    grids = dict[str, CarriedSweep]()
    for run in sorted(parents, key=lease.begun_first):
        sweep = sweeps.collected(client, run)
        try:
            if carried.grid_holds(sweep):
                grids.setdefault(sweep.id, sweep)
        except UserError:
            continue
    return tuple(grids.values())


def _carried(client: MlflowClient, run: Any, of_parent: Mapping[str, str]) -> CarriedTrial:
    """A finished run. Raises UserError if an artifact of it cannot be read."""
    run_id, tags = run.info.run_id, run.data.tags
    content = json.loads(artifact(client, run_id, run.info.artifact_uri, RESULT))
    return CarriedTrial(
        trial=tags[TRIAL],
        name=run.info.run_name,
        sweep=of_parent.get(tags.get(MLFLOW_PARENT_RUN_ID, ""), ""),
        started=int(run.info.start_time),
        ended=int(run.info.end_time),
        fields=content["trial"],
        facts=content["facts"],
        parameters=dict(run.data.params),
        tags={name: text for name, text in tags.items() if carried.is_carried(name)},
        points=_points(client, run),
        measures=_measures(client, run),
    )


def _points(client: MlflowClient, run: Any) -> tuple[Point, ...]:
    headline = [(name, 0, value) for name, value in run.data.metrics.items() if not name.startswith(CURVE)]
    curve = [
        (name, point.step, point.value)
        for name in run.data.metrics
        if name.startswith(CURVE)
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    return tuple(sorted({*headline, *curve}, key=lambda point: point[:2]))


def _measures(client: MlflowClient, run: Any) -> pa.Table:
    content = artifact(client, run.info.run_id, run.info.artifact_uri, MEASURES_FILE)
    try:
        table = pq.read_table(BytesIO(content))
        # A trial without measures recorded a table without columns.
        return table.select(MEASURES.names).cast(MEASURES) if len(table) else MEASURES.empty_table()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(unreadable(run.info.run_id, MEASURES_FILE, first_line(error))) from error


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    new: int
    present: int
    """Trials that the experiment had already, with the same numbers."""
    kept_grids: tuple[str, ...]
    """Names of the sweeps that it had already with another plan or other labels, which stay as they are."""


def bring_in(client: MlflowClient, study: Study, experiment: str) -> Imported:
    """Record a study's trials and sweeps in an experiment, which is created if it is new.

    Each trial is recorded whole before the next: after an import that was cut off, another one goes on. Raises, before anything
    is written, UserError for a trial that the experiment has with other numbers, and HeldError while a driver runs one of its
    sweeps.
    """
    new = _new(client, study, experiment)
    experiment_id = open_experiment(client, experiment)
    lease.check_free(client, sweeps.parents(client, experiment_id), AGAIN)
    known = {sweep.id: sweeps.parent_of(client, experiment_id, sweep.id) for sweep in study.sweeps}
    kept_grids = tuple(sweep.name for sweep in study.sweeps if _differs(client, known[sweep.id], sweep))
    closed = all(run is not None and run.info.end_time for run in known.values())
    if new or not closed:
        _record(client, study, experiment, experiment_id, {key: run for key, run in known.items() if run})
    return Imported(len(new), len(study.trials) - len(new), kept_grids)


def _differs(client: MlflowClient, run: Any | None, sweep: CarriedSweep) -> bool:
    """Whether a parent run has the grid with another plan, other labels or another primary metric."""
    # An import that was cut off may have left one without its grid.
    if run is None or not client.list_artifacts(run.info.run_id):
        return False
    return sweeps.collected(client, run).grid != sweep.grid


def _new(client: MlflowClient, study: Study, experiment: str) -> list[CarriedTrial]:
    """The trials that the experiment has not. Raises UserError for those that it has with other numbers."""
    entry = client.get_experiment_by_name(experiment)
    wanted = {trial.trial for trial in study.trials}
    done = _finished(search(client, entry.experiment_id, runs.DONE)) if entry else {}
    present = {key: _carried(client, run, {}).numbers for key, run in done.items() if key in wanted}
    other = [trial for trial in study.trials if present.get(trial.trial, trial.numbers) != trial.numbers]
    if other:
        raise UserError(
            f"{experiment} has {len(other)} of the {len(study.trials)} trials with other numbers than the file: "
            f"{', '.join(f'{trial.trial} ({trial.name})' for trial in other[:5])}{' ...' if other[5:] else ''}. They ran on "
            f"another kind of machine, or one of the two was changed. Import the file under another name with --experiment, or "
            f"delete the runs in MLflow; nothing was imported."
        )
    return [trial for trial in study.trials if trial.trial not in present]


def _record(client: MlflowClient, study: Study, experiment: str, experiment_id: str, known: Mapping[str, Any]) -> None:
    """Record what is missing, under the leases of the sweeps, so that no driver runs it in the meantime."""
    imported = study.digest
    with ExitStack() as leases:
        parents = {sweep.id: sweeps.restore(client, experiment_id, sweep, imported) for sweep in study.sweeps}
        for parent in parents.values():
            leases.enter_context(lease.held(client, parent))
        # Looked up again under the leases: since the check, a driver may have finished some.
        for trial in _new(client, study, experiment):
            recorder.restore(client, experiment_id, trial, parents.get(trial.sweep), imported)
        done = runs.finished(client, experiment).keys()
        for sweep in study.sweeps:
            complete = done >= {trial.id for trial in carried.trials_of(sweep)}
            # A sweep that was used here was used now; another one when its own store last used it, so that their order stays.
            used_here = sweep.id in known and known[sweep.id].info.end_time
            sweeps.close_sweep(client, parents[sweep.id], complete, None if used_here else sweep.ended)
