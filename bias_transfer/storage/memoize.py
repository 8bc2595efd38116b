"""Memoize on disk what several trials compute alike: a cached value is the computed one, bit for bit.

No process waits for another: two that miss the same value at the same time compute it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.storage import cache

Value = TypeVar("Value")

Key = Mapping[str, Any]
"""Everything that a value depends on, as JSON (`fingerprint` has what most values depend on)."""


@dataclass(frozen=True)
class Format(Generic[Value]):
    """How values of one kind are written to a folder and read again, with the same bits."""

    name: str
    """The cache's folder for this kind."""
    write: Callable[[Path, Value], None]
    read: Callable[[Path], Value]


def memoized(folder: Path, kind: Format[Value], key: Key, compute: Callable[[], Value]) -> Value:
    """The value cached in `folder`, or else what `compute` returns, which is then cached."""
    cached = find(folder, kind, key)
    return put(folder, kind, key, compute()) if cached is None else cached


def find(folder: Path, kind: Format[Value], key: Key) -> Value | None:
    """The cached value, if there is one."""
    if entry := cache.find(folder, kind.name, _entry_name(key)):
        with suppress(OSError):  # the entry was deleted at this moment
            return kind.read(entry)
    return None


def put(folder: Path, kind: Format[Value], key: Key, value: Value) -> Value:
    """Cache the value, and return it. If the cache cannot be written, the value is only returned."""
    with suppress(UserError):
        cache.entry(folder, kind.name, _entry_name(key), lambda target: kind.write(target, value))
    return value


def _entry_name(key: Key) -> str:
    return digest(key)[:32]
