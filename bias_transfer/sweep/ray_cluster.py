"""The Ray that a sweep runs on: a cluster that it joins, or one that it starts on this machine."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bias_transfer.cluster.environment import ALLOCATION, QUIET, STARTING
from bias_transfer.config.yaml import parse_yaml
from bias_transfer.errors import UserError, first_line

RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable in a submitted job."""

NOT_CODE = [
    "/.git", "/.venv/", "/.cache/", "/build/", "/data/", "/mlartifacts/", "/mlruns/", "/models/", "/results/", "/runs/",
    "*.db", "*.db-*", "*.egg-info/", "*.parquet", "*.safetensors", ".*_cache/", "__pycache__/",
]  # fmt: skip
"""What a checkout holds in addition to its code; it is not sent to a cluster's workers."""

ANSWERING = 5.0
"""Seconds that a cluster has to accept a connection."""

ALLOWED = (
    "Allowed: `auto` (the cluster that runs on this machine), HOST:PORT of a head whose network this machine is in (`ray start "
    "--head` prints it, and /tmp/ray/ray_current_cluster there holds it), or `local`, which starts Ray here. From elsewhere: "
    "--cluster FILE, or the sweep on the head itself."
)


def cluster_address(given: str | None) -> str | None:
    """The address of the cluster to join; RAY_ADDRESS is used if none, or `auto`, is given. None: Ray is started here."""
    own = os.environ.get("RAY_ADDRESS")
    address = own if own and given in (None, "", "auto") else given
    return None if address in (None, "", "local") else address


def check_answers(address: str, locate: Callable[[str], str | None]) -> None:
    """Raises UserError if nothing accepts a connection there within `ANSWERING` seconds: Ray itself would try for minutes.

    locate: an address, `auto` too -> HOST:PORT as Ray finds it. Raises ConnectionError or ValueError.
    """
    if "://" in address:
        raise _no_cluster(address, "Ray's client would not tell the sweep what becomes of its trials")
    try:
        place = locate(address) or ""
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, first_line(error)) from None
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERING).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, f"{place}: {first_line(error)}") from None


def _no_cluster(address: str, why: str) -> UserError:
    source = "RAY_ADDRESS" if address == os.environ.get("RAY_ADDRESS") else "--address"
    return UserError(f"no Ray cluster can be joined at {source} {address} ({why.rstrip('.')}). {ALLOWED}")


def own_token() -> None:
    """Make sure that the user's token for Ray exists, and that nobody else can read it: Ray itself would create a missing one
    with the permissions of the umask. Does nothing if the environment names another token, or turns authentication off.
    Raises OSError."""
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    token = Path.home() / ".ray" / "auth_token"
    token.parent.mkdir(mode=0o700, exist_ok=True)
    token.parent.chmod(0o700)
    with tempfile.NamedTemporaryFile("w", dir=token.parent) as aside:  # of mode 600
        aside.write(secrets.token_hex(32))
        aside.flush()
        with suppress(FileExistsError):  # whole or not at all, and never in another's place
            os.link(aside.name, token)
    token.chmod(0o600)


JOINING = 300.0
"""Seconds that machines have to join before a sweep starts without them."""

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""The autoscaler's configuration, on a head that `ray up` set up."""


def offered(
    look: Callable[[], dict[str, float]], bootstrap: Path = BOOTSTRAP, patience: float = JOINING
) -> dict[str, float]:
    """CPUs and GPUs that one trial can have: those of the cluster, and those of a machine that its autoscaler may add.

    look: Ray's resources of the machines that have joined. Waits for requested machines whose resources are known only once
    they have joined, as on a cluster of `cluster_local.yaml`.
    """
    file = bootstrap.expanduser()
    types = parse_yaml(file.read_text())["available_node_types"].values() if file.is_file() else ()
    workers = [kind for kind in types if kind.get("max_workers")]
    there, end = look(), time.monotonic() + patience
    expected = 1 + sum(kind.get("min_workers", 0) for kind in workers if not kind["resources"])
    while expected > 1 and _machines(there) < expected and time.monotonic() < end:
        print(f"waiting for machines to join: {_machines(there)} of {expected}", flush=True)
        time.sleep(5)
        there = look()
    return {
        name: max(there.get(name, 0.0), *(float(kind["resources"].get(name, 0)) for kind in workers), 0.0)
        for name in ("CPU", "GPU")
    }


def _machines(resources: Mapping[str, float]) -> int:
    return sum(name.startswith("node:") and not name.startswith("node:__") for name in resources)


def check_address(given: str | None) -> None:
    """Raises UserError if the cluster to be joined does not answer."""
    if address := cluster_address(given):
        from ray._private.services import canonicalize_bootstrap_address

        check_answers(address, canonicalize_bootstrap_address)


@contextmanager
def running_ray(address: str | None) -> Iterator[None]:
    """Join the cluster at the address, or else start one on this machine, which only holders of the token can use."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray

    local: dict[str, Any] = {
        "num_cpus": len(os.sched_getaffinity(0)),
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }
    settings = _shipped_code() if address else local
    try:
        if not address:
            own_token()
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **settings)
    except Exception as error:  # parts of Ray raise Exception itself
        raise UserError(_why_not(address, error)) from None
    try:
        yield
    finally:
        ray.shutdown()


def _why_not(address: str | None, error: Exception) -> str:
    if address:
        return f"Ray at {address} cannot be used: {first_line(error)}"
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray")
    return (
        f"Ray did not start on this machine: {first_line(error).rstrip('.')}. Each of its parts has {STARTING} s, enough "
        f"unless the machine is overloaded (load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores now) or the disk of "
        f"{folder} is full ({shutil.disk_usage(folder.parent).free / 1e9:.1f} GB free); logs: {folder}/session_latest/logs. "
        f"Start again when there is room, or join a cluster that runs: --address HOST:PORT."
    )


def _shipped_code() -> dict[str, Any]:
    """Settings that give a cluster's workers this checkout's code, so that they run what is here.

    Empty where the package is installed, in a Ray job, whose workers have the job's folder, and in an allocation.
    """
    root = Path(__file__).parents[2]
    if {RAY_JOB, ALLOCATION} & os.environ.keys() or not (root / ".git").exists():
        return {}
    return {"runtime_env": {"working_dir": str(root), "excludes": NOT_CODE}}
