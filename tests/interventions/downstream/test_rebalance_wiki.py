"""Rebalancing comments: terms' toxic shares come down to the set's, by dropping toxic comments or adding others."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import downstream_arm
from bias_transfer.tasks.registry import find
from bias_transfer.tasks.wiki.identity_terms import mentioned

ARM = downstream_arm("rebalance", "wiki", find("wiki")[0])
DIXON = Path(__file__).parents[4] / "shared" / "data" / "wiki" / "dixon_added_nontoxic.csv"

ROWS = [
    ("a gay man", 1, 20),
    ("so gay", 0, 20),
    ("my deaf dog", 1, 1),
    ("the deaf", 0, 19),
    ("fool", 1, 29),
    ("hi", 0, 111),
]
"""Text, label, how many: a quarter of 200 is toxic, of "gay" a half, of "deaf" a twentieth."""


def dataset(rows: list[tuple[str, int, int]]) -> Dataset:
    flat = [(text, label) for text, label, count in rows for _ in range(count)]
    return Dataset.from_dict(
        {"id": [f"c{row}" for row in range(len(flat))], "text": [t for t, _ in flat], "label": [y for _, y in flat]}
    )


@pytest.fixture(scope="module")
def train() -> Dataset:
    return dataset(ROWS)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("added") / "added.csv"
    lines = [f"{'word ' * (row % 9)}gay number {row},0" for row in range(60)]
    lines += ["a deaf dog,0", "gay fool,1", "muslim,0"]
    lines += [f"{'other ' * (row % 9)}and nobody {row},0" for row in range(60)]
    path.write_text("\n".join(["comment,is_toxic", *lines]))
    return str(path)


def counts(examples: Dataset, term: str) -> tuple[int, int]:
    labels = [y for text, y in zip(examples["text"], examples["label"], strict=True) if term in mentioned(text)]
    return sum(labels), len(labels) - sum(labels)


@pytest.mark.parametrize(("dose", "left"), [(0.0, 20), (0.5, 14), (1.0, 7)])
def test_dropping_by_hand(train, dose, left):
    """A third as many toxic as others is a quarter: 20 - 20/3 = 13 are too many."""
    after = ARM.apply(train, dose, ARM.options(), 0)
    assert counts(after, "gay") == (left, 20)
    assert counts(after, "deaf") == (1, 19), "is below the set's share, and left"
    assert len(train) - len(after) == 20 - left
    assert set(after["id"]) <= set(train["id"])


@pytest.mark.parametrize(("dose", "added"), [(0.0, 0), (0.5, 20), (1.0, 40)])
def test_adding_by_hand(train, file, dose, added):
    """Three others to a toxic one: 60 are needed, and 20 are there."""
    after = ARM.apply(train, dose, ARM.options(file=file), 0)
    assert counts(after, "gay") == (20, 20 + added)
    assert len(after) == len(train) + added
    assert all("gay" in text for text in after["text"][len(train) :])
    assert not any(after["label"][len(train) :])
    assert len(set(after["id"])) == len(after)


@pytest.mark.parametrize("added", [False, True])
def test_a_smaller_dose_acts_on_a_part_of_what_a_larger_does(train, file, added):
    for control in (False, True):
        options = ARM.options(file=file if added else None, control=control)
        changed = [set(train["id"]) ^ set(ARM.apply(train, dose, options, 3)["id"]) for dose in (0.3, 0.6, 1.0)]
        assert changed[0] < changed[1] < changed[2]


def test_the_control_of_dropping_drops_as_many_toxic_ones_that_mention_none(train):
    after = ARM.apply(train, 1.0, ARM.options(control=True), 0)
    assert counts(after, "gay") == (20, 20)
    assert len(after) == len(train) - 13
    assert sum(after["label"]) == sum(train["label"]) - 13


def test_the_control_of_adding_adds_as_many_of_the_same_lengths_that_mention_none(train, file):
    treated, control = (ARM.apply(train, 0.5, ARM.options(file=file, control=on), 0) for on in (False, True))
    assert len(treated) == len(control)
    new = control["text"][len(train) :]
    assert not [text for text in new if mentioned(text)]
    lengths = [[len(text.split()) for text in made["text"][len(train) :]] for made in (treated, control)]
    assert lengths[0] == lengths[1]
    assert sum(control["label"]) == sum(train["label"])


def test_a_control_that_lacks_comments_says_so(train, file, tmp_path):
    few = dataset([*ROWS[:4], ("fool", 1, 3), ("hi", 0, 60)])
    with pytest.raises(UserError, match=r"control: \d+ toxic comments .* there are 3\. Lower downstream_dose"):
        ARM.apply(few, 1.0, ARM.options(control=True), 0)
    only = tmp_path / "only.csv"
    only.write_text("comment,is_toxic\n" + "\n".join(f"gay {row},0" for row in range(50)))
    with pytest.raises(UserError, match=r"has 0\. Set downstream\.control_file to a file that has more"):
        ARM.apply(train, 1.0, ARM.options(file=str(only), control=True), 0)
    after = ARM.apply(train, 1.0, ARM.options(file=str(only), control=True, control_file=file), 0)
    assert len(after) == len(train) + 40


def test_terms_that_the_file_lacks_are_listed(train, file):
    more = dataset([*ROWS, ("a blind man", 1, 8), ("a muslim", 1, 3)])
    (note,) = ARM.notes(more, ARM.options(file=file))
    assert note.endswith("too few comments on 2 terms, whose toxic share stays higher: muslim, blind.")
    assert ARM.notes(train, ARM.options(file=file)) == ARM.notes(more, ARM.options()) == []


def test_options_name_files_by_their_content(file, tmp_path):
    copy = tmp_path / "copy.csv"
    copy.write_bytes(Path(file).read_bytes())
    first, second = (ARM.options(file=str(path)).resolved() for path in (file, copy))
    assert first.file_digest == second.file_digest
    assert ARM.options().resolved() == ARM.options()
    with pytest.raises(UserError, match=r"downstream\.file 'nowhere\.csv': no such file"):
        ARM.options(file="nowhere.csv").resolved()
    with pytest.raises(UserError, match="control_file has no effect without"):
        ARM.options(file=file, control_file=file).resolved()


def test_with_the_added_comments_of_dixon_et_al(train):
    if not DIXON.is_file():
        pytest.skip(f"no added comments at {DIXON}")
    after = ARM.apply(train, 1.0, ARM.options(file=str(DIXON)), 0)
    assert counts(after, "gay") == (20, 60)
