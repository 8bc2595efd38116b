"""One of the processes of benchmarks.performance.recording_load."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.performance.load_stores import EXPERIMENT, result
from bias_transfer.tracking import recorder, store

ATTEMPTS = 5
"""Attempts per record. Recording a trial twice changes nothing."""


@dataclass(frozen=True)
class Written:
    """What one process reports."""

    seconds: list[float]
    """Time of each record, including retries."""
    errors: list[str]
    """Names of the exceptions after which a record was retried."""
    requests_again: int
    """Requests that MLflow's client repeated by itself."""
    begun: float
    ended: float


def write(uri: str, parent: str, numbers: range, rows: int, barrier: Any, queue: Any) -> None:
    """In a process: connect, wait for the other processes, record."""
    counter = _Counter()
    logging.getLogger("urllib3.connectionpool").addHandler(counter)
    client, outcomes = store.connect(uri), [result(number, rows) for number in numbers]
    seconds, errors = list[float](), list[str]()
    barrier.wait()
    begun = time.time()
    for outcome in outcomes:
        start = time.monotonic()
        for attempt in range(ATTEMPTS):
            try:
                recorder.record(client, recorder.start(client, EXPERIMENT, outcome.trial, parent), outcome)
                break
            except Exception as error:  # any exception of the database driver
                errors.append(type(error).__name__)
                time.sleep(2**attempt)
        seconds.append(time.monotonic() - start)
    queue.put(Written(seconds, errors, counter.count, begun, time.time()))


class _Counter(logging.Handler):
    """Counts urllib3's warnings about repeated requests, without printing them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "Retrying" in record.msg
