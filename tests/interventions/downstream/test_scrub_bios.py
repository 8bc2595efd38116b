"""Scrubbing biographies: exactly the share of the dose, the same places at every dose, and a control that keeps pronouns."""

from __future__ import annotations

import pytest
from datasets import Dataset

from bias_transfer.interventions.registry import downstream_arm
from bias_transfer.tasks.bios.gendered_words import visible
from bias_transfer.tasks.registry import find

ARM = downstream_arm("scrub", "bios", find("bios")[0])


@pytest.fixture(scope="module")
def train() -> Dataset:
    """40 with three words that tell, and 5 with none."""
    texts = [f"Ms. Day said that she knows number {row} and her town." for row in range(40)] + ["Nobody is here."] * 5
    rows = {"id": [f"b{row}" for row in range(45)], "text": texts, "label": [row % 2 for row in range(45)]}
    return Dataset.from_dict(rows | {"pronoun": ["she"] * 45, "name": ["Ana Day"] * 45})


def blanks(examples: Dataset) -> list[int]:
    return [text.split().count("_") + text.count("_.") for text in examples["text"]]


@pytest.mark.parametrize("dose", [0.25, 0.5, 1.0])
def test_it_scrubs_exactly_its_share(train, dose):
    after = ARM.apply(train, dose, ARM.options(), 0)
    shown = [visible(text) for text in after["text"][:40]]
    assert shown.count((0, 0)) == 40 * dose
    assert shown.count((3, 0)) == 40 - 40 * dose
    assert sorted(set(blanks(after)[:40])) == [0, 4][dose == 1.0 :], "three and the name"
    for name in ("id", "label", "pronoun", "name"):
        assert after[name] == train[name]
    assert after["text"][40:] == train["text"][40:]


def test_a_smaller_dose_scrubs_a_part_of_what_a_larger_does(train):
    texts = [ARM.apply(train, dose, ARM.options(), 3)["text"] for dose in (0.3, 0.6, 1.0)]
    done = [{row for row, text in enumerate(column) if "_" in text} for column in texts]
    assert done[0] < done[1] < done[2]


@pytest.mark.parametrize("dose", [0.5, 1.0])
def test_the_control_blanks_as_many_other_words_of_the_same(train, dose):
    scrubbed, control = (ARM.apply(train, dose, ARM.options(control=on), 0) for on in (False, True))
    assert blanks(control) == blanks(scrubbed)
    assert {visible(text) for text in control["text"][:40]} == {(3, 0)}
    assert control["text"] != ARM.apply(train, dose, ARM.options(control=True), 1)["text"]


def test_the_control_is_the_same_at_every_dose(train):
    half, whole = (ARM.apply(train, dose, ARM.options(control=True), 0)["text"] for dose in (0.5, 1.0))
    assert all(one == other for one, other in zip(half, whole, strict=True) if "_" in one)


def test_without_names():
    rows = {"id": ["1"], "text": ["Ana said she left"], "label": [0], "pronoun": ["she"]}
    assert ARM.apply(Dataset.from_dict(rows), 1.0, ARM.options(), 0)["text"] == ["Ana said _ left"]
