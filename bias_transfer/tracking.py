"""Runs in MLflow: the only file that imports it. One parent run a sweep, one run a trial, found again by the trial's id."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow.entities as entities
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.rest_utils import http_request

from bias_transfer.spec import AnalysisPlan, Trial, TrialResult, UserError, digest, parse_trial, unknown

SQLITE = "sqlite:///"
DEFAULT_URI = SQLITE + "mlflow.db"
"""MLflow's own default: `mlflow ui` in the same folder shows it."""

TRIAL, KIND, ERROR, SWEEP = ("bias_transfer." + name for name in ("trial_id", "kind", "error", "sweep_id"))
MEASURES, RESULT, GRID = "measures.parquet", "trial.json", "sweep.json"

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Without it the UI opens on its pages for prompts and traces."""

Primary = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Recorded:
    """A finished run of a trial. While run id and end are the same, so is what it recorded."""

    run_id: str
    trial: str
    ended: int
    """Milliseconds since 1970, by the clock of the machine that ran it."""
    artifacts: str = ""
    """Where MLflow keeps the run's files; empty where it was not asked."""


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


def tracking_uri(given: str | None = None) -> str:
    """The store to use: given, else MLFLOW_TRACKING_URI, else `mlflow.db` in this folder, made absolute."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    return SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute()) if uri.startswith(SQLITE) else uri


def shown(uri: str) -> str:
    """The address without user name, password and options, for messages."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1], query="").geturl() if parts.netloc else uri


def connect(uri: str | None = None, create: bool = False) -> MlflowClient:
    """A client of the store. Raises UserError if it cannot be reached or read, or is a file that is not there (unless
    `create`, which a sweep's driver does once, since many processes at once would break its first migration)."""
    address = tracking_uri(uri)
    if not create and not exists(address):
        raise UserError(
            f"there are no runs yet: no file {address.removeprefix(SQLITE)}. Run python -m bias_transfer.sweep first."
        )
    try:
        with _quiet():
            client = MlflowClient(address)
            client.search_experiments(max_results=1)
    except Exception as error:  # whatever the store's driver raises
        raise UserError(
            f"the MLflow store {shown(address)} cannot be reached ({type(error).__name__}). Allowed: a server's http(s) "
            f"address that answers, or sqlite:///FILE in a folder that can be written; give it by --tracking-uri or "
            f"MLFLOW_TRACKING_URI."
        ) from None
    return client


def exists(uri: str) -> bool:
    """Whether there is a store to read; a server is taken to exist."""
    address = tracking_uri(uri)
    return not address.startswith(SQLITE) or Path(address.removeprefix(SQLITE)).is_file()


def open_experiment(client: MlflowClient, name: str) -> str:
    """The experiment's id; created if it is new. With SQLite its artifacts lie in `mlartifacts` beside the file."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return str(client.create_experiment(name, _artifacts(client.tracking_uri), tags=EXPERIMENT_TAGS))
    if experiment.lifecycle_stage == "deleted":
        raise UserError(f"the experiment {name!r} was deleted in MLflow. Restore it there, or rename the config file.")
    return str(experiment.experiment_id)


def _artifacts(uri: str) -> str | None:
    return (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri() if uri.startswith(SQLITE) else None


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
    found = _search(client, experiment_id, f"tags.`{SWEEP}` = '{sweep_id}'")
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)
    name = f"{experiment} ({len(trials)} trials)"
    run = client.create_run(experiment_id, run_name=name, tags={KIND: "sweep", SWEEP: sweep_id})
    grid = {
        "trials": [trial.model_dump() for trial in trials],
        "primary": primary,
        "plan": plan.model_dump(exclude_defaults=True),
    }
    client.log_dict(run.info.run_id, grid, GRID)
    return str(run.info.run_id)


def attach(client: MlflowClient, run_id: str, files: Sequence[Path], folder: str) -> None:
    """Keep the files with a run, under that folder; those of the same names are replaced."""
    for file in files:
        client.log_artifact(run_id, str(file), folder)


def attached(client: MlflowClient, run_id: str, folder: str) -> list[str]:
    """The names of what is kept with a run under that folder."""
    return [Path(file.path).name for file in client.list_artifacts(run_id, folder)]


def close_sweep(client: MlflowClient, parent: str, complete: bool) -> None:
    """End the parent run: FINISHED when every trial of it is, else FAILED."""
    client.set_terminated(parent, "FINISHED" if complete else "FAILED")


def finished(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Trial id -> run id of the experiment's finished trials."""
    known = client.get_experiment_by_name(experiment)
    return {trial: run.run_id for trial, run in _recorded(client, known.experiment_id).items()} if known else {}


