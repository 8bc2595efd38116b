"""What several trials share, found by its content. An entry is a folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from bias_transfer.spec import UserError


def default_folder() -> Path:
    """BIAS_TRANSFER_CACHE, else bias-transfer in the user's cache folder. It can be deleted at any time."""
    own = os.environ.get("BIAS_TRANSFER_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bias-transfer"


def entry(cache: Path, kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder cache/kind/key; `make` fills it aside the first time, and it is then renamed into place.

    Safe for many processes: the others wait for the one that makes it. Raises UserError where the cache can't be written.
    """
    target = cache / kind / key
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_dir():
                _make_aside(target, make)
    except OSError as error:
        raise UserError(
            f"the cache entry {target} cannot be written: {error.strerror}. Name another: --cache FOLDER."
        ) from error
    return target


def _make_aside(target: Path, make: Callable[[Path], None]) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        make(aside)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
