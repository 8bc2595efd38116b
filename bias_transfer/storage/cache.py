"""What several trials share, found by its content. An entry is a folder that appears whole or not at all, and is checked.

Each entry holds a manifest: the names, sizes and SHA-256 of its files, read again the first time that a process uses it.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from bias_transfer.errors import UserError

MANIFEST = ".manifest"


class DamagedError(Exception):
    """What is wrong with an entry."""


def default_folder() -> Path:
    """BIAS_TRANSFER_CACHE, else bias-transfer in the user's cache folder. It can be deleted at any time."""
    own = os.environ.get("BIAS_TRANSFER_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bias-transfer"


def entry(cache: Path, kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder cache/kind/key; `make` fills it aside the first time, and it is then renamed into place.

    Safe for many processes: on each machine (or shared folder) one makes it, under a lock for which the others wait, so that
    what it holds, a pre-trained `tiny` model or data from another machine, is computed or fetched once there. An entry that
    is damaged is told in a warning and made again. Raises UserError where the cache can't be written, a full disk included,
    and leaves nothing of an entry that was not finished.
    """
    target = cache / kind / key
    if not _fault(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            fault = _fault(target)
            if fault and target.exists():
                warnings.warn(f"the cache entry {target} is damaged and made again: {fault}", stacklevel=2)
            if fault:
                _make_aside(target, make)
    except OSError as error:
        raise UserError(
            f"the cache entry {target} cannot be written: {error.strerror}. Name another: --cache FOLDER."
        ) from error
    return target


def find(cache: Path, kind: str, key: str) -> Path | None:
    """The entry, if it is there and whole. Nothing is made, and nobody waited for."""
    target = cache / kind / key
    return None if _fault(target) else target


def _fault(target: Path) -> str:
    """What is wrong with the entry; nothing, cheaply, once this process has found it whole."""
    try:
        found = (target / MANIFEST).stat()
        _verify(target, found.st_ino, found.st_mtime_ns)
    except FileNotFoundError:
        return "it has no manifest"
    except (DamagedError, OSError, ValueError, KeyError, TypeError) as error:
        return str(error) or type(error).__name__
    return ""


@functools.lru_cache(maxsize=256)
def _verify(target: Path, manifest: int, made: int) -> None:
    """Raises DamagedError for an entry that is not what its manifest says; (manifest, made) tell one entry from the next."""
    for name, (size, content) in dict(json.loads((target / MANIFEST).read_text())).items():
        path = target / name
        if not path.is_file():
            raise DamagedError(f"{name} is missing")
        if path.stat().st_size != size:
            raise DamagedError(f"{name} has {path.stat().st_size} bytes, not {size}")
        if file_digest(path) != content:
            raise DamagedError(f"{name} is not what was written")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_aside(target: Path, make: Callable[[Path], None]) -> None:
    """Put a new entry in its place; one that was there is moved aside first, since another process may be reading it."""
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    made, old = aside / "new", aside / "old"
    made.mkdir()
    try:
        _fill(made, make)
        if target.exists():
            target.rename(old)
        made.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    try:
        make(folder)
    except Exception as error:
        if not isinstance(error, OSError) and (full := os.strerror(errno.ENOSPC)) in str(error):
            raise OSError(errno.ENOSPC, full) from error  # safetensors and tokenizers have errors of their own
        raise
    written = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = {name: [path.stat().st_size, file_digest(path)] for name, path in written.items()}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
