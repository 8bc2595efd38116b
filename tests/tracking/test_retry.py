"""Which errors pass by themselves, as a real client meets them."""

from __future__ import annotations

import errno
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import text

from bias_transfer.tracking import retry
from bias_transfer.tracking import store as tracking_store
from bias_transfer.errors import UserError


@pytest.fixture
def server(monkeypatch):
    """(its address, the answers that it gives next): after those, 200 and nothing found."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # ours alone
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


def test_a_database_that_restarts_behind_the_server_is_waited_for(server):
    address, answers = server
    answers += [500, 503]
    assert retry.patiently(lambda: ask(address), 60) == 0
    assert answers == []


def test_without_patience_the_first_answer_counts(server):
    address, answers = server
    answers += [503]
    with pytest.raises(MlflowException) as raised:
        retry.patiently(lambda: ask(address), 0)
    assert retry.transient(raised.value)


def test_what_does_not_pass_is_not_waited_for(server):
    address, answers = server
    answers += [403, 503]
    with pytest.raises(MlflowException) as raised:
        retry.patiently(lambda: ask(address), 3600)
    assert not retry.transient(raised.value)
    assert answers == [503]


def test_no_server_is_waited_for(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException) as raised:
        ask("http://127.0.0.1:9")
    assert retry.transient(raised.value)


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/file"), "/data/file"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ""),
        (MlflowException("(sqlite3.OperationalError) database or disk is full"), ""),
        (RuntimeError("No space left on device (os error 28)"), ""),
        (ValueError("no"), None),
    ],
)
def test_a_full_disk_is_seen_through_what_it_caused(error, where):
    told = UserError("the cache cannot be written")
    told.__cause__ = error
    assert retry.full_disk(told) == where
    if where is not None:
        assert not retry.transient(error)


def test_a_row_that_another_process_wrote_just_then_is_tried_again(new_store):
    """As of a data set that two trials are the first to have: the second is no bad request."""
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
