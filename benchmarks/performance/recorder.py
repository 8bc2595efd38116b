"""One of the many processes of benchmarks.recording_load."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.performance.load_stores import EXPERIMENT
from benchmarks.performance.load_stores import result
from bias_transfer.tracking import recorder
from bias_transfer.tracking import store

ATTEMPTS = 5
"""How often a record is tried: recording again changes nothing."""


@dataclass(frozen=True)
class Written:
    """What one process has to tell."""

    seconds: list[float]
    """Of each record, with its retries."""
    errors: list[str]
    """Kinds of errors after which a record was tried again."""
    requests_again: int
    """Requests that MLflow's client sent again by itself."""
    begun: float
    ended: float


def write(uri: str, parent: str, numbers: range, rows: int, barrier: Any, queue: Any) -> None:
    """In a process: connect, wait for the others, record."""
    counter = _Counter()
    logging.getLogger("urllib3.connectionpool").addHandler(counter)
    client, own = store.connect(uri), [result(number, rows) for number in numbers]
    seconds, errors = list[float](), list[str]()
    barrier.wait()
    begun = time.time()
    for one in own:
        start = time.monotonic()
        for attempt in range(ATTEMPTS):
            try:
                recorder.record(client, recorder.start(client, EXPERIMENT, one.trial, parent), one)
                break
            except Exception as error:  # whatever the store's driver raises
                errors.append(type(error).__name__)
                time.sleep(2**attempt)
        seconds.append(time.monotonic() - start)
    queue.put(Written(seconds, errors, counter.seen, begun, time.time()))


class _Counter(logging.Handler):
    """Counts urllib3's warnings about a request that it sends again, and keeps them to itself."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.seen += "Retrying" in record.msg
