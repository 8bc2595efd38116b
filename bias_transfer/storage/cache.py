"""The cache of results that several trials share, addressed by their content. An entry is a folder that appears whole or not
at all, and that is verified before it is used.

Each entry holds a manifest with the names, sizes and SHA-256 digests of its files. A process checks them the first time that
it uses the entry.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from bias_transfer.errors import UserError
from bias_transfer.hashing import file_digest
from bias_transfer.storage import atomic

MANIFEST = ".manifest"


class DamagedError(Exception):
    """An entry's files differ from its manifest; the message says how."""


def default_folder() -> Path:
    """BIAS_TRANSFER_CACHE, else bias-transfer in the user's cache folder. It can be deleted at any time."""
    setting = os.environ.get("BIAS_TRANSFER_CACHE")
    return (
        Path(setting) if setting else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bias-transfer"
    )


def entry(cache: Path, kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder cache/kind/key. Where it is missing, `make` fills a new folder, which is then renamed into place.

    Safe for many processes: on each machine (or shared folder) one process makes the entry, under a lock for which the
    others wait, so that a pre-trained `tiny` model is computed, and data from another machine is fetched, once there. A
    damaged entry is reported in a warning and made again. Raises UserError if the cache cannot be written, for example
    because the disk is full; nothing is left of an entry that was not completed.
    """
    target = cache / kind / key
    if not _fault(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The lock is next to the entry and not in it, since the entry's folder is replaced as a whole.
        with FileLock(target.with_suffix(".lock")):
            # Again, now that nobody else can be making it: the process that held the lock may have.
            fault = _fault(target)
            if fault and target.exists():
                warnings.warn(f"the cache entry {target} is damaged and is made again: {fault}", stacklevel=2)
            if fault:
                with atomic.new_folder(target, replace=True) as folder:
                    _fill(folder, make)
    except OSError as error:
        raise UserError(
            f"the cache entry {target} cannot be written: {error.strerror}. Name another folder: --cache FOLDER."
        ) from error
    return target


def find(cache: Path, kind: str, key: str) -> Path | None:
    """The entry if it exists and is undamaged. A missing one is not made, nor is a process awaited that is making it."""
    target = cache / kind / key
    return None if _fault(target) else target


def _fault(target: Path) -> str:
    """Why the entry cannot be used; empty, and cheap to ask again, once this process has verified it."""
    try:
        manifest = (target / MANIFEST).stat()
        # An entry that is made again has another manifest, by inode or time, and so is verified again.
        _verify(target, manifest.st_ino, manifest.st_mtime_ns)
    except FileNotFoundError:
        return "it has no manifest"
    except (DamagedError, OSError, ValueError, KeyError, TypeError) as error:
        return str(error) or type(error).__name__
    return ""


@functools.lru_cache(maxsize=256)
def _verify(target: Path, inode: int, modified: int) -> None:
    """Raises DamagedError if the files differ from the manifest, which is told apart from a later one by inode and time."""
    for name, (size, content) in dict(json.loads((target / MANIFEST).read_text())).items():
        path = target / name
        if not path.is_file():
            raise DamagedError(f"{name} is missing")
        if path.stat().st_size != size:
            raise DamagedError(f"{name} has {path.stat().st_size} bytes instead of {size}")
        if file_digest(path) != content:
            raise DamagedError(f"{name} has other content than was written")


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    try:
        make(folder)
    except Exception as error:
        # safetensors and tokenizers report a full disk by exceptions of their own, which only quote the system's message.
        if not isinstance(error, OSError) and (full := os.strerror(errno.ENOSPC)) in str(error):
            raise OSError(errno.ENOSPC, full) from error
        raise
    # Digests of what was written, and not of what is in memory: a later reader must find these very bytes.
    written = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = {name: [path.stat().st_size, file_digest(path)] for name, path in written.items()}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
