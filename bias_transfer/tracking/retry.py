"""Retry requests that MLflow could not serve: which errors pass by themselves, and for how long to try again."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from mlflow.exceptions import MlflowException

LONGEST_PAUSE = 15.0
"""Longest pause in seconds between two tries; pauses start at 1 second and double."""

AT_ONCE = ("UNIQUE constraint failed", "UniqueViolation")
"""How SQLite and PostgreSQL report that another process inserted the same row at the same moment, for example the data set
that two trials are the first to use. MLflow reports it as a bad request."""

FULL = ("No space left on device", "disk is full", "Disk quota exceeded")
"""How the system, SQLite and PostgreSQL report a full disk, where an exception only quotes them."""

Value = TypeVar("Value")


def patiently(action: Callable[[], Value], seconds: float) -> Value:
    """Return what `action` returns. While it raises a transient error, call it again until `seconds` have passed, and then
    raise its last error. The last call may end later than that, since MLflow itself tries each request four times."""
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
    """Whether an error may pass by itself: no connection, a server that answers 5xx (its database restarts) or 429, or a row
    that another process inserted at the same moment. A full disk, a wrong password and a deleted run do not pass."""
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
    """The file whose disk is full, if a full disk is the error or its cause; empty if the error names no file. None for
    other errors."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return str(cause.filename or "")
    return "" if any(words in str(cause) for cause in _chain(error) for words in FULL) else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
