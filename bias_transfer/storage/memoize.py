"""What several trials compute alike, kept in the cache by all that decides it: a kept value is the computed one, bit for bit.

No process waits for another: two that miss the same value at once compute it twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bias_transfer.storage import cache
from bias_transfer.models.batching import Tokens
from bias_transfer.spec import Measure
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest

Value = TypeVar("Value")

Deciding = Mapping[str, Any]
"""Everything that a value depends on, as JSON: `deciding.py` has what most depend on."""


@dataclass(frozen=True)
class Kind(Generic[Value]):
    """How values of a kind are written to a folder and read again, with the same bits."""

    name: str
    """Of the cache's folder."""
    write: Callable[[Path, Value], None]
    read: Callable[[Path], Value]


def remembered(folder: Path, kind: Kind[Value], deciding: Deciding, compute: Callable[[], Value]) -> Value:
    """The value that was kept in the cache `folder`, or else what `compute` returns, which is then kept."""
    found = find(folder, kind, deciding)
    return keep(folder, kind, deciding, compute()) if found is None else found


def find(folder: Path, kind: Kind[Value], deciding: Deciding) -> Value | None:
    """The value that was kept, if one was."""
    if found := cache.find(folder, kind.name, _key(deciding)):
        with suppress(OSError):  # it was deleted in this moment
            return kind.read(found)
    return None


def keep(folder: Path, kind: Kind[Value], deciding: Deciding, value: Value) -> Value:
    """The value itself. A cache that cannot be written is done without."""
    with suppress(UserError):
        cache.entry(folder, kind.name, _key(deciding), lambda target: kind.write(target, value))
    return value


def _key(deciding: Deciding) -> str:
    return digest(deciding)[:32]


def _write_measures(folder: Path, measures: list[Measure]) -> None:
    (folder / "measures.json").write_text(json.dumps([[*asdict(row).values()] for row in measures]))


def _read_measures(folder: Path) -> list[Measure]:
    return [Measure(*row) for row in json.loads((folder / "measures.json").read_text())]


def _write_tokens(folder: Path, rows: Tokens) -> None:
    np.save(folder / "ids.npy", np.array([token for row in rows for token in row], dtype=np.int32))
    np.save(folder / "ends.npy", np.cumsum([len(row) for row in rows], dtype=np.int64))


def _read_tokens(folder: Path) -> Tokens:
    ids, ends = np.load(folder / "ids.npy").tolist(), np.load(folder / "ends.npy").tolist()
    return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _write_array(folder: Path, array: np.ndarray) -> None:
    np.save(folder / "array.npy", array)


def _read_array(folder: Path) -> np.ndarray:
    return np.asarray(np.load(folder / "array.npy"))


def _write_weights(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()},
        folder / "weights.safetensors",
    )


def _read_weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


MEASURES = Kind("measures", _write_measures, _read_measures)
TOKENS = Kind("tokens", _write_tokens, _read_tokens)
ARRAY = Kind("arrays", _write_array, _read_array)
WEIGHTS = Kind("weights", _write_weights, _read_weights)
