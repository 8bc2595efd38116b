"""Mistakes a user can fix, exit statuses, and look-ups that name the nearest match. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TypeVar

Entry = TypeVar("Entry")


class Exit(IntEnum):
    """The exit statuses of all commands."""

    DONE = 0
    FAILED = 1
    """A trial failed, or was not run to its end."""
    MISTAKE = 2
    """In what was given: a `UserError`."""
    HELD = 3
    """Another driver runs the sweep."""
    PENDING = 4
    """Results wait in the outbox, or MLflow is unreachable."""
    LOST = 5
    """The connection to the cluster was lost; the job goes on."""
    STOPPED = 130
    """By Ctrl-C, as shells have it."""


class UserError(Exception):
    """A mistake that the user can fix. The message says what was wrong, the nearest match, and what is allowed."""

    status = Exit.MISTAKE
    """The exit status of a command that this error ends."""


def first_line(error: BaseException) -> str:
    """The first line of the error's message, or the name of its type if the message is empty."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def unknown(kind: str, given: str, allowed: Iterable[str]) -> str:
    """The message for a name that is not in a table: what was wrong, the nearest match, what is allowed."""
    allowed = sorted(allowed)
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {given!r}.{hint} Allowed: {', '.join(allowed) or 'none'}."


def look_up(table: Mapping[str, Entry], given: str, kind: str) -> Entry:
    """The entry of a table. Raises UserError with the nearest match."""
    if given not in table:
        raise UserError(unknown(kind, given, table))
    return table[given]
