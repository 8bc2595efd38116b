"""`sweep --cluster`, the head's side: a sweep as a Ray job, submitted once and followed as often as one likes.

python -m bias_transfer.head CONFIG [OPTION ...]        `bias_transfer.remote` calls it
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bias_transfer.errors import Exit
from bias_transfer.hashing import digest
from bias_transfer.config.yaml import parse_yaml

PROJECT, INPUTS = "~/bias-transfer", "~/bias-transfer-inputs"
"""On the head: the code, as cluster.yaml mounts it, and what configs name."""

BEGIN, END = "@bias-transfer job", "@bias-transfer exit"
"""Before the name of the job, and before its exit status."""

STARTING = 120.0
"""Seconds that the cluster has to answer after it was started."""

JOINING = 300.0
"""Seconds that machines have to join before a sweep starts without them."""

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""On a head that `ray up` set up: what the autoscaler works by."""

RUNNING = ("PENDING", "RUNNING")


def main(arguments: list[str]) -> int:
    """Submit the sweep unless it is running, follow it, and return its exit status."""
    config, *options = [own(word) for word in arguments]
    name = f"{re.sub('[^A-Za-z0-9_-]', '-', Path(config).stem)}-{digest([config, *options])[:8]}"
    job = running(name, jobs(STARTING)) or submit(name, [str(written(Path(config))), *options])
    print(f"{BEGIN} {job}", flush=True)
    subprocess.run(["ray", "job", "logs", "--follow", job], check=False)  # noqa: S603, S607
    while (found := jobs(STARTING)[job])["status"] in RUNNING:
        time.sleep(5)
    return exit_status(found)


def written(config: Path) -> Path:
    """The config with the names of this machine, beside the one that was sent: a second call sends that anew, and a driver
    that is started again in that moment has to find its own."""
    target = config.parent / "written" / config.name
    target.parent.mkdir(exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.write_text(own(config.read_text(encoding="utf-8")), encoding="utf-8")
    return aside.replace(target)


def own(text: str) -> str:
    """The text with the name of the folder of inputs written out, since a job has a folder of its own."""
    return text.replace(f"{INPUTS}/", f"{Path(INPUTS).expanduser()}/")


def jobs(patience: float) -> dict[str, dict[str, Any]]:
    """Name -> what Ray knows of the job. Raises OSError where the dashboard does not answer in so many seconds."""
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    request = urllib.request.Request(  # noqa: S310 - http by our own word
        os.environ["RAY_API_SERVER_ADDRESS"] + "/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return {job["submission_id"]: job for job in json.load(answer) if job["submission_id"]}
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def running(name: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    """The job of that name that has not ended; empty where there is none."""
    return next((job for job, at in known.items() if job.startswith(f"{name}-") and at["status"] in RUNNING), "")


def submit(name: str, words: list[str]) -> str:
    """Start the sweep as a job, started again where a signal cuts it off. Returns the job's name."""
    job = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    command = ["bash", "cluster/again.sh", "python", "-m", "bias_transfer.sweep", *words]
    submitting = ["ray", "job", "submit", "--no-wait", "--submission-id", job, "--working-dir", ".", "--", *command]
    done = subprocess.run(submitting, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"the job was not accepted: {(done.stdout + done.stderr).strip()[-2000:]}")
    return job


def exit_status(job: Mapping[str, Any]) -> int:
    """The driver's, else what Ray says of the job."""
    code = job.get("driver_exit_code")
    return int(code) if code else {"SUCCEEDED": Exit.DONE, "STOPPED": Exit.STOPPED}.get(job["status"], Exit.FAILED)


def offered(
    look: Callable[[], dict[str, float]], bootstrap: Path = BOOTSTRAP, patience: float = JOINING
) -> dict[str, float]:
    """CPUs and GPUs that one trial can have: those of the cluster, and those of a machine that its autoscaler may add.

    look: Ray's resources of the machines that have joined. Waits for machines that were asked for, where what they have is
    known only when they have joined, as it is with machines of one's own.
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


if __name__ == "__main__":
    print(f"{END} {main(sys.argv[1:])}", flush=True)
