"""Reweight: independence in the weighted set, equal cells with `joint`, and a control of the same weights."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter

import pytest
from datasets import Dataset

from bias_transfer import pipeline, provenance
from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import downstream_arm
from bias_transfer.resolved import resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.base import WEIGHT
from bias_transfer.tasks.bios.task import BIOS
from bias_transfer.tasks.registry import find
from bias_transfer.tasks.wiki.task import WIKI

CELLS = {("she", 0): 6, ("she", 1): 2, ("he", 0): 2, ("he", 1): 10}
"""(pronoun, label) -> how many, of 20."""


def biographies(cells=CELLS) -> Dataset:
    rows = [cell for cell, count in cells.items() for _ in range(count)]
    return Dataset.from_dict(
        {
            "id": [f"b{number}" for number in range(len(rows))],
            "text": [f"{pronoun} is here" for pronoun, _ in rows],
            "label": [label for _, label in rows],
            "pronoun": [pronoun for pronoun, _ in rows],
        }
    )


def treated(task="bios", train=None, dose=1.0, seed=0, **options) -> Dataset:
    arm = downstream_arm("reweight", task, find(task)[0])
    return arm.apply(biographies() if train is None else train, dose, arm.options(**options), seed)


def mass(train: Dataset, *columns: str) -> Counter:
    """Values of the columns -> the sum of the weights."""
    rows = zip(*(train[name] for name in columns), train[WEIGHT], strict=True)
    total = Counter()
    for *values, weight in rows:
        total[tuple(values)] += weight
    return total


def test_group_and_label_are_independent_in_the_weighted_set_by_hand():
    """She and label 0 are 8 of 20 each, so that 20 x .4 x .4 = 3.2 of the weight is theirs; each of the six has 8/15."""
    expected = {("she", 0): 3.2, ("she", 1): 4.8, ("he", 0): 4.8, ("he", 1): 7.2}
    assert mass(treated(), "pronoun", "label") == pytest.approx(expected)
    assert treated()[WEIGHT][0] == pytest.approx(8 / 15)


@pytest.mark.parametrize("dose", [0.25, 1.0])
@pytest.mark.parametrize("options", [{}, {"joint": True}, {"control": True}], ids=str)
def test_the_mean_is_1_at_every_dose_and_no_example_comes_or_goes(options, dose):
    after = treated(dose=dose, **options)
    assert math.fsum(after[WEIGHT]) / len(after) == pytest.approx(1, abs=1e-12)
    assert min(after[WEIGHT]) > 0
    assert after.remove_columns(WEIGHT).to_dict() == biographies().to_dict()


def test_joint_makes_all_cells_equal():
    assert [*mass(treated(joint=True), "pronoun", "label").values()] == pytest.approx([5.0] * 4)


def test_an_empty_cell_leaves_the_mean_at_1():
    after = treated(train=biographies({("she", 0): 3, ("he", 1): 5, ("he", 0): 2}))
    assert math.fsum(after[WEIGHT]) == pytest.approx(10)


def test_a_dose_is_the_way_from_1_to_the_weight():
    full, half = treated()[WEIGHT], treated(dose=0.5)[WEIGHT]
    assert [*half] == pytest.approx([1 + 0.5 * (weight - 1) for weight in full])


def test_the_control_has_the_same_weights_in_each_label_and_not_the_same_groups():
    arm, control = treated(), treated(control=True)
    for label in (0, 1):
        of_label = [
            sorted(w for w, y in zip(after[WEIGHT], after["label"], strict=True) if y == label)
            for after in (arm, control)
        ]
        assert of_label[0] == of_label[1]
    assert mass(arm, "label") == pytest.approx(mass(control, "label"))
    assert mass(arm, "pronoun", "label") != pytest.approx(mass(control, "pronoun", "label"))
    assert [*treated(control=True, seed=1)[WEIGHT]] != [*control[WEIGHT]]
    half = treated(control=True, dose=0.5)[WEIGHT]
    assert [*half] == pytest.approx([1 + 0.5 * (weight - 1) for weight in control[WEIGHT]])


COMMENTS = Dataset.from_dict(
    {
        "id": [str(number) for number in range(12)],
        "text": ["a gay fool"] * 3 + ["gay pride"] + ["a fool"] * 2 + ["hello"] * 6,
        "label": [1] * 3 + [0] + [1] * 2 + [0] * 6,
    }
)


def test_on_wiki_a_group_is_whether_a_comment_names_a_term():
    after = treated("wiki", COMMENTS)
    assert len({*zip(after["text"], after[WEIGHT], strict=True)}) == 4
    assert after[WEIGHT][0] == pytest.approx((4 / 12) * (5 / 12) / (3 / 12))


def share(task, metric: int, train: Dataset) -> dict[str, float]:
    return {row.group: row.value for row in task.dataset[metric](train) if row.n}


def test_dataset_bias_sees_the_weights():
    """The weighted share is that of the set: for every occupation, and for comments that name a term."""
    assert share(BIOS, 0, treated()) == pytest.approx({"accountant": 0.4, "architect": 0.4, "": 0.4})
    assert share(BIOS, 0, biographies()) == pytest.approx({"accountant": 0.75, "architect": 2 / 12, "": 0.4})
    assert share(BIOS, 1, treated())["accountant"] == pytest.approx(0.4)
    assert share(WIKI, 0, treated("wiki", COMMENTS)) == pytest.approx({"gay": 5 / 12, "": 5 / 12})
    assert share(WIKI, 0, COMMENTS) == pytest.approx({"gay": 3 / 4, "": 5 / 12})


FIELDS = {
    "name": "clubs", "text": "text", "label": "verdict", "classes": ["keep", "remove"], "harmful": "remove",
    "templates": {"The {group} is {mask}.": "The person is {mask}."}, "terms": ["baker", "rower"],
}  # fmt: skip


def test_a_custom_tasks_groups_must_be_disjoint(tmp_path):
    file = tmp_path / "clubs.yaml"
    file.write_text(json.dumps(FIELDS))
    texts = ["a baker", "a baker", "a rower", "nobody"]
    train = Dataset.from_dict({"id": list("abcd"), "text": texts, "label": [1, 0, 0, 0]})
    after = treated(str(file), train)
    # P(g) P(y) / P(g, y): (2/4)(1/4)/(1/4) = 1/2 and 3/2 for the bakers, 3/4 for the others. The mean is 7/8.
    assert [*after[WEIGHT]] == pytest.approx([4 / 7, 12 / 7, 6 / 7, 6 / 7])
    assert share(find(str(file))[0], 0, after)["baker"] == pytest.approx(0.25)
    both = Dataset.from_dict({**train.to_dict(), "text": [*texts[:3], "the baker and the rower"]})
    with pytest.raises(UserError, match="1 examples belong to several groups .'baker' and 'rower'"):
        treated(str(file), both)


INDEPENDENT = {("she", 0): 2, ("she", 1): 4, ("he", 0): 3, ("he", 1): 6}


def test_weights_that_are_all_1_change_nothing_and_that_is_an_error():
    """An arm is judged by its weights as well: texts and labels are never changed by this one."""
    trial = resolve(parse_trial({"task": "bios", "downstream": "reweight"}))
    trial = dataclasses.replace(trial, task=dataclasses.replace(trial.task, labels=("accountant", "architect")))
    assert WEIGHT in pipeline.treat_data(trial, biographies()).column_names
    with pytest.raises(UserError, match="reweight=1 changed nothing"):
        pipeline.treat_data(trial, biographies(INDEPENDENT))


def test_the_digest_of_a_set_has_its_weights():
    digests = {provenance.dataset_digest(train) for train in (biographies(), treated(), treated(dose=0.5))}
    assert len(digests) == 3


def test_it_is_refused_where_nothing_is_trained():
    with pytest.raises(UserError, match="tuning=prompt trains nothing"):
        resolve(parse_trial({"downstream": "reweight", "tuning": "prompt"}))
