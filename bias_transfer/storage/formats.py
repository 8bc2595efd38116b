"""The kinds of values that are memoized, and how each is written to a folder and read again, with the same bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bias_transfer.models.batching import Tokens
from bias_transfer.spec import Measure
from bias_transfer.storage.memoize import Format


def _write_measures(folder: Path, measures: list[Measure]) -> None:
    (folder / "measures.json").write_text(json.dumps([[*asdict(row).values()] for row in measures]))


def _read_measures(folder: Path) -> list[Measure]:
    return [Measure(*row) for row in json.loads((folder / "measures.json").read_text())]


def _write_tokens(folder: Path, rows: Tokens) -> None:
    # One flat array and the end of each row: a file per row would be slow, and a list of lists in JSON five times as large.
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
    # Tied weights are written once per name: safetensors refuses tensors that share memory.
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()},
        folder / "weights.safetensors",
    )


def _read_weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


MEASURES = Format("measures", _write_measures, _read_measures)
TOKENS = Format("tokens", _write_tokens, _read_tokens)
ARRAY = Format("arrays", _write_array, _read_array)
WEIGHTS = Format("weights", _write_weights, _read_weights)
