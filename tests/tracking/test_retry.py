"""Which errors are retried: those that pass by themselves, as MLflow's own client raises them."""

from __future__ import annotations

import errno
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import text

from bias_transfer.errors import UserError
from bias_transfer.tracking import retry
from bias_transfer.tracking import store as tracking_store


@pytest.fixture
def server(monkeypatch):
    """(address, statuses of the next answers) of a server that answers 200 and nothing found after those."""
    monkeypatch.setenv(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"
    )  # MLflow's own retries off: only the project's are tested
    answers = list[int]()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status = answers.pop(0) if answers else 200
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"{}" if status == 200 else b"no")

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", answers
        serving.shutdown()
        thread.join()


def ask(address: str) -> int:
    return len(tracking_store.client_of(address).search_experiments())


def test_a_restart_of_the_servers_database_is_waited_for(server):
    address, answers = server
    answers += [500, 503]
    assert retry.patiently(lambda: ask(address), 60) == 0
    assert answers == []


def test_without_patience_the_first_error_is_raised(server):
    address, answers = server
    answers += [503]
    with pytest.raises(MlflowException) as raised:
        retry.patiently(lambda: ask(address), 0)
    assert retry.transient(raised.value)


def test_a_permanent_error_is_not_retried(server):
    address, answers = server
    answers += [403, 503]
    with pytest.raises(MlflowException) as raised:
        retry.patiently(lambda: ask(address), 3600)
    assert not retry.transient(raised.value)
    assert answers == [503]


def test_a_refused_connection_is_transient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException) as raised:
        ask("http://127.0.0.1:9")
    assert retry.transient(raised.value)


@pytest.mark.parametrize(
    ("error", "file"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/file"), "/data/file"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ""),
        (MlflowException("(sqlite3.OperationalError) database or disk is full"), ""),
        (RuntimeError("No space left on device (os error 28)"), ""),
        (ValueError("no"), None),
    ],
)
def test_a_full_disk_is_recognised_as_the_cause_of_another_error(error, file):
    caused = UserError("the cache cannot be written")
    caused.__cause__ = error
    assert retry.full_disk(caused) == file
    if file is not None:
        assert not retry.transient(error)


def test_a_row_that_another_process_inserted_at_the_same_moment_is_retried(new_store):
    """For example, a data set that two trials are the first to use."""
    store = tracking_store.connect(new_store)._tracking_client.store
    add = text("INSERT INTO registered_models (name, creation_time, last_updated_time) VALUES ('one', 0, 0)")

    def write(statement):
        with store.ManagedSessionMaker(read_only=False) as session:
            session.execute(statement)

    write(add)
    with pytest.raises(MlflowException, match="UNIQUE") as raised:
        write(add)
    assert retry.transient(raised.value)
    with pytest.raises(MlflowException, match="NOT NULL") as raised:
        write(text("INSERT INTO registered_models (name) VALUES (NULL)"))
    assert not retry.transient(raised.value)
