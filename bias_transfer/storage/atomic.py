"""Write a file or a folder whole or not at all: under another name next to its target, from which it is renamed into place.

A reader, and a process that is killed half way, finds the former content or the new one, never a part of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """An empty folder next to `target`, readable by its owner alone, which is removed at the end with what is still in it.

    It is on the target's file system, where renaming is one step. Raises OSError if the parent folder is missing or read-only.
    """
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_file(target: Path, durable: bool = False) -> Iterator[Path]:
    """A path to write; the file replaces `target` when the block ends without an exception. The parent folder must exist.

    durable: it also outlives a power cut. Raises OSError, also where the disk is full; nothing is left then.
    """
    with scratch(target) as folder:
        # Not the target's own name: whatever lists files by name must not take the remains of a killed process for one.
        path = folder / "new"
        yield path
        if durable:
            _flush(path)
        path.replace(target)
        # The new name is an entry of the folder, and is on the disk only when the folder is.
        if durable:
            _flush(target.parent)


@contextmanager
def new_folder(target: Path, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, renamed to `target` when the block ends without an exception. The parent folder must exist.

    replace: a folder that is there already is moved aside first and then removed, so that a process that is reading it can go
    on; otherwise it is an OSError, unless it is empty.
    """
    with scratch(target) as folder:
        new = folder / "new"
        new.mkdir()
        yield new
        if replace and target.exists():
            target.rename(folder / "old")
        new.rename(target)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
