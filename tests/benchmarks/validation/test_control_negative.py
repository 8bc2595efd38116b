"""The negative control is judged on another world's x, and its interval knows that pairs share worlds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.stats.dyads import dyadic
from benchmarks.validation.control_checks import Check
from benchmarks.validation.control_negative import negative, share_interval, why


def worlds(carried: float = 0.0, by_words: float = 0.0, by_all: float = 0.0, count: int = 20) -> pd.DataFrame:
    """Worlds of 40 terms. carried: slope of the outcome on the world's own x; by_words: effect of two words on x and y; by_all:
    effect on both of a property of the terms that all worlds share and nobody counts."""
    shared = np.random.default_rng(99).normal(size=40)
    rows = []
    for world in range(count):
        draw = np.random.default_rng(world)
        two = np.arange(40) < 4
        x = draw.normal(size=40) + by_words * two + by_all * shared
        y = carried * (x - by_all * shared) + by_words * two + by_all * shared + draw.normal(size=40)
        rows.append(
            pd.DataFrame(
                {
                    "data.world": world, "group": [f"two words{g}" if two[g] else f"one{g}" for g in range(40)],
                    "negative_sentiment": x, "logit_gap": y, "log_fpr": 0.05 * y,
                    "planted_direction": draw.permutation(np.linspace(-1, 1, 40)),
                }
            )
        )  # fmt: skip
    return pd.concat(rows)


def share(check: Check) -> float:
    """The share of rejections."""
    count, n = check.result.split(" at ")[0].split(" of ")
    return int(count) / int(n)


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {
        check.control.partition(": ")[2].replace("logit_gap ", ""): check
        for check in checks
        if "log_fpr" not in check.control
    }


def test_transfer_of_what_a_world_learned_by_accident_does_not_fail_the_control():
    """The criterion of before took each of these slopes for a false positive."""
    rows = worlds(carried=1.0, count=8)
    assert all(check.holds for check in negative(rows))
    own = by_name(why(rows))["on its own x"]
    assert share(own) > 0.9
    assert (own.criterion, own.fixed) == ("none: learned by accident, carried over", False)
    assert "mean slope +0.9" in own.result


def test_a_property_of_terms_that_nobody_counts_fails_the_control():
    judged = negative(worlds(by_all=1.0, count=8))
    assert [check.holds for check in judged[:2]] == [False, False]
    assert all(check.fixed for check in judged)


def test_words_are_counted():
    rows = worlds(by_words=4.0, count=8)
    assert all(check.holds for check in negative(rows)[:2])
    assert share(by_name(why(rows))["on another world's x"]) > 0.5


def test_the_other_covariates_are_held_fixed_where_they_were_recorded():
    rows = worlds(by_all=1.0, count=8)
    shared = np.tile(np.random.default_rng(99).normal(size=40), 8)
    recorded = rows.assign(name_tokens=shared, name_log_frequency=np.tile(np.arange(40.0) % 7, 8))
    assert share(by_name(why(recorded))["on another world's x, all that B holds fixed"]) < 0.15
    assert "on another world's x, all that B holds fixed" not in by_name(why(rows))


def test_the_interval_is_over_worlds_and_not_over_pairs():
    """One world of 20 is rejected on all others' x: 19 of 380 pairs, and one world."""
    rejected = np.zeros((20, 20))
    rejected[3] = 1.0
    found = dyadic(rejected)
    low, high = share_interval(found)
    assert (found.mean, low) == (pytest.approx(0.05), 0.0)
    assert high > 0.13
    assert stats.binomtest(19, 380).proportion_ci().high < 0.08  # pairs as if they were independent
    none = share_interval(dyadic(np.zeros((20, 20))))
    assert none == pytest.approx((0, 0.168), abs=0.001)  # no rejection in 20 worlds is no certainty


@pytest.mark.long
def test_without_causes_all_regressions_reject_at_their_level() -> None:
    rows = worlds()
    assert all(check.holds for check in [*negative(rows), *why(rows)])
    assert max(share(check) for check in [*negative(rows)[:2], *why(rows)]) <= 0.15


def test_without_runs_there_are_no_checks() -> None:
    assert why(None) == negative(None) == []
