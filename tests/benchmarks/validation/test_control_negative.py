"""What explains the negative control finds planted causes, and none where there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.validation.control_negative import why


def worlds(carried: float = 0.0, by_words: float = 0.0) -> pd.DataFrame:
    """20 worlds of 40 terms. carried: slope of the outcome on the world's own x; by_words: what two words add to x and y."""
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
    """Rejections of the four regressions of the first outcome."""
    found = [check.found.split(" at ")[0].split(" of ") for check in why(rows)[:4]]
    return [int(count) / int(n) for count, n in found]


def test_nothing_is_one_in_twenty_everywhere() -> None:
    assert max(shares(worlds())) <= 0.15
    assert all(check.holds for check in why(worlds()))


def test_what_carries_over_is_found_on_the_own_x_alone() -> None:
    order, other, other_counted, own = shares(worlds(carried=1.0))
    assert own > 0.9
    assert max(order, other, other_counted) <= 0.15


def test_what_words_do_is_found_on_any_x_until_they_are_counted() -> None:
    order, other, other_counted, own = shares(worlds(by_words=4.0))
    assert other > 0.5
    assert max(order, other_counted, own) <= 0.15


def test_without_runs_there_is_nothing_to_say() -> None:
    assert why(None) == []
