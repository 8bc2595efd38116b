"""What a client without the token gets from ports: from every method of Ray's own services, and from a few pages.

python probe.py ADDRESS:PORT ...        prints {place: {"grpc": {answer: [method, ...]}, "http": {path: status}}} as JSON
As a control, the token in the environment variable RAY_TOKEN is sent if there is one.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import ray

PAGES = (
    "/",
    "/metrics",
    "/api/jobs/",
    "/api/version",
    "/nodes",
    "/logs",
    "/api/local_raylet_healthz",
    "/get_or_create_runtime_env",
)


def methods() -> list[str]:
    """The methods of all services that Ray's package describes, and of the one between raylets, which it does not describe."""
    generated = Path(ray.__file__).parent / "core" / "generated"
    found = {
        name for file in generated.glob("*_pb2_grpc.py") for name in re.findall(r"'(/[\w.]+/\w+)'", file.read_text())
    }
    assert len(found) > 100
    return sorted(found | {f"/ray.rpc.ObjectManagerService/{name}" for name in ("Push", "Pull")})


def by_grpc(place: str, names: list[str]) -> dict[str, list[str]]:
    """Status -> the methods that answered with it."""
    token = os.environ.get("RAY_TOKEN")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    found = defaultdict(list)
    with grpc.insecure_channel(place) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=3)
        except grpc.FutureTimeoutError:
            return {"no gRPC": []}
        for name in names:
            call = channel.unary_unary(name, request_serializer=bytes, response_deserializer=bytes)
            try:
                call(b"", timeout=3, metadata=metadata)
                found["OK"].append(name)
            except grpc.RpcError as error:
                found[error.code().name].append(name)
    return dict(found)


def by_http(place: str) -> dict[str, int]:
    """Path -> status, of the pages that answered."""
    found = {}
    for page in PAGES:
        connection = http.client.HTTPConnection(place, timeout=3)
        try:
            connection.request("GET", page)
            found[page] = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return found


def main(places: list[str]) -> None:
    names = methods()
    names = (
        [name for name in names if name.rsplit("/", 1)[1].startswith("Get")] if os.environ.get("RAY_TOKEN") else names
    )
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda place: {"grpc": by_grpc(place, names), "http": by_http(place)}, places)
    print(json.dumps(dict(zip(places, answers, strict=True))))


if __name__ == "__main__":
    main(sys.argv[1:])
