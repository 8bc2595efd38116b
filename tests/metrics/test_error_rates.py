"""Error rates by hand, against fairlearn, and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate
from hypothesis import given
from hypothesis import strategies as st

from bias_transfer.metrics import error_rates
from bias_transfer.metrics.error_rates import Tally

TALLIES = st.dictionaries(
    st.sampled_from("abcde"),
    st.integers(1, 300).flatmap(lambda n: st.integers(0, n).map(lambda errors: Tally(errors, n))),
    min_size=1,
)


def phrases() -> tuple[np.ndarray, np.ndarray, dict[tuple[str, str], np.ndarray]]:
    """Two groups of 200 non-toxic phrases, of which 50 and 20 are called toxic, and 100 toxic ones, of which 30 are missed."""
    margins = np.concatenate(
        [
            np.where(np.arange(200) < 50, 1.0, -1.0),
            np.where(np.arange(200) < 20, 2.0, -2.0),
            np.where(np.arange(100) < 30, -9.0, 9.0),
        ]
    )
    labels = np.concatenate([np.zeros(400, int), np.ones(100, int)])
    terms = np.array(["gay"] * 200 + ["old"] * 200 + ["gay"] * 100)
    return margins, labels, {(term, ""): np.flatnonzero(terms == term) for term in ("gay", "old", "deaf")}


def false_positives(threshold: float = 0.0) -> dict[str, Tally]:
    return error_rates.pooled_by_group(error_rates.tallies(*phrases(), threshold, 0))


def test_rates_by_hand():
    found = {row.group: (row.value, row.n) for row in error_rates.rates("fpr", error_rates.tallies(*phrases(), 0.0, 0))}
    assert found["gay"] == (0.25, 200)
    assert found["old"] == (0.1, 200)
    missed = {row.group: row for row in error_rates.rates("fnr", error_rates.tallies(*phrases(), 0.0, 1))}
    assert (missed["gay"].value, missed["gay"].n) == (0.3, 100)
    for row in (missed["old"], missed["deaf"]):
        assert math.isnan(row.value)
        assert row.n == 0


def test_a_threshold_moves_the_predictions():
    assert false_positives(1.0)["gay"] == Tally(0, 200)
    assert false_positives(1.0)["old"] == Tally(20, 200)
    assert false_positives(-1.5)["gay"] == Tally(200, 200)


def test_a_missing_threshold_makes_all_missing():
    assert set(false_positives(math.nan).values()) == {Tally(0, 0)}


def test_a_margin_at_the_threshold_is_not_a_positive():
    assert error_rates.tallies(np.zeros(5), np.zeros(5, int), {("", ""): np.arange(5)}, 0.0, 0)["", ""] == Tally(0, 5)


def test_rates_are_fairlearns():
    random = np.random.default_rng(0)
    margins, labels, terms = random.normal(size=600), random.integers(0, 2, 600), random.choice(list("abcd"), 600)
    frame = MetricFrame(
        metrics={"fpr": false_positive_rate, "fnr": false_negative_rate},
        y_true=labels, y_pred=(margins > 0.3).astype(int), sensitive_features=terms,
    )  # fmt: skip
    rows = {("", ""): np.arange(600)} | {(term, ""): np.flatnonzero(terms == term) for term in "abcd"}
    for label, name in enumerate(("fpr", "fnr")):
        found = error_rates.tallies(margins, labels, rows, 0.3, label)
        assert {term: own.rate for term, own in error_rates.pooled_by_group(found).items()} == frame.by_group[
            name
        ].to_dict()
        assert found["", ""].rate == frame.overall[name]
        by_hand = sum(abs(frame.overall[name] - rate) for rate in frame.by_group[name])
        summed = error_rates.equality_difference("ed", error_rates.pooled_by_group(found), found["", ""])
        assert summed.value == pytest.approx(by_hand)
        assert summed.n == (labels == label).sum()


def test_ratios_by_hand():
    own = false_positives()
    found = {row.group: row for row in error_rates.log_ratios("log_fpr_ratio", own, error_rates.others(own))}
    expected = math.log(50.5 / 200.5) - math.log(20.5 / 200.5)
    assert found["gay"].value == pytest.approx(expected)
    assert found["old"].value == pytest.approx(-expected)
    assert math.isnan(found["deaf"].value)
    assert found["deaf"].n == 0


def test_a_ratio_to_a_small_base_is_missing():
    own = false_positives()
    (row, *_) = error_rates.log_ratios("log_fpr_ratio_natural", own, dict.fromkeys(own, Tally(3, 99)))
    assert math.isnan(row.value)
    assert row.n == 0
    (row, *_) = error_rates.log_ratios("log_fpr_ratio_natural", own, dict.fromkeys(own, Tally(3, 100)))
    assert row.value == pytest.approx(math.log(50.5 / 200.5) - math.log(3.5 / 100.5))
    assert row.n == 200


def test_logs_are_never_infinite_and_need_100():
    assert Tally(0, 757).log_rate == pytest.approx(math.log(0.5 / 757.5))
    assert Tally(757, 757).log_rate == 0
    assert math.isnan(Tally(50, 99).log_rate)
    assert not math.isnan(Tally(50, 100).log_rate)


def test_family_means_leave_small_families_out():
    found = {
        ("gay", ""): Tally(100, 751), ("gay", "name"): Tally(72, 720), ("gay", "being"): Tally(8, 16),
        ("gay", "verb"): Tally(15, 15), ("old", "verb"): Tally(1, 4), ("", "occupation"): Tally(5, 400),
    }  # fmt: skip
    gay, old = error_rates.family_means("fpr_families", found)
    assert (gay.group, gay.template, gay.value, gay.n) == ("gay", "", pytest.approx(0.3), 736)
    assert old.group == "old"
    assert math.isnan(old.value)
    assert old.n == 0


def test_an_equality_difference_by_hand():
    own = {"gay": Tally(50, 200), "old": Tally(20, 200)}
    found = error_rates.equality_difference("fped", own, Tally(70, 400))
    assert (found.value, found.n, found.group) == (pytest.approx(0.075 + 0.075), 400, "")


def test_an_equality_difference_with_an_empty_group_is_missing():
    found = error_rates.equality_difference("fped", {"gay": Tally(5, 10), "deaf": Tally(0, 0)}, Tally(5, 10))
    assert math.isnan(found.value)
    assert found.n == 0


@given(TALLIES)
def test_an_equality_difference_is_0_only_for_equal_rates(own):
    whole = Tally(sum(tally.errors for tally in own.values()), sum(tally.n for tally in own.values()))
    found = error_rates.equality_difference("fped", own, whole)
    assert 0 <= found.value <= len(own)
    assert (found.value == 0) == all(tally.errors * whole.n == whole.errors * tally.n for tally in own.values())


@given(TALLIES)
def test_others_are_all_groups_but_one(own):
    for group, rest in error_rates.others(own).items():
        assert rest.errors == sum(tally.errors for name, tally in own.items() if name != group)
        assert rest.n == sum(tally.n for name, tally in own.items() if name != group)


@given(TALLIES)
def test_no_ratio_is_infinite(own):
    for row in error_rates.log_ratios("log_fpr_ratio", own, error_rates.others(own)):
        assert not math.isinf(row.value)
        assert (row.n == 0) == math.isnan(row.value)
