"""How a sweep gets at Ray: the cluster that it joins, whether that answers, and the token of a Ray that it starts itself."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bias_transfer.errors import UserError
from bias_transfer.errors import first_line

ANSWERING = 5.0
"""Seconds that a cluster has to take a connection."""

ALLOWED = (
    "Allowed: `auto` (the cluster that runs on this machine), HOST:PORT of a head whose network this machine is in (`ray start "
    "--head` prints it, and /tmp/ray/ray_current_cluster there holds it), or `local`, which starts Ray here. From elsewhere: "
    "--cluster FILE, or the sweep on the head itself."
)


def cluster_address(given: str | None) -> str | None:
    """The cluster to join, as Ray has it: RAY_ADDRESS stands for none and for `auto`. None: Ray is started here."""
    own = os.environ.get("RAY_ADDRESS")
    address = own if own and given in (None, "", "auto") else given
    return None if address in (None, "", "local") else address


def check_answers(address: str, locate: Callable[[str], str | None]) -> None:
    """Raises UserError where nothing takes a connection there within `ANSWERING` seconds: Ray itself would try for minutes.

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
    """See that the user's token for Ray is there and theirs alone. Ray makes a missing one, but readable by whom the umask
    lets. Nothing where another is named, or none is asked for. Raises OSError."""
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
