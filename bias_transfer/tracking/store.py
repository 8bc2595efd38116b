"""Connect to MLflow: the tracking URI, a client, its experiments, and the names of the project's tags and artifacts."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import mlflow.entities as entities
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

from bias_transfer.console import redacted
from bias_transfer.errors import UserError
from bias_transfer.tracking.retry import patiently

SQLITE = "sqlite:///"

DEFAULT_URI = SQLITE + "mlflow.db"
"""MLflow's own default: `mlflow ui` in the same folder shows it."""

TRIAL, KIND, ERROR, SWEEP = ("bias_transfer." + name for name in ("trial_id", "kind", "error", "sweep_id"))

COMMAND = "bias_transfer.command"
"""Tag of a sweep's parent run: what starts the sweep again."""

MACHINE = "bias_transfer.machine"
"""Tag of the fingerprint of the machine that ran a trial."""

IMPORTED = "bias_transfer.imported"
"""Tag of a run that was imported: the digest of the file's content."""

VERSION = "version."
"""Prefix of the facts and tags that hold a package's version."""

MANAGING = ("python", "ray", "mlflow")
"""Those of them whose version does not change a number."""

MEASURES, RESULT, GRID = "measures.parquet", "trial.json", "sweep.json"

PREDICTIONS = "predictions.parquet"
"""The artifact of a run whose predictions were kept."""

KEPT = "bias_transfer.predictions"
"""Tag of such a run: the size of the artifact in bytes."""

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Without this tag MLflow's UI opens on its pages for prompts and traces."""


@functools.lru_cache(maxsize=1)
def source() -> dict[str, str]:
    """Tags that say what made a run: this program and, where it runs from a checkout, its commit."""
    from mlflow.utils.git_utils import get_git_commit  # late: it loads GitPython

    tags = {MLFLOW_SOURCE_NAME: "bias-transfer", MLFLOW_SOURCE_TYPE: "LOCAL"}
    # An installed package may lie within another project's checkout, whose commit says nothing of it.
    root = Path(__file__).parents[2]
    commit = get_git_commit(str(root)) if (root / ".git").exists() else None
    return {**tags, MLFLOW_GIT_COMMIT: commit} if commit else tags


def tracking_uri(given: str | None = None) -> str:
    """The tracking URI: `given`, else MLFLOW_TRACKING_URI, else `mlflow.db` in this folder. SQLite's path is made absolute."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    return SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute()) if uri.startswith(SQLITE) else uri


def option(uri: str) -> str:
    """The option that gives a command this tracking URI; empty if it is the command's default."""
    return f" --tracking-uri {redacted(uri)}" if uri != tracking_uri() else ""


def _signed_in(uri: str) -> str:
    """Move the user name and password of a server's URI into MLflow's environment variables, and return the URI without them.

    MLflow's errors name the URI, and the project records errors and prints them.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl()


def connect(uri: str | None = None, create: bool = False) -> MlflowClient:
    """A client of MLflow. Raises UserError if MLflow is unreachable, or is a SQLite file that does not exist.

    create: make a missing SQLite file. The sweep's driver does so once, before its workers start, since several processes
    at once would break the first migration.
    """
    address = tracking_uri(uri)
    if not create and not exists(address):
        raise UserError(
            f"there are no runs yet: {address.removeprefix(SQLITE)} does not exist. Run bias-transfer sweep "
            f"first, or give another MLflow by --tracking-uri."
        )
    try:
        with _quiet(), _alone(address):
            client = MlflowClient(_signed_in(address))
            client.search_experiments(max_results=1)
    except Exception as error:  # each database driver raises its own
        raise UserError(
            f"MLflow at {redacted(address)} is unreachable ({type(error).__name__}). Allowed: the http(s) address of a running "
            f"server, or sqlite:///FILE in a writable folder; set it by --tracking-uri or MLFLOW_TRACKING_URI."
        ) from None
    return client


def client_of(uri: str) -> MlflowClient:
    """A client of MLflow, without trying to connect: its first request raises if MLflow is unreachable."""
    return MlflowClient(_signed_in(tracking_uri(uri)))


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Let one process at a time create a new SQLite file; a process that only reads waits for it too. Two at once would
    break the first migration."""
    lock = Path(uri.removeprefix(SQLITE) + ".lock")
    if not uri.startswith(SQLITE) or (exists(uri) and not lock.exists()):
        yield
        return
    with FileLock(lock):
        yield
    with suppress(OSError):
        lock.unlink()


def exists(uri: str) -> bool:
    """Whether there is an MLflow to read from: a SQLite file must exist; a server is assumed to."""
    address = tracking_uri(uri)
    return not address.startswith(SQLITE) or Path(address.removeprefix(SQLITE)).is_file()


def open_experiment(client: MlflowClient, name: str) -> str:
    """The experiment's id; the experiment is created if it is new. With SQLite, its artifacts are stored in the folder
    `mlartifacts` next to the file. Raises UserError for a deleted experiment."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, _artifacts(client.tracking_uri), tags=EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return open_experiment(client, name)  # another process created it in the meantime
    if experiment.lifecycle_stage == "deleted":
        raise UserError(f"the experiment {name!r} was deleted in MLflow. Restore it there, or rename the config file.")
    return str(experiment.experiment_id)


def _artifacts(uri: str) -> str | None:
    return artifacts_of(Path(uri.removeprefix(SQLITE))) if uri.startswith(SQLITE) else None


def artifacts_of(file: Path) -> str:
    """The URI of the folder `mlartifacts` next to a SQLite file."""
    return (file.parent / "mlartifacts").as_uri()


def check_artifacts(client: MlflowClient, experiment: str, patience: float = 0.0) -> None:
    """Write a small file where the experiment's artifacts are stored, and delete it. Raises UserError if that fails.

    Without artifacts no result can be recorded, and a sweep would learn so from its first finished trial. patience: seconds in
    which an error that may pass by itself is tried again.
    """
    place = str(client.get_experiment(open_experiment(client, experiment)).artifact_location)
    local = urlsplit(place).scheme in ("", "file")
    try:
        patiently(lambda: _write_and_delete(place, client.tracking_uri), 0.0 if local else patience)
    except Exception as error:  # each kind of storage raises its own
        raise UserError(
            f"the artifacts of the experiment {experiment!r} cannot be written to {redacted(place)} "
            f"({type(error).__name__}), so no result could be recorded. Give this machine the rights or credentials for it, or "
            "use another experiment, or another MLflow (--tracking-uri)."
        ) from None


def _write_and_delete(place: str, uri: str) -> None:
    name = f"writable-{uuid4().hex}.txt"
    repository = get_artifact_repository(place, tracking_uri=uri)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text("Written to find out whether artifacts can be stored here. It can be deleted.")
        repository.log_artifact(str(file))
    with suppress(Exception):  # not every kind of storage can delete
        repository.delete_artifacts(name)


def search(
    client: MlflowClient, experiment_id: str, query: str, view: int = entities.ViewType.ACTIVE_ONLY
) -> list[Any]:
    """All runs that match the query, newest first."""
    return [*searched(client, experiment_id, query, view)]


def searched(
    client: MlflowClient, experiment_id: str, query: str, view: int = entities.ViewType.ACTIVE_ONLY
) -> Iterator[Any]:
    """As `search`, page by page: a run takes about 100 kB of memory."""
    token = None
    while True:
        page = client.search_runs([experiment_id], query, view, max_results=500, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages of a new SQLite file's first migration."""
    names = ("mlflow", "alembic", "mlflow.store.db.utils")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