def _recorded(client: MlflowClient, experiment_id: str, known: Collection[Recorded] = ()) -> dict[str, Recorded]:
    """Trial id -> its finished run; of several, the one that ended last. known: see `_changed`."""
    store = client._tracking_client.store
    if hasattr(store, "ManagedSessionMaker"):
        rows = _from_tables(store, experiment_id)
    else:
        rows = _changed(client, experiment_id, known) if known else _listed(client, experiment_id, DONE)
    return {row.trial: row for row in sorted(rows, key=lambda row: (row.ended, row.run_id))}


def _from_tables(store: Any, experiment_id: str) -> list[Recorded]:
    """From a database, the four columns alone: a search brings every parameter, metric and tag of each run (1.4 ms a run)."""
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
    from sqlalchemy import select

    query: Any = select(SqlRun.run_uuid, SqlTag.value, SqlRun.end_time, SqlRun.artifact_uri).join(
        SqlTag, (SqlTag.run_uuid == SqlRun.run_uuid) & (SqlTag.key == TRIAL)
    )
    done: Any = (SqlRun.status == "FINISHED") & (SqlRun.lifecycle_stage == "active")
    with store.ManagedSessionMaker() as session:
        rows = session.execute(query.where((SqlRun.experiment_id == int(experiment_id)) & done)).all()
    return [Recorded(run_id, trial, int(ended), artifacts) for run_id, trial, ended, artifacts in rows]


DONE = f"tags.`{KIND}` = 'trial' AND attributes.status = 'FINISHED'"


def _listed(client: MlflowClient, experiment_id: str, query: str) -> list[Recorded]:
    found = _search(client, experiment_id, query)
    return [
        Recorded(run.info.run_id, run.data.tags[TRIAL], int(run.info.end_time), run.info.artifact_uri) for run in found
    ]


def _changed(client: MlflowClient, experiment_id: str, known: Collection[Recorded]) -> list[Recorded]:
    """From a server, what was known to be finished, less the runs that were deleted or started again since, and those that
    ended since: three small answers in place of one that holds everything.

    A run that ended since on a machine whose clock lags is not seen: who misses a trial asks again, with nothing known.
    """
    later = max(run.ended for run in known)
    new = _listed(client, experiment_id, f"{DONE} AND attributes.end_time >= {later}")
    ids = {run.run_id for run in new}
    gone = [
        *_search(client, experiment_id, f"tags.`{KIND}` = 'trial' AND attributes.status != 'FINISHED'"),
        *_search(client, experiment_id, f"tags.`{KIND}` = 'trial'", entities.ViewType.DELETED_ONLY),
    ]
    ids |= {run.info.run_id for run in gone}
    return [*new, *(run for run in known if run.run_id not in ids)]


