"""MLflow becomes unreachable, for a while or for good, and disks are full."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.servers import MlflowServer, Postgres, postgres_programs

pytestmark = pytest.mark.faults
PENDING = 4
"""Exit status of a sweep with results in the outbox."""


@pytest.fixture
def server(case, tmp_path: Path) -> Iterator[MlflowServer]:
    """An MLflow server on SQLite, which the case uses."""
    mlflow = MlflowServer(tmp_path / "server", f"sqlite:///{tmp_path / 'server.db'}")
    mlflow.start()
    case.uri = mlflow.uri
    try:
        yield mlflow
    finally:
        mlflow.stop(signal.SIGKILL)


def test_a_tracking_server_that_hangs_for_a_while(case, server, judge):
    driver = case.start()
    case.wait(lambda: len(case.finished()) >= 1 and case.in_training())
    before, cut = case.finished(), set()
    server.send(signal.SIGSTOP)
    time.sleep(40)  # longer than a request's timeout
    server.send(signal.SIGCONT)
    driver.end()
    judge(case, "tracking server hangs for 40 s", "SIGSTOP to the server and its workers, then SIGCONT", before, cut)


def test_a_tracking_server_that_is_killed_and_comes_back(case, server, judge):
    driver = case.start()
    case.wait(lambda: len(case.finished()) >= 1 and case.in_training())
    before, cut = case.finished(), set()
    server.stop(signal.SIGKILL)
    time.sleep(20)
    server.start()
    driver.end()
    judge(case, "tracking server down for 20 s", "SIGKILL to the server and its workers, then started", before, cut)


def test_a_tracking_server_that_is_gone_for_good(case, server, judge, tmp_path: Path):
    """The results wait in the outbox and are sent to a new server."""
    driver = case.start("--patience", "5")
    case.wait(case.in_training)
    server.stop(signal.SIGKILL)
    assert "bias-transfer sync" in driver.end(status=PENDING)
    new = MlflowServer(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    new.start()
    try:
        case.uri = new.uri
        sent = case.run("bias_transfer", "sync")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        case.start().end()
        judge(case, "tracking server gone for good, a new one in its place",
              "SIGKILL before the first trial ends; a server on an empty database; bias-transfer sync",
              {}, set())  # fmt: skip
    finally:
        new.stop(signal.SIGKILL)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user can reach. It is not below pytest's own, which pytest closes to other users."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(postgres_programs() is None, reason="no PostgreSQL on this machine")
def test_a_database_that_restarts(case, judge, open_folder: Path):
    folder = open_folder
    database = Postgres(folder / "own")
    database.start()
    server = MlflowServer(folder / "server", database.uri)
    try:
        server.start()
        case.uri = server.uri
        driver = case.start()
        case.wait(lambda: len(case.finished()) >= 1 and case.in_training())
        before = case.finished()
        for how in (signal.SIGINT, signal.SIGQUIT):
            database.stop(how)
            time.sleep(5)
            database.start()
            time.sleep(3)
        driver.end()
        judge(case, "PostgreSQL restarted twice during the sweep", "SIGINT (connections cut), then SIGQUIT (as after a crash)",
              before, set())  # fmt: skip
    finally:
        server.stop(signal.SIGKILL)
        database.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, left: int = 0) -> Path:
    """Fill the folder's disk but for `left` bytes. Returns the file that does."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as opened, contextlib.suppress(OSError):  # the sweep writes too
        while os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize > left:
            opened.write(bytes(4096))
    return file


def test_a_full_disk_under_the_store(case, judge, small_disk: Path):
    """SQLite and its artifacts cannot be written; the cache, and with it the outbox, is on another disk."""
    case.uri = f"sqlite:///{small_disk / 'mlflow.db'}"
    driver = case.start("--patience", "5")
    case.wait(lambda: len(case.finished()) >= 1 and case.in_training())
    before = case.finished()
    filler = fill(small_disk)
    assert "full" in driver.end(status=PENDING)
    filler.unlink()
    sent = case.run("bias_transfer", "sync")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    case.start().end()
    judge(case, "disk of MLflow full", "a file that fills MLflow's tmpfs during the sweep; then removed, and sync",
          before, set())  # fmt: skip


def test_a_full_disk_under_the_cache(case, judge, small_disk: Path):
    """The model that all trials share cannot be cached: each trial reports it and leaves nothing half written."""
    case.environment["BIAS_TRANSFER_CACHE"] = str(small_disk / "cache")
    (small_disk / "cache").mkdir()
    filler = fill(small_disk, left=100_000)
    first = case.start()
    output = first.end(status=1)
    assert "full" in output
    assert "Traceback" not in output
    assert not case.finished()
    filler.unlink()
    case.start().end()
    judge(case, "disk of the cache full", "a tmpfs with 100 kB left; then room, and the sweep started again", {},
          {*first.events("started")})  # fmt: skip
