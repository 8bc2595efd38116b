"""A trial that is killed in mid-fine-tuning goes on from its checkpoint, within the sweep."""

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
"""Between two checkpoints: a trial that begins anew keeps some before it is as far as it was."""

KEPT_STEPS = 200
"""Of a checkpoint at which the workers are killed, at least."""


def step_of(file: Path) -> int:
    """The optimiser step of a checkpoint: JSON in the file's header, behind 8 bytes of its length."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return json.loads(header["__metadata__"]["checkpoint"])["facts"]["step"]


@contextmanager
def watched(case) -> Iterator[dict[str, list[int]]]:
    """Trial id -> the steps of the checkpoints that lay there, one after the other; each is whole, since it was renamed."""
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
    names = {one.id: one.name for one in sweeps.read("small", uri=case.store).trials}
    after = {trial: [step for step in seen[trial][count[trial] :] if step != at[trial]] for trial in at}
    told = [f"{names[trial]} from step {at[trial]}" for trial, steps in after.items() if steps]
    assert told, "no checkpoint was kept after the kill"
    assert max(at.values()) >= KEPT_STEPS
    for trial, steps in after.items():
        assert all(step > at[trial] for step in steps), (
            f"killed at step {at[trial]}, kept then {steps[:5]}: it began anew"
        )
    judge(case, "worker processes killed in mid-fine-tuning, after a checkpoint",
          "SIGKILL to the workers' processes, with --checkpoint-minutes 0.005", before, cut,
          f"went on, as the steps of the checkpoints that they kept next show: {', '.join(told)}")  # fmt: skip
    assert not [*folder.glob("*")]
