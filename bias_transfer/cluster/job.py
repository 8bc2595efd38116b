"""`sweep --cluster`, the head's side: submit a sweep as a Ray job unless it is running, and follow it.

python -m bias_transfer.cluster.job CONFIG [OPTION ...], which `bias_transfer.cluster.submit` runs on the head. Ray's client
takes the dashboard's address and the token from the environment that cluster/env.sh sets (RAY_API_SERVER_ADDRESS,
RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH).
"""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bias_transfer.errors import Exit
from bias_transfer.hashing import digest
from bias_transfer.storage import atomic

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

PROJECT, INPUTS = "~/bias-transfer", "~/bias-transfer-inputs"
"""Folders on the head: the code, as cluster.yaml mounts it, and the files that configs name."""

BEGIN, END = "@bias-transfer job", "@bias-transfer exit"
"""What the laptop's side looks for: the lines with the job's name and with its exit status begin so."""

STARTING = 120.0
"""Seconds for which a cluster that was just started may take to answer."""

RUNNING = ("PENDING", "RUNNING")
"""Ray's states of a job that has not ended."""


def main(arguments: list[str]) -> int:
    """Submit the sweep unless it is running, follow it, and return its exit status."""
    config, *options = [expanded(word) for word in arguments]
    # The same config and options have the same name, so that the same command finds the job again.
    name = f"{re.sub('[^A-Za-z0-9_-]', '-', Path(config).stem)}-{digest([config, *options])[:8]}"
    client = connect(STARTING)
    job = running(name, client.list_jobs()) or submit(client, name, [str(written(Path(config))), *options])
    print(f"{BEGIN} {job}", flush=True)
    asyncio.run(_print_log(client, job))
    while (details := connect(STARTING).get_job_info(job)).status in RUNNING:
        time.sleep(5)
    return exit_status(details)


def written(config: Path) -> Path:
    """Write the config with this machine's paths to a file of its own, next to the one that was sent.

    The same command sends the original again, while the driver may be starting again and reading its config.
    """
    target = config.parent / "written" / config.name
    target.parent.mkdir(exist_ok=True)
    with atomic.new_file(target) as new:
        new.write_text(expanded(config.read_text(encoding="utf-8")), encoding="utf-8")
    return target


def expanded(text: str) -> str:
    """The text with the absolute path of the inputs' folder in place of ~, since a job runs in a folder of its own."""
    return text.replace(f"{INPUTS}/", f"{Path(INPUTS).expanduser()}/")


def connect(patience: float) -> JobSubmissionClient:
    """A client of the dashboard, once it lists its jobs. Raises what the client raises if it does not within `patience`
    seconds, and at once if the token is refused."""
    from ray.job_submission import JobSubmissionClient

    end = time.monotonic() + patience
    while True:
        try:
            client = JobSubmissionClient()
            client.list_jobs()
        except (OSError, RuntimeError):  # no connection yet, or an answer such as 503
            if time.monotonic() > end:
                raise
            time.sleep(1)
        else:
            return client


def running(name: str, jobs: Iterable[JobDetails]) -> str:
    """The submission id of the job `name` that has not ended; empty if there is none."""
    ids = (job.submission_id or "" for job in jobs if job.status in RUNNING)
    return next((job for job in ids if job.startswith(f"{name}-")), "")


def submit(client: JobSubmissionClient, name: str, words: list[str]) -> str:
    """Submit the sweep as a job that restarts its driver when a signal ends it. Returns the job's submission id."""
    job = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    command = shlex.join(["bash", "cluster/again.sh", "python", "-m", "bias_transfer.sweep", *words])
    return str(client.submit_job(entrypoint=command, submission_id=job, runtime_env={"working_dir": "."}))


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    # Whatever ends the display, such as a broken connection, does not end the job, whose end `main` waits for.
    with suppress(Exception):
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)


def exit_status(job: JobDetails) -> int:
    """The driver's exit status; where Ray does not know it, one that says how the job ended."""
    if job.driver_exit_code:
        return int(job.driver_exit_code)
    return {"SUCCEEDED": Exit.DONE, "STOPPED": Exit.STOPPED}.get(job.status, Exit.FAILED)


if __name__ == "__main__":
    print(f"{END} {main(sys.argv[1:])}", flush=True)
