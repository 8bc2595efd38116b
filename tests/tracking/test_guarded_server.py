"""MLflow's server for the machines of one job: the token alone opens it, and its runs are in the file afterwards."""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from bias_transfer.tracking import guarded_server, store

TOKEN = "0123456789abcdef"
PATHS = (
    "/",
    "/health",
    "/version",
    "/api/2.0/mlflow/experiments/search?max_results=1",
    "/ajax-api/3.0/jobs/x",
    "/docs",
)


def ask(headers: list[tuple[bytes, bytes]], kind: str = "http") -> list[str]:
    """What a guarded application that answers "inside" sends."""
    sent: list[str] = []

    async def inside(scope, receive, send):
        sent.append("inside")

    async def send(message):
        sent.append(str(message.get("status", message.get("code", ""))))

    guarded = guarded_server.guarded(inside, TOKEN)
    asyncio.run(guarded({"type": kind, "headers": headers}, inside, send))
    return sent


def test_the_guard_lets_in_the_token_alone():
    bearer = (b"authorization", f"Bearer {TOKEN}".encode())
    assert ask([bearer]) == ["inside"]
    assert ask([], "lifespan") == ["inside"]
    other = (b"authorization", b"Bearer no")
    for headers in ([], [other], [other, bearer], [(b"authorization", TOKEN.encode())]):
        assert ask(headers) == ["401", ""]
        assert ask(headers, "websocket") == ["1008"]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Path, int]]:
    """(the file, the port)"""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    words = [sys.executable, "-m", "bias_transfer.tracking.guarded_server", str(file), "127.0.0.1"]
    environment = {**os.environ, guarded_server.TOKEN: TOKEN}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    port = int(process.stdout.readline().split()[-1])
    yield file, port
    process.terminate()  # as all processes of a job, whose driver still records
    assert status(port, "/health", Authorization=f"Bearer {TOKEN}") == 200
    process.communicate(timeout=60)  # closes standard input
    assert process.returncode == 0


def status(port: int, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


@pytest.mark.long
@pytest.mark.parametrize("path", PATHS)
def test_nothing_answers_without_the_token(served, path):
    _, port = served
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Cookie": f"token={TOKEN}"}):
        assert status(port, path, **headers) == 401


@pytest.mark.long
def test_the_token_opens_it_for_the_host_that_it_serves_alone(served):
    _, port = served
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert status(port, "/health", **known) == 200
    assert status(port, PATHS[3], **known) == 200
    assert status(port, PATHS[3], **known, Host="elsewhere.example") == 403


@pytest.mark.long
def test_runs_and_artifacts_are_read_from_the_file_afterwards(served, monkeypatch, tmp_path):
    file, port = served
    monkeypatch.setenv(guarded_server.TOKEN, TOKEN)
    client = store.connect(f"http://127.0.0.1:{port}")
    run = client.create_run(store.open_experiment(client, "small")).info.run_id
    client.log_text(run, "kept", "note.txt")
    plain = MlflowClient(store.SQLITE + str(file))
    assert plain.get_run(run).info.artifact_uri.startswith(store.artifacts_of(file))
    assert Path(plain.download_artifacts(run, "note.txt", str(tmp_path))).read_text() == "kept"


@pytest.mark.long
def test_the_names_of_settings_are_mlflows():
    from mlflow.server import constants

    names = {constants.BACKEND_STORE_URI_ENV_VAR, constants.ARTIFACT_ROOT_ENV_VAR}
    assert names <= guarded_server.settings(Path("/f"), "a:1").keys()
