"""Servers of one's own on loopback, for benchmarks and tests: PostgreSQL, and an `mlflow server` before a database."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bias_transfer.errors import UserError

STARTS_WITHIN = 180.0
"""Seconds that a server may take until it answers."""

DEBIAN = "/usr/lib/postgresql"
"""Where Debian keeps PostgreSQL's programs, out of PATH."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_programs() -> Path | None:
    """The folder of `postgres`, `initdb` and `pg_isready`, the newest; None where there is no PostgreSQL."""
    own = shutil.which("postgres")
    found = [*sorted(Path(DEBIAN).glob("*/bin")), *([Path(own).resolve().parent] if own else [])]
    return next((folder for folder in reversed(found) if (folder / "pg_isready").is_file()), None)


@dataclass
class Postgres:
    """A cluster of its own in a folder. Started by root it runs as an unprivileged user, since it refuses root."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """With its password: not for command lines."""
        return f"postgresql+psycopg2://runs:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Until it takes connections. Raises UserError."""
        programs = postgres_programs()
        if programs is None:
            raise UserError("no PostgreSQL on this machine: install it (Debian, Ubuntu: apt install postgresql)")
        data = self.folder / "data"
        if not data.exists():
            self._init(programs, data)
        words = [f"{programs}/postgres", "-D", str(data), "-k", str(self.folder), "-c", "max_connections=200"]
        address = ["-h", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "postgres.log").open("ab") as log:
            process = subprocess.Popen([*words, *address], stdout=log, stderr=log, start_new_session=True, **_user())
        self.process, begun = process, time.monotonic()
        while subprocess.run([f"{programs}/pg_isready", "-q", *address], check=False).returncode:
            if process.poll() is not None or time.monotonic() - begun > STARTS_WITHIN:
                raise UserError("PostgreSQL did not start:\n" + (self.folder / "postgres.log").read_text()[-2000:])
            time.sleep(0.2)

    def _init(self, programs: Path, data: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        secret = self.folder / "password"
        secret.touch(0o600)
        secret.write_text(self.password)
        if user := _user():
            for path in (self.folder, secret):
                shutil.chown(path, user["user"])
        words = [f"{programs}/initdb", "-D", str(data), "-U", "runs", "--auth=scram-sha-256", f"--pwfile={secret}"]
        subprocess.run([*words, "--no-sync", "-E", "UTF8"], check=True, capture_output=True, **user)
        secret.unlink()

    def stop(self, how: int = signal.SIGINT) -> None:
        """SIGINT: connections are cut and what was committed is kept; SIGQUIT: as after a crash."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(60)


def _user() -> dict[str, Any]:
    if os.geteuid():
        return {}
    name = next(user.pw_name for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A running PostgreSQL, in a folder that an unprivileged user can reach; stopped at the end."""
    server = Postgres(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class MlflowServer:
    """An `mlflow server` on loopback with its artifacts in a folder."""

    folder: Path
    backend: str
    """The database's URI; it goes by the environment, as it may hold a password."""
    port: int = field(default_factory=free_port)
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Until it answers. Raises UserError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--artifacts-destination", str(self.folder / "mlartifacts")]
        own = {**os.environ, "MLFLOW_BACKEND_STORE_URI": self.backend, **self.environment}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words], stdout=log, stderr=log, start_new_session=True, env=own
            )
        begun = time.monotonic()
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() - begun > STARTS_WITHIN:
                raise UserError("the MLflow server did not start:\n" + (self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.5)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
            return True
        return False

    def send(self, number: int) -> None:
        """To the server and its workers: the session is its own."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def stop(self, how: int = signal.SIGTERM) -> None:
        """And wait for its end."""
        self.send(how)
        if self.process:
            self.process.wait(60)


@contextlib.contextmanager
def mlflow_server(folder: Path, backend: str) -> Iterator[MlflowServer]:
    """A running server; stopped at the end."""
    server = MlflowServer(folder, backend)
    server.start()
    try:
        yield server
    finally:
        server.stop()
