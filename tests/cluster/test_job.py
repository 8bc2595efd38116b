"""The head's side of `sweep --cluster`, against a stand-in for Ray's dashboard on loopback."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from bias_transfer.cluster import job as cluster_job

ROOT = Path(__file__).parents[2]
JOBS = [
    SimpleNamespace(submission_id=name, status=status)
    for name, status in (
        ("small-12345678-20260101-000000", "FAILED"),
        ("small-12345678-20260102-000000", "RUNNING"),
        ("small-87654321-20260103-000000", "PENDING"),
        (None, "RUNNING"),  # a job that was not submitted but connected by itself
    )
]
TOKEN = "0123456789abcdef" * 4


class Dashboard:
    """The pages of Ray's dashboard that the client asks for. A job prints its log, then ends with `exit_code`."""

    def __init__(self, exit_code: int = 0) -> None:
        self.jobs = list[dict[str, Any]]()
        self.submitted = list[dict[str, Any]]()
        self.refusals, self.exit_code, self.address = 0, exit_code, ""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/version", self.version),
            web.get("/api/packages/{protocol}/{name}", self.package),
            web.get("/api/jobs/", self.listed),
            web.post("/api/jobs/", self.submit),
            web.get("/api/jobs/{job}", self.info),
            web.get("/api/jobs/{job}/logs/tail", self.tail),
        ]

    @web.middleware
    async def check(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401, text="no token")
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=503, text="starting")
        return await handler(request)

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""})

    async def package(self, request: web.Request) -> web.Response:
        return web.Response()

    async def listed(self, request: web.Request) -> web.Response:
        return web.json_response(self.jobs)

    async def submit(self, request: web.Request) -> web.Response:
        content = await request.json()
        self.submitted.append(content)
        self.add(content["submission_id"])
        return web.json_response({"job_id": content["submission_id"], "submission_id": content["submission_id"]})

    def add(self, name: str, status: str = "RUNNING") -> None:
        self.jobs.append({"type": "SUBMISSION", "submission_id": name, "status": status, "entrypoint": "bash"})

    async def info(self, request: web.Request) -> web.Response:
        return web.json_response(next(job for job in self.jobs if job["submission_id"] == request.match_info["job"]))

    async def tail(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(f"log of {request.match_info['job']}\n")
        await socket.send_str("3 of 3 done\n")
        for job in self.jobs:
            if job["submission_id"] == request.match_info["job"]:
                job |= {"status": "FAILED" if self.exit_code else "SUCCEEDED", "driver_exit_code": self.exit_code}
        await socket.close()
        return socket


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    pages, loop = Dashboard(), asyncio.new_event_loop()

    async def start() -> None:
        application = web.Application(middlewares=[pages.check])
        application.add_routes(pages.routes())
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pages.address = f"http://127.0.0.1:{runner.addresses[0][1]}"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield pages
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def run(dashboard: Dashboard, folder: Path, *options: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """The module, run as it is on the head, with a config in `folder`."""
    (folder / "token").write_text(token)
    (folder / "small.yaml").write_text("defaults: {seed: 0}")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        "RAY_API_SERVER_ADDRESS": dashboard.address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "PYTHONPATH": str(ROOT),
    }
    words = [sys.executable, "-m", "bias_transfer.cluster.job", "small.yaml", *options]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_sweep_is_submitted_followed_and_its_exit_status_printed(dashboard: Dashboard, tmp_path: Path):
    dashboard.exit_code = 4
    dashboard.refusals = 2  # a dashboard that is starting
    ended = run(dashboard, tmp_path, "--only", "arm=a b", "--limit", "2")
    assert ended.returncode == 0, ended.stderr
    (job,) = dashboard.submitted
    name = job["submission_id"]
    assert ended.stdout == f"@bias-transfer job {name}\nlog of {name}\n3 of 3 done\n@bias-transfer exit 4\n"
    assert name.startswith("small-")
    assert job["entrypoint"] == (
        "bash cluster/again.sh python -m bias_transfer.sweep written/small.yaml --only 'arm=a b' --limit 2"
    )
    assert job["runtime_env"]["working_dir"].startswith("gcs://")


def test_the_same_command_follows_the_running_job(dashboard: Dashboard, tmp_path: Path):
    run(dashboard, tmp_path)
    first = dashboard.jobs[0]["submission_id"]
    name = first.rsplit("-", 2)[0]
    dashboard.jobs.clear()
    dashboard.add(f"{name}-20260101-000000")
    ended = run(dashboard, tmp_path)
    assert f"@bias-transfer job {name}-20260101-000000\n" in ended.stdout
    assert ended.stdout.endswith("@bias-transfer exit 0\n")
    assert len(dashboard.submitted) == 1


def test_a_wrong_token_is_refused_at_once(dashboard: Dashboard, tmp_path: Path):
    ended = run(dashboard, tmp_path, token="f" * 64)
    assert ended.returncode == 1
    assert "Authentication" in ended.stderr
    assert "@bias-transfer" not in ended.stdout


def test_a_dashboard_that_does_not_answer_is_waited_for_only_so_long(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9"):
        cluster_job.connect(0)


@pytest.mark.parametrize(
    ("name", "job"),
    [("small-12345678", "small-12345678-20260102-000000"), ("small-1234567", ""), ("small-00000000", "")],
)
def test_the_running_job_of_the_same_name_is_found(name, job):
    assert cluster_job.running(name, JOBS) == job


@pytest.mark.parametrize(
    ("status", "driver", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", None, 1), ("STOPPED", None, 130)],
)
def test_the_exit_status_is_the_drivers(status, driver, expected):
    assert cluster_job.exit_status(SimpleNamespace(status=status, driver_exit_code=driver)) == expected


def test_the_inputs_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert (
        cluster_job.expanded('{"data": "~/bias-transfer-inputs/1/x.csv"}')
        == '{"data": "/home/someone/bias-transfer-inputs/1/x.csv"}'
    )
    assert cluster_job.expanded("~/other/x.csv") == "~/other/x.csv"


def test_a_config_that_is_sent_again_leaves_the_drivers_config_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sent = tmp_path / "bias-transfer-inputs" / "0" / "small.yaml"
    sent.parent.mkdir(parents=True)
    for _ in range(2):
        sent.write_text('{"data": "~/bias-transfer-inputs/1/x.csv"}')
        config = cluster_job.written(sent)
        assert config.name == "small.yaml"
        assert config.read_text() == f'{{"data": "{tmp_path}/bias-transfer-inputs/1/x.csv"}}'
        assert sent.read_text().startswith('{"data": "~')
    assert [file.name for file in config.parent.iterdir()] == ["small.yaml"]
