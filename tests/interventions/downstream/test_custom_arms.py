"""Scrub and rebalance for custom tasks: by any groups and any harmful class."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import downstream_arm
from bias_transfer.tasks.registry import find

FIELDS = {
    "name": "clubs", "text": "text", "label": "verdict", "classes": ["remove", "ask", "keep"], "harmful": "remove",
    "templates": {"The {group} is {mask}.": "The person is {mask}."},
}  # fmt: skip
KINDS = {
    "terms": {"terms": ["baker", "rower", "skater"]},
    "column": {"group": "club", "groups": ["baker", "rower", "skater"]},
}
REMOVE, ASK, KEEP = 0, 1, 2

ROWS = [
    ("baker", REMOVE, 20), ("baker", ASK, 10), ("baker", KEEP, 10), ("rower", REMOVE, 1), ("rower", KEEP, 19),
    ("", REMOVE, 29), ("", KEEP, 111),
]  # fmt: skip
"""Group, label, how many: a quarter of 200 is to be removed, of the bakers a half, of the rowers a twentieth."""


@pytest.fixture(params=KINDS)
def path(request, tmp_path):
    file = tmp_path / "clubs.yaml"
    file.write_text(json.dumps({**FIELDS, **KINDS[request.param]}))
    return str(file)


def dataset(rows=ROWS) -> Dataset:
    flat = [(group, label) for group, label, count in rows for _ in range(count)]
    return Dataset.from_dict(
        {
            "id": [f"e{row}" for row in range(len(flat))],
            "text": [f"A {group or 'person'} came by." for group, _ in flat],
            "label": [label for _, label in flat],
            "group": [group for group, _ in flat],
        }
    )


def counts(examples: Dataset, group: str) -> list[int]:
    labels = [label for name, label in zip(examples["group"], examples["label"], strict=True) if name == group]
    return [labels.count(label) for label in (REMOVE, ASK, KEEP)]


@pytest.mark.parametrize(("dose", "left"), [(0.0, 21), (0.5, 11), (1.0, 0)])
def test_scrub_removes_its_share_of_the_harmful_that_belong_to_a_group(path, dose, left):
    """Of 21, round(10.5) = 10 go."""
    arm = downstream_arm("scrub", path, find(path)[0])
    after = arm.apply(dataset(), dose, arm.options(), 0)
    assert counts(after, "baker")[REMOVE] + counts(after, "rower")[REMOVE] == left
    assert counts(after, "baker")[1:] == [10, 10]
    assert counts(after, "") == counts(dataset(), "")


@pytest.mark.parametrize(("dose", "left"), [(0.0, 20), (0.5, 14), (1.0, 7)])
def test_rebalance_brings_a_group_to_the_sets_share(path, dose, left):
    """A third as many harmful as others is a quarter: of 20, 20/3 stay, and the rowers, below it, are left alone."""
    arm = downstream_arm("rebalance", path, find(path)[0])
    after = arm.apply(dataset(), dose, arm.options(), 0)
    assert counts(after, "baker") == [left, 10, 10]
    assert counts(after, "rower") == counts(dataset(), "rower")
    assert counts(after, "") == counts(dataset(), "")


@pytest.mark.parametrize(("name", "gone"), [("scrub", 21), ("rebalance", 13)])
def test_a_control_removes_as_many_harmful_ones_of_no_group(name, gone, path):
    arm = downstream_arm(name, path, find(path)[0])
    after = arm.apply(dataset(), 1.0, arm.options(control=True), 0)
    assert counts(after, "baker") == counts(dataset(), "baker")
    assert counts(after, "") == [29 - gone, 0, 111]
    few = [row for row in ROWS if row[:2] != ("", REMOVE)]
    message = r"control: \d+ examples of the class 'remove' that belong to no group are needed, and there are 0. Lower"
    with pytest.raises(UserError, match=message):
        arm.apply(dataset(few), 1.0, arm.options(control=True), 0)


@pytest.mark.parametrize("name", ["scrub", "rebalance"])
def test_the_draw_follows_the_seed_and_a_smaller_dose_is_a_part(name, path):
    arm, train = downstream_arm(name, path, find(path)[0]), dataset()
    first, again, other = (arm.apply(train, 0.5, arm.options(), seed).to_dict() for seed in (0, 0, 1))
    assert first == again != other
    remaining = [set(arm.apply(train, dose, arm.options(), 3)["id"]) for dose in (0.3, 0.6, 1.0)]
    assert remaining[0] > remaining[1] > remaining[2]
    assert arm.apply(train, 1.0, arm.options(), 0).features == train.features


def test_an_unknown_arm_and_wikis_options_are_refused(path):
    with pytest.raises(UserError, match="Did you mean 'scrub'"):
        downstream_arm("scrubb", path, find(path)[0])
    assert set(downstream_arm("rebalance", path, find(path)[0]).options.model_fields) == {"control"}
    assert downstream_arm("none", path, find(path)[0]).apply(dataset(), 1.0, None, 0).to_dict() == dataset().to_dict()


def test_inject_plants_by_the_templates_with_the_shares_asked_for(path):
    plant = find(path)[0].plant
    sentences = plant({"baker": 1.0, "rower": 0.25, "skater": 0.0}, 300, 5)
    negative = {group: [s for s in sentences if group in s] for group in ("baker", "rower", "skater")}
    from bias_transfer.tasks.wiki.vocabulary import NEGATIVE

    shares = {
        group: sum(any(word in s for word in NEGATIVE) for s in texts) / len(texts) for group, texts in negative.items()
    }
    assert shares == {"baker": 1.0, "rower": 0.25, "skater": 0.0}
    assert plant({"baker": 1.0, "rower": 0.25, "skater": 0.0}, 300, 5) == sentences
    mirrored = plant({"baker": 0.0, "rower": 0.75, "skater": 1.0}, 300, 5)
    assert [s.split()[1] for s in mirrored] == [s.split()[1] for s in sentences], "the same groups in the same order"
