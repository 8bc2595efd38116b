"""SHA-256 of values, files and texts, and the seeds of random streams. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def derive_seed(seed: int, *names: str) -> int:
    """A seed in [0, 2^63) for the random stream of that name.

    Streams do not depend on each other, so that arms which share a seed share the head's initial bits and the order of
    examples, and an intervention's own draws are keyed by its name (docs/science.md, "Pairing by seed").
    """
    return int(digest([seed, *names])[:16], 16) >> 1


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_digest(texts: Sequence[str]) -> str:
    """SHA-256 over texts in their order."""
    total = hashlib.sha256()
    for text in texts:
        content = text.encode()
        total.update(f"{len(content)} ".encode() + content)
    return total.hexdigest()
