"""What to do while the store is away: which errors pass by themselves, and trying again for so long."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from mlflow.exceptions import MlflowException

LONGEST_PAUSE = 15.0
"""Seconds between two tries, at most: they double from 1."""

AT_ONCE = ("UNIQUE constraint failed", "UniqueViolation")
"""What SQLite and PostgreSQL say where another process wrote the same row at the same moment, as of a data set that two trials
are the first to have. MLflow calls it a bad request."""

FULL = ("No space left on device", "disk is full", "Disk quota exceeded")

Value = TypeVar("Value")


def patiently(action: Callable[[], Value], seconds: float) -> Value:
    """Do it; while the store is away, again and again until so many seconds have passed (the last try may end later, since
    MLflow itself tries each request four times). Raises what the last try raised."""
    deadline, pause = time.monotonic() + seconds, 1.0
    while True:
        try:
            return action()
        except Exception as error:
            if not transient(error) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def transient(error: BaseException) -> bool:
    """Whether the error may pass: no connection, a server that says 5xx (its database restarts) or 429, or a row that another
    process wrote just then. A full disk, a refused password and a deleted run do not."""
    if full_disk(error) is not None:
        return False
    if isinstance(error, MlflowException):
        return _passes(error.get_http_status_code()) or any(words in str(error) for words in AT_ONCE)
    if not isinstance(error, OSError):
        return False
    response = getattr(error, "response", None)  # of requests.HTTPError
    if response is not None:
        return _passes(response.status_code)
    return error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS)


def _passes(status: int) -> bool:
    return status >= 500 or status in (408, 429)


def full_disk(error: BaseException) -> str | None:
    """Which disk is full, if that is what the error says, or what caused it: a file's name, or empty where none is named."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return str(cause.filename or "")
    return "" if any(words in str(cause) for cause in _chain(error) for words in FULL) else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