def failed(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Trial id -> error of the experiment's failed trials."""
    known = client.get_experiment_by_name(experiment)
    query = f"tags.`{KIND}` = 'trial' AND attributes.status = 'FAILED'"
    runs = _search(client, known.experiment_id, query) if known else []
    return {run.data.tags[TRIAL]: str(run.data.tags.get(ERROR, "no error was recorded")) for run in runs}


def _search(
    client: MlflowClient, experiment_id: str, query: str, view: int = entities.ViewType.ACTIVE_ONLY
) -> list[Any]:
    """All runs that match, newest first."""
    token, runs = None, list[Any]()
    while True:
        page = client.search_runs([experiment_id], query, view, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def start(client: MlflowClient, experiment: str, trial: Trial, parent: str | None = None, name: str = "") -> str:
    """The trial's run, RUNNING: the one that it had before, else a new one. `name`: what the UI shows, if not the trial's
    own. Returns its run id."""
    experiment_id = open_experiment(client, experiment)
    before = _search(client, experiment_id, f"tags.`{TRIAL}` = '{trial.id}'")
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
    runs = _search(client, known.experiment_id, f"tags.`{TRIAL}` = '{trial.id}'") if known else []
    if error:
        fail(client, str(runs[0].info.run_id) if runs else start(client, experiment, trial), error)
    elif runs and runs[0].info.status == "RUNNING":
        client.set_terminated(runs[0].info.run_id, "KILLED")


def headlines(client: MlflowClient, experiment: str, trials: Sequence[Trial]) -> pd.DataFrame:
    """One row a finished trial, in the order of `trials`: what it is, the headline metrics, and its warnings (a tuple)."""
    known = client.get_experiment_by_name(experiment)
    query = f"tags.`{KIND}` = 'trial' AND attributes.status = 'FINISHED'"
    runs = {run.data.tags[TRIAL]: run.data for run in _search(client, known.experiment_id, query)} if known else {}
    return pd.DataFrame([_row(trial, runs[trial.id]) for trial in trials if trial.id in runs])


def _row(trial: Trial, run: Any) -> dict[str, Any]:
    names = ("id", "task", "data", "model", "setting", "upstream", "arm", "seed")
    metrics = {name: value for name, value in run.metrics.items() if not name.startswith("training/")}
    warnings = tuple(text for name, text in sorted(run.tags.items()) if name.startswith("warning."))
    return {name: getattr(trial, name) for name in names} | metrics | {"warnings": warnings}


def long_table(result: TrialResult) -> pd.DataFrame:
    """The long table of a trial's result, with its id: trial, stage, metric, group, template, value, n."""
    frame = pd.DataFrame([asdict(measure) for measure in result.measures])
    frame.insert(0, "trial", result.trial.id)
    return frame


def read(experiment: str, sweep: str | None = None, uri: str | None = None, known: Collection[Recorded] = ()) -> Sweep:
    """The experiment's latest sweep, or the one whose parent run is named by id or name. Raises UserError.

    known: runs of the experiment that were finished at an earlier time; a server then has less to tell (`_changed`).
    """
    client = connect(uri)
    experiment_id, run = _parent(client, experiment, sweep)
    grid = json.loads(artifact(client, run.info.run_id, run.info.artifact_uri, GRID))
    trials = tuple(parse_trial(fields) for fields in grid["trials"])
    ids = [trial.id for trial in trials]
    done = _recorded(client, experiment_id, known)
    if known and not done.keys() >= set(ids):
        done = _recorded(client, experiment_id)
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
    parents = _search(client, known.experiment_id, f"tags.`{KIND}` = 'sweep'")
    chosen = [run for run in parents if sweep in (None, run.info.run_id, run.info.run_name)]
    if not chosen:
        names = [f"{run.info.run_id} ({run.info.run_name})" for run in parents]
        raise UserError(unknown(f"sweep of {experiment}", sweep or "", names))
    return str(known.experiment_id), max(chosen, key=_last_used)


def _last_used(run: Any) -> int:
    return int(run.info.end_time or run.info.start_time)


def artifact(client: MlflowClient, run_id: str, artifacts: str, name: str) -> bytes:
    """A file of a run, read from the disk or by one request to the server, where MLflow's own way takes three.

    artifacts: where the run's files lie (`Recorded.artifacts`). Safe in threads. Raises UserError where it cannot be read.
    """
    scheme = urlsplit(artifacts).scheme
    try:
        if scheme in ("", "file"):
            return Path(local_file_uri_to_path(artifacts), name).read_bytes()
        if scheme == "mlflow-artifacts":
            return _proxied(client, f"{artifacts}/{name}")
        with tempfile.TemporaryDirectory() as folder:
            return Path(client.download_artifacts(run_id, name, folder)).read_bytes()
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


def measures(sweep: Sweep, uri: str | None = None) -> pd.DataFrame:
    """The measures of all finished trials of a sweep, as `long_table` has them, one run after another: `analysis.fetch` does
    it faster for many."""
    client = connect(uri)
    frames = [pd.read_parquet(BytesIO(artifact(client, run.run_id, run.artifacts, MEASURES))) for run in sweep.recorded]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(MEASURE_COLUMNS))


MEASURE_COLUMNS = ("trial", "stage", "metric", "group", "template", "value", "n")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the first migration of a new SQLite file out of the terminal."""
    names = ("mlflow", "alembic", "mlflow.store.db.utils")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
