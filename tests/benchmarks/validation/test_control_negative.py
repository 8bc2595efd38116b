"""The explanation of the negative control finds simulated causes, and finds none if there are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.validation.control_negative import why


def worlds(carried: float = 0.0, by_words: float = 0.0) -> pd.DataFrame:
    """20 worlds of 40 terms. carried: slope of the outcome on the world's own x; by_words: effect of two words on x and y."""
    rows = []
    for world in range(20):
        draw = np.random.default_rng(world)
        two = np.arange(40) < 4
        x = draw.normal(size=40) + by_words * two
        y = carried * x + by_words * two + draw.normal(size=40)
        rows.append(
            pd.DataFrame(
                {
                    "data.world": world, "group": [f"two words{g}" if two[g] else f"one{g}" for g in range(40)],
                    "negative_sentiment": x, "logit_gap": y, "log_fpr": y,
                    "planted_direction": draw.permutation(np.linspace(-1, 1, 40)),
                }
            )
        )  # fmt: skip
    return pd.concat(rows)


def shares(rows: pd.DataFrame) -> list[float]:
    """The shares of rejections in the four regressions of the first outcome."""
    counts = [check.result.split(" at ")[0].split(" of ") for check in why(rows)[:4]]
    return [int(count) / int(n) for count, n in counts]


@pytest.mark.long
def test_without_causes_all_regressions_reject_at_their_level() -> None:
    assert max(shares(worlds())) <= 0.15
    assert all(check.holds for check in why(worlds()))


@pytest.mark.long
def test_transfer_is_found_only_on_the_worlds_own_x() -> None:
    order, other, other_counted, own = shares(worlds(carried=1.0))
    assert own > 0.9
    assert max(order, other, other_counted) <= 0.15


@pytest.mark.long
def test_an_effect_of_words_is_found_on_any_x_until_adjusted_for() -> None:
    order, other, other_counted, own = shares(worlds(by_words=4.0))
    assert other > 0.5
    assert max(order, other_counted, own) <= 0.15


def test_without_runs_there_are_no_checks() -> None:
    assert why(None) == []
