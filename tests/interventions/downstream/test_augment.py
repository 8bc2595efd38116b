"""Augment: copies that differ from their originals in the group alone, and a control that copies as many."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import downstream_arm
from bias_transfer.tasks.registry import find
from bias_transfer.tasks.wiki.identity_terms import TERMS, mentioned

BIOGRAPHIES = Dataset.from_dict(
    {
        "id": ["a", "b", "c", "d"],
        "text": ["She loves her job.", "Mr. Smith teaches. HIS wife sings.", "No pronoun.", "He met him."],
        "label": [3, 1, 2, 0],
        "pronoun": ["she", "he", "she", "he"],
    }
)


def comments(count: int = 40) -> Dataset:
    texts = [
        "Gay pride",
        "an African-American mayor, African American",
        "hello",
        "deaf or blind people and the deaf",
    ] * count
    return Dataset.from_dict(
        {"id": [f"c{n}" for n in range(len(texts))], "text": texts, "label": [n % 2 for n in range(len(texts))]}
    )


def treated(task, train, dose=1.0, seed=0, **options) -> Dataset:
    arm = downstream_arm("augment", task, find(task)[0])
    return arm.apply(train, dose, arm.options(**options), seed)


def copies(train: Dataset, after: Dataset) -> dict[str, dict]:
    """id of the original -> its copy; the set itself is unchanged, and stands first."""
    assert after.select(range(len(train))).to_dict() == train.to_dict()
    rows = after.select(range(len(train), len(after))).to_list()
    return {row["id"].removesuffix("#copy"): row for row in rows}


def test_a_biographys_copy_is_about_the_other_pronoun():
    found = copies(BIOGRAPHIES, treated("bios", BIOGRAPHIES))
    assert {name: (row["text"], row["pronoun"], row["label"]) for name, row in found.items()} == {
        "a": ("He loves his job.", "he", 3),
        "b": ("Ms. Smith teaches. HER husband sings.", "she", 1),
        "d": ("She met her.", "she", 0),
    }


def test_a_comments_copy_names_another_term_wherever_one_stood():
    train = comments()
    found = copies(train, treated("wiki", train))
    assert len(found) == 120
    for row, text in zip(train, train["text"], strict=True):
        if row["id"] not in found:
            continue
        copy, old = found[row["id"]], set(mentioned(text))
        new = set(mentioned(copy["text"]))
        assert len(new) == len(old)
        assert len(new - old) == len(old - new) == 1
        assert copy["label"] == row["label"]
        (gone,), (come,) = old - new, new - old
        plain = text.lower().replace("-", " ")
        assert copy["text"].lower().replace("-", " ") == plain.replace(gone, come)
    assert {row["text"] for row in found.values() if row["text"].endswith("pride")} > {"Deaf pride"}
    drawn = {term for row in found.values() for term in mentioned(row["text"])}
    assert len(drawn) > len(TERMS) // 2


def test_what_would_name_a_third_group_is_not_drawn():
    """ "african" before "american" would be "african american"."""
    train = Dataset.from_dict(
        {"id": [str(n) for n in range(300)], "text": ["an indian american cook"] * 300, "label": [0] * 300}
    )
    for row in copies(train, treated("wiki", train)).values():
        assert len(mentioned(row["text"])) == 2


@pytest.mark.parametrize("task", ["bios", "wiki"])
def test_the_control_copies_the_same_texts_as_they_are_under_the_same_ids(task):
    train = BIOGRAPHIES if task == "bios" else comments()
    for dose in (0.4, 1.0):
        arm, control = (copies(train, treated(task, train, dose, control=on)) for on in (False, True))
        assert [*arm] == [*control]
        originals = {row["id"]: row for row in train}
        for name, row in control.items():
            assert row == {**originals[name], "id": f"{name}#copy"}
            assert arm[name]["text"] != row["text"]


def test_a_smaller_dose_copies_a_part_of_what_a_larger_one_copies():
    train = comments()
    few, many = (copies(train, treated("wiki", train, dose, seed=4)) for dose in (0.25, 0.5))
    assert (len(few), len(many)) == (30, 60)
    assert few.items() <= many.items()
    assert set(copies(train, treated("wiki", train, 0.25, seed=5))) != set(few)


FIELDS = {
    "name": "clubs", "text": "text", "label": "verdict", "classes": ["keep", "remove"], "harmful": "remove",
    "templates": {"The {group} is {mask}.": "The person is {mask}."},
}  # fmt: skip


def test_custom_groups_are_replaced_where_they_are_terms_and_refused_where_a_column_gives_them(tmp_path):
    file = tmp_path / "clubs.yaml"
    file.write_text(json.dumps({**FIELDS, "terms": ["baker", "bread baker", "rower"]}))
    train = Dataset.from_dict({"id": ["a", "b"], "text": ["The Rower sang", "nobody"], "label": [1, 0]})
    (copy,) = copies(train, treated(str(file), train)).values()
    assert copy["text"] in ("The Baker sang", "The Bread baker sang")
    file.write_text(json.dumps({**FIELDS, "group": "club", "groups": ["baker", "rower"]}))
    with pytest.raises(UserError, match="given by a column"):
        treated(str(file), train.add_column("group", ["rower", ""]))
