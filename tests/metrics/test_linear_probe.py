"""The fresh linear probe: certain where a direction tells the sides apart, at chance where they are the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bias_transfer.metrics.linear_probe import linear_probe

RANDOM = np.random.default_rng(0)


def values(states: np.ndarray) -> dict[str, tuple[float, int]]:
    return {row.metric: (row.value, row.n) for row in linear_probe(states, "upstream")}


@pytest.mark.parametrize("sides", [2, 3])
def test_known_answers(sides):
    shared = np.repeat(RANDOM.standard_normal((50, 1, 6)), sides, axis=1)
    assert values(shared) == {
        "fitted_probe_accuracy": (pytest.approx(1 / sides), 50 * sides),
        "heldout_probe_accuracy": (pytest.approx(1 / sides), 50 * sides),
    }
    apart = shared + 9 * np.eye(sides, 6)[None]
    assert [value for value, _ in values(apart).values()] == [1, 1]


def test_a_wide_probe_of_few_noisy_sentences_fits_what_it_does_not_find_in_others():
    noise = values(RANDOM.standard_normal((20, 2, 60)))
    assert noise["fitted_probe_accuracy"][0] == 1
    assert noise["heldout_probe_accuracy"][0] < 0.75


def test_what_cannot_be_probed_is_missing():
    states = RANDOM.standard_normal((20, 2, 3))
    states[3, 0, 1] = np.nan
    for unusable in (states, states[:4]):
        assert all(math.isnan(value) and n == 0 for value, n in values(unusable).values())
