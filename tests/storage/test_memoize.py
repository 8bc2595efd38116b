"""A cached value has the bits that were computed, and may disappear at any time."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch

from bias_transfer.spec import Measure
from bias_transfer.storage.formats import ARRAY, MEASURES, TOKENS, WEIGHTS
from bias_transfer.storage.memoize import find, memoized, put

TRICKY = (0.1 + 0.2, -0.0, math.nan, math.inf, 5e-324, 1 / 3)


def test_every_format_comes_back_with_the_same_bits(tmp_path):
    measures = [Measure("upstream", "m", "gay", "The {mask} is ü.", value, 3) for value in TRICKY]
    assert [*map(repr, again(tmp_path, MEASURES, measures))] == [*map(repr, measures)]
    for rows in ([[0, 70_000], [], [5]], []):
        assert again(tmp_path, TOKENS, rows) == rows
    array = np.array([TRICKY, TRICKY])
    assert again(tmp_path, ARRAY, array).tobytes() == array.tobytes()
    weights = {"a": torch.tensor(TRICKY), "b": torch.randn(3, 2).t()}
    found = again(tmp_path, WEIGHTS, weights)
    assert found.keys() == weights.keys()
    assert all(
        torch.equal(found[name].view(torch.int32), value.contiguous().view(torch.int32))
        for name, value in weights.items()
    )


def again(folder, kind, value):
    put(folder, kind, {"value": repr(value)}, value)
    return find(folder, kind, {"value": repr(value)})


def test_a_value_is_computed_once_and_may_be_deleted_or_damaged_at_any_time(tmp_path):
    computed = list[int]()

    def ask(folder=tmp_path) -> np.ndarray:
        return memoized(folder, ARRAY, {"of": "test"}, lambda: (computed.append(1), np.arange(3.0))[1])

    assert [ask().tolist() for _ in range(3)] == [[0.0, 1.0, 2.0]] * 3
    assert len(computed) == 1
    shutil.rmtree(tmp_path / "arrays")
    assert ask().tolist() == [0.0, 1.0, 2.0]
    assert len(computed) == 2
    (file,) = tmp_path.rglob("array.npy")
    file.write_bytes(b"torn")
    with pytest.warns(UserWarning, match="damaged and is made again"):
        assert ask().tolist() == [0.0, 1.0, 2.0]
    assert ask().tolist() == [0.0, 1.0, 2.0]
    assert len(computed) == 3
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file").tolist() == [0.0, 1.0, 2.0]  # no folder can be made there
