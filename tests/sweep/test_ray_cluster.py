"""The cluster that a sweep joins, one that does not answer, and the token of a Ray that is started here."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bias_transfer.console import application
from bias_transfer.errors import UserError
from bias_transfer.sweep import __main__ as sweep_command
from bias_transfer.sweep import ray_cluster

CONFIG = """
defaults: {task: wiki, data: {name: synthetic, size: 200, pretraining_sentences: 300}, model: {name: tiny, steps: 5}}
grid: [{upstream: none}]
"""


@pytest.fixture
def closed() -> str:
    """HOST:PORT of this machine at which nothing listens."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{own.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "own", "found"),
    [
        (None, None, None), ("", "", None), ("local", "h:1", None), (None, "local", None), ("auto", None, "auto"),
        ("auto", "h:1", "h:1"), (None, "h:1", "h:1"), ("h:2", "h:1", "h:2"),
    ],
)  # fmt: skip
def test_the_address_is_the_one_that_ray_would_take(monkeypatch, given, own, found):
    if own is not None:
        monkeypatch.setenv("RAY_ADDRESS", own)
    assert ray_cluster.cluster_address(given) == found


@pytest.mark.parametrize("how", ["--address", "RAY_ADDRESS"])
def test_a_cluster_that_does_not_answer_is_one_paragraph_before_anything_runs(tmp_path, monkeypatch, closed, how):
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sweep_command, "check_all", lambda trials: pytest.fail("trials were checked before the address")
    )
    if how == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", closed)
    words = [] if how == "RAY_ADDRESS" else ["--address", closed]
    begun = time.monotonic()
    ended = CliRunner().invoke(
        application(sweep_command.main), ["small.yaml", "--tracking-uri", f"sqlite:///{tmp_path}/m.db", *words]
    )
    assert time.monotonic() - begun < 60, "it waited for what does not answer"
    assert ended.exit_code == 2, ended.output
    for told in (
        f"no Ray cluster can be joined at {how} {closed} (",
        "refused",
        "`auto`",
        "HOST:PORT",
        "--cluster FILE",
    ):
        assert told in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "m.db").exists()


@pytest.mark.parametrize("address", ["nowhere", "host:port", "http://host:1", ":", "host:99999", "ray://h:1", "auto"])
def test_what_is_no_address_says_what_is(monkeypatch, address):
    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    with pytest.raises(UserError, match=r"no Ray cluster can be joined at --address .*`auto`"):
        ray_cluster.check_address(address)


def test_what_is_left_of_a_cluster_that_is_gone_is_not_waited_for(monkeypatch, closed):
    from ray._private import services

    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: closed)
    with pytest.raises(UserError, match=r"--address auto \(.*refused"):
        ray_cluster.check_address("auto")


def test_a_cluster_that_answers_is_joined():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ray_cluster.check_answers("auto", lambda given: f"127.0.0.1:{server.getsockname()[1]}")


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_the_token_is_the_users_alone_and_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    own = os.umask(0o022)
    try:
        makers = [threading.Thread(target=ray_cluster.own_token) for _ in range(8)]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
    finally:
        os.umask(own)
    folder = tmp_path / ".ray"
    token = (folder / "auth_token").read_text()
    assert len(token) == 64
    assert [path.name for path in folder.iterdir()] == ["auth_token"]
    assert (mode(folder), mode(folder / "auth_token")) == ("0o700", "0o600")
    folder.chmod(0o755)
    (folder / "auth_token").chmod(0o644)  # as Ray writes it
    ray_cluster.own_token()
    assert (mode(folder), mode(folder / "auth_token")) == ("0o700", "0o600")
    assert (folder / "auth_token").read_text() == token


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_no_token_is_made_where_another_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, "x")
    ray_cluster.own_token()
    assert not [*tmp_path.iterdir()]


START = """
from bias_transfer.errors import UserError
from bias_transfer.sweep.ray_cluster import running_ray
try:
    with running_ray(None):
        pass
except UserError as error:
    print(error)
"""


def test_a_ray_that_does_not_start_is_one_paragraph(tmp_path):
    """For real: its first part has no time at all. By then it has found the token that was made for it."""
    with tempfile.TemporaryDirectory(prefix="bt-") as short:  # a socket's path has at most 107 characters
        own = {"RAY_TMPDIR": short, "RAY_gcs_server_port_wait_time_s": "0", "HOME": str(tmp_path)}
        command = [sys.executable, "-c", START]
        ended = subprocess.run(
            command, env={**os.environ, **own}, capture_output=True, text=True, check=True, umask=0o022
        )
    (told,) = ended.stdout.splitlines()
    assert re.match(r"Ray did not start on this machine: Timed out .*load \d+ on .*GB free.*--address", told), told
    assert "Traceback" not in ended.stderr
    assert (mode(tmp_path / ".ray"), mode(tmp_path / ".ray" / "auth_token")) == ("0o700", "0o600")


def test_its_parts_have_longer_than_ray_gives_them():
    assert {
        ray_cluster.QUIET[name] for name in ("RAY_gcs_server_port_wait_time_s", "RAY_raylet_start_wait_time_s")
    } == {str(ray_cluster.STARTING)}


def test_without_an_autoscaler_a_trial_may_ask_for_what_is_there(tmp_path):
    assert ray_cluster.offered(lambda: {"CPU": 2.0, "node:a": 1.0}, tmp_path / "none") == {"CPU": 2.0, "GPU": 0.0}


def test_a_machine_that_can_be_added_counts(tmp_path: Path):
    """On AWS there may be no worker yet when the sweep starts."""
    file = tmp_path / "bootstrap.yaml"
    file.write_text(
        "available_node_types:\n  head: {max_workers: 0, resources: {CPU: 96}}\n"
        "  worker: {min_workers: 2, max_workers: 4, resources: {CPU: 4, GPU: 1, memory: 100}}\n"
    )
    assert ray_cluster.offered(lambda: {"node:a": 1.0}, file) == {"CPU": 4.0, "GPU": 1.0}


def test_machines_of_ones_own_are_waited_for(tmp_path: Path, monkeypatch):
    file = tmp_path / "bootstrap.yaml"
    file.write_text("available_node_types: {local: {min_workers: 1, max_workers: 1, resources: {}}}\n")
    monkeypatch.setattr(ray_cluster.time, "sleep", lambda seconds: None)
    joined = [{"node:a": 1.0, "node:__internal_head__": 1.0}, {"node:a": 1.0, "node:b": 1.0, "CPU": 2.0}]
    assert ray_cluster.offered(lambda: joined.pop(0), file) == {"CPU": 2.0, "GPU": 0.0}
    assert joined == []


def test_but_not_for_ever(tmp_path: Path):
    file = tmp_path / "bootstrap.yaml"
    file.write_text("available_node_types: {local: {min_workers: 1, max_workers: 1, resources: {}}}\n")
    assert ray_cluster.offered(lambda: {"node:a": 1.0, "CPU": 1.0}, file, patience=0) == {"CPU": 1.0, "GPU": 0.0}
