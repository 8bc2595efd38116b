"""The MLflow store: where it is, a client of it, its experiments, and the names that runs carry."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mlflow.entities as entities
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from bias_transfer.errors import UserError

SQLITE = "sqlite:///"

DEFAULT_URI = SQLITE + "mlflow.db"
"""MLflow's own default: `mlflow ui` in the same folder shows it."""

TRIAL, KIND, ERROR, SWEEP = ("bias_transfer." + name for name in ("trial_id", "kind", "error", "sweep_id"))

MEASURES, RESULT, GRID = "measures.parquet", "trial.json", "sweep.json"

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Without it the UI opens on its pages for prompts and traces."""


def tracking_uri(given: str | None = None) -> str:
    """The store to use: given, else MLFLOW_TRACKING_URI, else `mlflow.db` in this folder, made absolute."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    return SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute()) if uri.startswith(SQLITE) else uri


def shown(uri: str) -> str:
    """The address without user name, password and options, for messages."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1], query="").geturl() if parts.netloc else uri


def option(uri: str) -> str:
    """The words that name the store to a command, nothing where it finds the store by itself."""
    return f" --tracking-uri {shown(uri)}" if uri != tracking_uri() else ""


def _signed_in(uri: str) -> str:
    """A server's address without user name and password, which MLflow takes from variables of its own: its errors name the
    address that they were met at, and errors are recorded."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl()


def connect(uri: str | None = None, create: bool = False) -> MlflowClient:
    """A client of the store. Raises UserError if it cannot be reached or read, or is a file that is not there (unless
    `create`, which a sweep's driver does once, since many processes at once would break its first migration)."""
    address = tracking_uri(uri)
    if not create and not exists(address):
        raise UserError(
            f"there are no runs yet: no file {address.removeprefix(SQLITE)}. Run python -m bias_transfer.sweep first."
        )
    try:
        with _quiet(), _alone(address):
            client = MlflowClient(_signed_in(address))
            client.search_experiments(max_results=1)
    except Exception as error:  # whatever the store's driver raises
        raise UserError(
            f"the MLflow store {shown(address)} cannot be reached ({type(error).__name__}). Allowed: a server's http(s) "
            f"address that answers, or sqlite:///FILE in a folder that can be written; give it by --tracking-uri or "
            f"MLFLOW_TRACKING_URI."
        ) from None
    return client


def client_of(uri: str) -> MlflowClient:
    """A client of a store that may be away: what asks it then raises."""
    return MlflowClient(_signed_in(tracking_uri(uri)))


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time makes a new SQLite file, and who only reads waits for it: two would break its first migration."""
    lock = Path(uri.removeprefix(SQLITE) + ".lock")
    if not uri.startswith(SQLITE) or (exists(uri) and not lock.exists()):
        yield
        return
    with FileLock(lock):
        yield
    with suppress(OSError):
        lock.unlink()


def exists(uri: str) -> bool:
    """Whether there is a store to read; a server is taken to exist."""
    address = tracking_uri(uri)
    return not address.startswith(SQLITE) or Path(address.removeprefix(SQLITE)).is_file()


def open_experiment(client: MlflowClient, name: str) -> str:
    """The experiment's id; created if it is new. With SQLite its artifacts lie in `mlartifacts` beside the file."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name, _artifacts(client.tracking_uri), tags=EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return open_experiment(client, name)  # another process was faster
    if experiment.lifecycle_stage == "deleted":
        raise UserError(f"the experiment {name!r} was deleted in MLflow. Restore it there, or rename the config file.")
    return str(experiment.experiment_id)


def _artifacts(uri: str) -> str | None:
    return (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri() if uri.startswith(SQLITE) else None


def search(
    client: MlflowClient, experiment_id: str, query: str, view: int = entities.ViewType.ACTIVE_ONLY
) -> list[Any]:
    """All runs that match, newest first."""
    return [*searched(client, experiment_id, query, view)]


def searched(
    client: MlflowClient, experiment_id: str, query: str, view: int = entities.ViewType.ACTIVE_ONLY
) -> Iterator[Any]:
    """As `search`, a page at a time: a run takes some 100 kB of memory."""
    token = None
    while True:
        page = client.search_runs([experiment_id], query, view, max_results=500, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


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
