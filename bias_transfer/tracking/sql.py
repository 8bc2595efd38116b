"""Read and write MLflow's database directly, where the tracking URI is one. This module is the only one that uses MLflow's
private API (its table models, its store object, its session maker), and has to follow when MLflow changes it.

Reading: MLflow's own search returns every parameter, metric and tag of a run, 1.4 ms per run and 15 ms per query; here a few
columns are selected. Writing: `together` records a result in one transaction.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow import MlflowClient
from mlflow.tracking._tracking_service.client import TrackingServiceClient

from bias_transfer.tracking.store import SQLITE, TRIAL


def database(client: MlflowClient) -> Any:
    """MLflow's store object, if this process accesses the database itself; None if it asks a server."""
    store = client._tracking_client.store
    return store if hasattr(store, "ManagedSessionMaker") else None


def finished_runs(store: Any, experiment_id: str) -> list[tuple[str, str, int, str]]:
    """(run id, trial id, end in milliseconds since 1970, artifact URI) of each finished run of a trial."""
    run, tag = _tables()
    done = (run.experiment_id == int(experiment_id)) & (run.status == "FINISHED") & (run.lifecycle_stage == "active")
    rows = _rows(store, (run.run_uuid, tag.value, run.end_time, run.artifact_uri), done & _of_trial(run, tag))
    return [(run_id, trial, int(ended), artifacts) for run_id, trial, ended, artifacts in rows]


def has_run(store: Any, experiment_id: str, trial_id: str) -> bool:
    """Whether the trial has a run in the experiment, in whatever state."""
    run, tag = _tables()
    matches = (run.experiment_id == int(experiment_id)) & (tag.value == trial_id)
    return bool(_rows(store, (run.run_uuid,), matches & _of_trial(run, tag)))


def artifacts_of(store: Any, run_id: str) -> str | None:
    """The artifact URI of a run; None if there is no such run."""
    run, _ = _tables()
    rows = _rows(store, (run.artifact_uri,), run.run_uuid == run_id)
    return str(rows[0][0]) if rows else None


def _tables() -> Any:
    # Imported late: it loads SQLAlchemy, which commands that talk to a server never need.
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag

    return SqlRun, SqlTag


def _of_trial(run: Any, tag: Any) -> Any:
    return (tag.run_uuid == run.run_uuid) & (tag.key == TRIAL)


def _rows(store: Any, columns: Any, where: Any) -> Any:
    from sqlalchemy import select

    with store.ManagedSessionMaker() as session:
        return session.execute(select(*columns).where(where)).all()


class _Within(TrackingServiceClient):
    """MLflow's client with a store that is set, instead of one that it looks up by URI."""

    store: Any = None


@contextmanager
def together(client: MlflowClient) -> Iterator[MlflowClient]:
    """A client whose writes are committed together when the block ends, or not at all, if the tracking URI is SQLite's. For
    other URIs, the client itself.

    What MLflow commits or rolls back in the meantime is a savepoint of that transaction.
    """
    if not client.tracking_uri.startswith(SQLITE):
        yield client
        return
    from mlflow.store.db.utils import _get_managed_session_maker
    from sqlalchemy import text
    from sqlalchemy.orm import sessionmaker

    store = client._tracking_client.store
    with store.ManagedSessionMaker(read_only=False) as session:
        # IMMEDIATE takes the write lock at once. SQLite refuses a transaction that begins by reading and then wants to write
        # when another process has done the same.
        session.execute(text("BEGIN IMMEDIATE"))
        part = sessionmaker(bind=session.connection(), join_transaction_mode="create_savepoint")
        writer, within = copy.copy(client), _Within(client.tracking_uri)
        within.store = copy.copy(store)
        # Not under SQLite's name: MLflow would then run its PRAGMAs in each session, and the connection has them already.
        within.store.ManagedSessionMaker = _get_managed_session_maker(part, "within")
        writer._tracking_client = within
        yield writer
