"""What running trials are doing, for the terminal: workers post their stages to an actor, which the driver's display reads.

Nothing of a sweep depends on it: a post that is lost is one that nobody sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bias_transfer.console import Doing, Report, Running, console, silent

EVERY = 1.0
"""Seconds between two posts of a trial about the same stage."""


@dataclass
class Board:
    """The actor's state."""

    doing: dict[str, Doing] = field(default_factory=dict)
    """Trial id -> its stage."""
    warning: str = ""
    """The last one that a trial gave."""

    def post(self, trial: str, doing: Doing) -> None:
        """Replace what the trial is doing."""
        self.doing[trial] = doing

    def warn(self, text: str) -> None:
        """Replace the last warning."""
        self.warning = text

    def read(self) -> tuple[dict[str, Doing], str]:
        """All stages, and the last warning."""
        return self.doing, self.warning


@contextmanager
def board() -> Iterator[Any]:
    """The actor, on the Ray that runs; None where standard error is no terminal, and nobody would see it. It takes no core."""
    if not console(stderr=True).is_terminal:
        yield None
        return
    import ray

    yield ray.remote(Board).options(num_cpus=0).remote()


def posting(board: Any, trial: str) -> tuple[Report, Callable[[str], None]]:
    """(a Report that posts a trial's stages, at most every `EVERY` seconds about the same stage; what posts its warnings)."""
    if board is None:
        return silent, lambda text: None
    posted: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if 0 < done < total and now - posted.get(stage, -EVERY) < EVERY:
            return
        posted[stage] = now
        with suppress(Exception):  # the actor may be gone with its machine
            board.post.remote(trial, Doing(stage, done, total))

    def warn(text: str) -> None:
        with suppress(Exception):
            board.warn.remote(text)

    return report, warn


def look(board: Any, running: Mapping[str, str]) -> Running:
    """The running trials as the display shows them. running: trial id -> name; it may change at any time."""
    import ray

    doing, warning = dict[str, Doing](), ""
    if board is not None:
        with suppress(Exception):  # an actor that is starting, or gone: the display must not end a sweep
            doing, warning = ray.get(board.read.remote(), timeout=1.0)
    return Running({name: doing.get(trial) for trial, name in tuple(running.items())}, warning)
