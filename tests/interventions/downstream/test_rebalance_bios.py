"""Rebalancing biographies: equal counts at dose 1, part of the way below it, and occupations with one pronoun left alone."""

from __future__ import annotations

from collections import Counter

import pytest
from datasets import Dataset

from bias_transfer.interventions.registry import downstream_arm
from bias_transfer.tasks.registry import find

ARM = downstream_arm("rebalance", "bios", find("bios")[0])
COUNTS = {0: (4, 14), 1: (20, 10), 2: (5, 5), 3: (7, 0)}
"""Label -> (she, he)."""


@pytest.fixture(scope="module")
def train() -> Dataset:
    rows = [
        (label, pronoun)
        for label, counts in COUNTS.items()
        for pronoun, count in zip(("she", "he"), counts, strict=True)
        for _ in range(count)
    ]
    return Dataset.from_dict(
        {
            "id": [f"b{row}" for row in range(len(rows))],
            "text": [f"text {row}" for row in range(len(rows))],
            "label": [label for label, _ in rows],
            "pronoun": [pronoun for _, pronoun in rows],
        }
    )


def counts(examples: Dataset) -> dict[int, tuple[int, int]]:
    frequencies = Counter(zip(examples["label"], examples["pronoun"], strict=True))
    return {label: (frequencies[label, "she"], frequencies[label, "he"]) for label in COUNTS}


@pytest.mark.parametrize(
    ("method", "dose", "expected"),
    [
        ("subsample", 1.0, {0: (4, 4), 1: (10, 10), 2: (5, 5), 3: (7, 0)}),
        ("subsample", 0.5, {0: (4, 9), 1: (15, 10), 2: (5, 5), 3: (7, 0)}),
        ("oversample", 1.0, {0: (14, 14), 1: (20, 20), 2: (5, 5), 3: (7, 0)}),
        ("oversample", 0.5, {0: (9, 14), 1: (20, 15), 2: (5, 5), 3: (7, 0)}),
    ],
)
def test_counts_by_hand(train, method, dose, expected):
    after = ARM.apply(train, dose, ARM.options(method=method), 0)
    assert counts(after) == expected
    assert len(set(after["id"])) == len(after)
    if method == "subsample":
        assert set(after["id"]) < set(train["id"])


def test_repeated_ones_have_ids_of_their_own_and_are_spread(train):
    after = ARM.apply(train, 1.0, ARM.options(method="oversample"), 0)
    assert after["id"][: len(train)] == train["id"]
    extra = after.select(range(len(train), len(after)))
    original = dict(zip(train["id"], train["text"], strict=True))
    assert [original[name.split("#")[0]] for name in extra["id"]] == extra["text"]
    times = Counter(name.split("#")[0] for name, label in zip(extra["id"], extra["label"], strict=True) if label == 0)
    assert sorted(times.values()) == [2, 2, 3, 3], "ten repeats of four"
    assert {name.split("#")[1] for name in extra["id"]} == {"2", "3", "4"}


@pytest.mark.parametrize("method", ["subsample", "oversample"])
def test_a_smaller_dose_acts_on_a_part_of_what_a_larger_does(train, method):
    for control in (False, True):
        options = ARM.options(method=method, control=control)
        changed = [set(train["id"]) ^ set(ARM.apply(train, dose, options, 3)["id"]) for dose in (0.3, 0.6, 1.0)]
        assert changed[0] < changed[1] < changed[2]


@pytest.mark.parametrize("method", ["subsample", "oversample"])
def test_the_control_has_the_same_counts_whatever_the_pronoun(train, method):
    treated, control = (ARM.apply(train, 1.0, ARM.options(method=method, control=on), 0) for on in (False, True))
    assert Counter(treated["label"]) == Counter(control["label"])
    assert counts(treated) != counts(control)
    touched = set(train["id"]) ^ set(control["id"])
    if method == "oversample":
        touched = {name.split("#")[0] for name in touched}
    pronouns = dict(zip(train["id"], train["pronoun"], strict=True))
    labels = dict(zip(train["id"], train["label"], strict=True))
    assert {pronouns[name] for name in touched if labels[name] == 1} == {"she", "he"}


def test_what_has_one_pronoun_only_is_listed(train):
    (note,) = ARM.notes(train, ARM.options())
    assert note == "rebalance left alone the occupations that have one pronoun only: chiropractor."
    assert ARM.notes(train.filter(lambda row: row["label"] != 3), ARM.options()) == []
