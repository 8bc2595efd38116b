"""A trial that is killed during fine-tuning resumes from its checkpoint, within the sweep."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from bias_transfer.tracking import sweeps
from bias_transfer.training.checkpoint import NAME

pytestmark = pytest.mark.faults
MINUTES = "0.005"
"""Minutes between two checkpoints: a trial that begins again writes several before it has caught up."""

KEPT_STEPS = 200
"""Smallest step of a checkpoint after which the workers are killed."""


def step_of(file: Path) -> int:
    """The optimiser step of a checkpoint, from the JSON header of the file, which follows 8 bytes with its length."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return json.loads(header["__metadata__"]["checkpoint"])["facts"]["step"]


@contextmanager
def watched(case) -> Iterator[dict[str, list[int]]]:
    """Trial id -> the steps of its checkpoints, in order. Each is whole when it is seen, since it was renamed into place."""
    seen, ended = defaultdict[str, list[int]](list), threading.Event()

    def look() -> None:
        while not ended.wait(0.002):
            for file in (case.folder / "cache" / "checkpoints").glob(f"*/{NAME}"):
                with suppress(FileNotFoundError):
                    if (step := step_of(file)) != (seen.get(file.parent.name) or [0])[-1]:
                        seen[file.parent.name].append(step)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_workers_that_are_killed_after_a_checkpoint(case, judge):
    folder = case.folder / "cache" / "checkpoints"
    with watched(case) as seen:
        driver = case.start("--checkpoint-minutes", MINUTES)
        case.wait(lambda: any(steps[-1] >= KEPT_STEPS for steps in [*seen.values()]))
        before, workers = case.finished(), case.workers()
        for worker in workers:
            worker.kill()
        psutil.wait_procs(workers, 60)
        at = {file.parent.name: step_of(file) for file in folder.glob(f"*/{NAME}")}
        count = {trial: len(seen[trial]) for trial in at}
        driver.end()
    cut = {*driver.events("process died")}
    names = {trial.id: trial.name for trial in sweeps.read("small", uri=case.store).trials}
    after = {trial: [step for step in seen[trial][count[trial] :] if step != at[trial]] for trial in at}
    told = [f"{names[trial]} from step {at[trial]}" for trial, steps in after.items() if steps]
    assert told, "no checkpoint was written after the kill"
    assert max(at.values()) >= KEPT_STEPS
    for trial, steps in after.items():
        assert all(step > at[trial] for step in steps), (
            f"killed at step {at[trial]}, saved then {steps[:5]}: it began again"
        )
    judge(case, "worker processes killed during fine-tuning, after a checkpoint",
          "SIGKILL to the workers' processes, with --checkpoint-minutes 0.005", before, cut,
          f"resumed, as the steps of their next checkpoints show: {', '.join(told)}")  # fmt: skip
    assert not [*folder.glob("*")]
