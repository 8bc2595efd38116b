"""What is written about a run, in one transaction where the store is a SQLite file: a call to MLflow there is up to four, and
each waits for the disk and for other processes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow import MlflowClient
from mlflow.tracking._tracking_service.client import TrackingServiceClient

from bias_transfer.tracking.store import SQLITE


class _Within(TrackingServiceClient):
    """MLflow's client of a store that is given, not looked up."""

    store: Any = None


@contextmanager
def together(client: MlflowClient) -> Iterator[MlflowClient]:
    """A client whose writes are all there when the block ends, or none: with SQLite. With another store, the client itself.

    The write lock is taken at the beginning: who reads first and writes then is refused where another process does the same.
    What MLflow itself commits or takes back meanwhile is a savepoint.
    """
    if not client.tracking_uri.startswith(SQLITE):
        yield client
        return
    from mlflow.store.db.utils import (
        _get_managed_session_maker,
    )  # late, with all of SQLAlchemy: not every command writes
    from sqlalchemy import text
    from sqlalchemy.orm import sessionmaker

    store = client._tracking_client.store
    with store.ManagedSessionMaker(read_only=False) as session:
        session.execute(text("BEGIN IMMEDIATE"))
        part = sessionmaker(bind=session.connection(), join_transaction_mode="create_savepoint")
        own, within = copy.copy(client), _Within(client.tracking_uri)
        within.store = copy.copy(store)
        # by another name than SQLite's, since the connection is set up already: each of its sessions would do it again
        within.store.ManagedSessionMaker = _get_managed_session_maker(part, "within")
        own._tracking_client = within
        yield own
