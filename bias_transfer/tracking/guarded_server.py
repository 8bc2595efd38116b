"""MLflow's server over a SQLite file, for the machines of one job: whoever lacks the token is refused.

python -m bias_transfer.tracking.guarded_server FILE ADDRESS

It prints "@bias-transfer port PORT", and serves until standard input ends.
The token is the environment variable MLFLOW_TRACKING_TOKEN, which MLflow's client sends by itself. One process alone opens the
file: over a network mount, SQLite's locks do not hold between machines.
"""

from __future__ import annotations

import hmac
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from bias_transfer.tracking import store

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""An ASGI application."""

TOKEN = "MLFLOW_TRACKING_TOKEN"


def guarded(application: Application, token: str) -> Application:
    """The application, which answers 401 to a request without `Authorization: Bearer TOKEN`, whatever it asks for."""
    expected = f"Bearer {token}".encode()

    async def guard(scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        given = [value for name, value in scope.get("headers", ()) if name == b"authorization"]
        # The server's own start and end are no request, and have no header.
        if scope["type"] == "lifespan" or (len(given) == 1 and hmac.compare_digest(given[0], expected)):
            await application(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"a token is needed"})
        else:
            await send({"type": "websocket.close", "code": 1008})

    return guard


def main(file: Path, address: str) -> None:
    """Serve the file on a free port of the address. Raises KeyError without a token, and OSError."""
    token = os.environ[TOKEN]
    store.connect(store.SQLITE + str(file), create=True)
    listening = socket.socket()
    listening.bind((address, 0))
    listening.listen(2048)  # from here on, a request waits until the server takes it
    port = listening.getsockname()[1]
    os.environ |= settings(file, f"{address}:{port}")
    # Late: MLflow's server reads its settings when it is imported.
    import uvicorn
    from mlflow.server.fastapi_app import app

    server = uvicorn.Server(uvicorn.Config(guarded(app, token), log_level="warning", access_log=False))
    print(f"@bias-transfer port {port}", flush=True)
    # SLURM sends SIGTERM to all processes of a job at once, and the driver records what has ended after that.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serving = threading.Thread(target=server.run, args=([listening],))
    serving.start()
    sys.stdin.read()
    server.should_exit = True
    serving.join()


def settings(file: Path, place: str) -> dict[str, str]:
    """The environment variables of the server. place: the ADDRESS:PORT that requests name.

    Two names are those of `mlflow.server.constants`, which cannot be imported here: importing it starts to read them.
    """
    return {
        "_MLFLOW_SERVER_FILE_STORE": store.SQLITE + str(file),
        # A folder, and not the server: the runs are read from the file when the server is gone.
        "_MLFLOW_SERVER_ARTIFACT_ROOT": store.artifacts_of(file),
        "MLFLOW_SERVER_ALLOWED_HOSTS": place,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
