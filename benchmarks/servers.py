"""Start private servers on loopback for benchmarks and tests: PostgreSQL, and an `mlflow server` on a database."""

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
"""Seconds within which a server must answer."""

DEBIAN = "/usr/lib/postgresql"
"""Where Debian installs PostgreSQL's programs, which are not in PATH."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing is listening at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_programs() -> Path | None:
    """The folder with `postgres`, `initdb` and `pg_isready` (PATH's, else Debian's newest); None without PostgreSQL."""
    in_path = shutil.which("postgres")
    folders = [*sorted(Path(DEBIAN).glob("*/bin")), *([Path(in_path).resolve().parent] if in_path else [])]
    return next((folder for folder in reversed(folders) if (folder / "pg_isready").is_file()), None)


@dataclass
class Postgres:
    """A PostgreSQL database cluster in a folder. Started by root, it runs as an unprivileged user, since it refuses root."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The database's URI. It contains the password, so it must not be passed on a command line."""
        return f"postgresql+psycopg2://runs:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Raises UserError if it does not."""
        programs = postgres_programs()
        if programs is None:
            raise UserError("PostgreSQL is not installed on this machine (Debian, Ubuntu: apt install postgresql).")
        data = self.folder / "data"
        if not data.exists():
            self._init(programs, data)
        words = [f"{programs}/postgres", "-D", str(data), "-k", str(self.folder), "-c", "max_connections=200"]
        address = ["-h", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "postgres.log").open("ab") as log:
            process = subprocess.Popen([*words, *address], stdout=log, stderr=log, start_new_session=True, **_user())
        self.process, started = process, time.monotonic()
        while subprocess.run([f"{programs}/pg_isready", "-q", *address], check=False).returncode:
            if process.poll() is not None or time.monotonic() - started > STARTS_WITHIN:
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

    def stop(self, signal_number: int = signal.SIGINT) -> None:
        """Stop the server and wait for its end. SIGINT closes connections in an orderly way; SIGQUIT is like a crash."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal_number)
            self.process.wait(60)


def _user() -> dict[str, Any]:
    if os.geteuid():
        return {}
    name = next(user.pw_name for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A running PostgreSQL server, stopped at the end. The folder must be accessible to an unprivileged user."""
    server = Postgres(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class MlflowServer:
    """An `mlflow server` on loopback that stores artifacts in a folder."""

    folder: Path
    backend: str
    """The database's URI. It is passed in the environment, since it may contain a password."""
    port: int = field(default_factory=free_port)
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers. Raises UserError if it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--artifacts-destination", str(self.folder / "mlartifacts")]
        variables = {**os.environ, "MLFLOW_BACKEND_STORE_URI": self.backend, **self.environment}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words], stdout=log, stderr=log, start_new_session=True, env=variables
            )
        started = time.monotonic()
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() - started > STARTS_WITHIN:
                raise UserError("the MLflow server did not start:\n" + (self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.5)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
            return True
        return False

    def send(self, signal_number: int) -> None:
        """Send a signal to the server and its workers, which are a process group."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal_number)

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Send a signal and wait for the server to end."""
        self.send(signal_number)
        if self.process:
            self.process.wait(60)


@contextlib.contextmanager
def mlflow_server(folder: Path, backend: str) -> Iterator[MlflowServer]:
    """A running MLflow server, stopped at the end."""
    server = MlflowServer(folder, backend)
    server.start()
    try:
        yield server
    finally:
        server.stop()
