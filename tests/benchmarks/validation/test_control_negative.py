"""The explanation of the negative control finds simulated causes, and finds none if there are none."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from benchmarks.validation.control_negative import negative, why


def worlds(carried: float = 0.0, by_words: float = 0.0, count: int = 20) -> pd.DataFrame:
    """Worlds of 40 terms. carried: slope of the outcome on the world's own x; by_words: effect of two words on x and y."""
    rows = []
    for world in range(count):
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


def shares(rows: pd.DataFrame) -> dict[str, float]:
    """The shares of rejections in the regressions of the first outcome, by their cause."""
    checks = [negative(rows)[0], *why(rows)[:4]]
    names = ("other_counted", "order", "other", "own", "own_counted")
    percent = [re.search(r"(\d+)%", check.result) for check in checks]
    return {name: int(found[1]) / 100 for name, found in zip(names, percent, strict=True) if found}


@pytest.mark.long
def test_without_causes_all_regressions_reject_at_their_level() -> None:
    assert max(shares(worlds()).values()) <= 0.15
    assert all(check.holds for check in negative(worlds()))


@pytest.mark.long
def test_transfer_on_the_own_x_is_no_false_positive() -> None:
    found = shares(worlds(carried=1.0))
    assert min(found["own"], found["own_counted"]) > 0.9
    assert max(found["order"], found["other"], found["other_counted"]) <= 0.15
    assert negative(worlds(carried=1.0))[0].holds


@pytest.mark.long
def test_an_effect_of_words_is_found_on_any_x_until_they_are_counted() -> None:
    found = shares(worlds(by_words=4.0))
    assert found["other"] > 0.5
    assert max(found["order"], found["other_counted"], found["own_counted"]) <= 0.15


def test_a_property_that_all_worlds_share_and_nobody_counts_is_rejected() -> None:
    """The control of the check: it fails where the words are not what x and y share."""
    rows = worlds(by_words=4.0, count=6)
    hidden = rows.assign(group=rows["group"].str.replace(" ", ""))
    assert not any(check.holds for check in negative(hidden) if "rejections" in check.control)


def test_without_runs_there_are_no_checks() -> None:
    assert negative(None) == why(None) == []
