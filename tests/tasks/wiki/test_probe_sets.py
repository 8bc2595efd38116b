"""WIKI's sets of examples by term."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.grouped_predictions import WHOLE
from bias_transfer.tasks.wiki import probe_sets
from bias_transfer.tasks.wiki.identity_terms import TERMS
from bias_transfer.tasks.wiki.probe_sets import NO_TERM
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions, generate

SPLITS = generate(SyntheticOptions(size=200, pretraining_sentences=300))
OWN = generate(SyntheticOptions(size=200, pretraining_sentences=300, phrases="own"))


def answered(examples: Dataset) -> Predicted:
    """The margin of an example is its number."""
    numbers = np.arange(len(examples), dtype=np.float32)
    return Predicted(examples, np.stack([np.zeros_like(numbers), numbers], axis=1))


def test_identity_phrases_by_term_and_family():
    found = probe_sets.about_identities(answered(probe_sets.phrases()))
    terms, families = np.array(probe_sets.phrases()["term"][:]), np.array(probe_sets.phrases()["family"][:])
    assert tuple(found.groups) == TERMS
    assert np.array_equal(found.rows["old", ""], np.flatnonzero(terms == "old"))
    assert np.array_equal(found.rows["old", "verb_adj"], np.flatnonzero((terms == "old") & (families == "verb_adj")))
    assert np.array_equal(found.rows[NO_TERM], np.flatnonzero(terms == ""))
    assert len(found.rows[WHOLE]) == 76_564
    assert len(found.rows) == 1 + 1 + 50 * 6


def test_a_subset_of_the_phrases_is_numbered_from_0():
    found = probe_sets.about_identities(answered(probe_sets.phrases().select([76_563, 0])))
    assert found.rows[NO_TERM].tolist() == [0]
    assert found.rows["lesbian", "name_adj"].tolist() == [1]
    assert found.rows["deaf", ""].tolist() == []
    assert found.negatives(("lesbian", "")).tolist() == [1]
    assert found.negatives(NO_TERM).tolist() == []


def test_neutral_phrases_are_about_nobody():
    found = probe_sets.about_neutral(answered(probe_sets.neutral()))
    assert found.groups == {}
    assert {template for _, template in found.rows} == {
        "", "name_adj", "being_adj", "you_are_adj", "verb_adj", "am_hate_adj",
    }  # fmt: skip
    assert len(found.negatives(WHOLE)) == 6 * 757


def test_comments_by_mention():
    texts = ["An old, deaf man", "Nobody", "african-american", "DEAF"]
    examples = Dataset.from_dict({"id": list("abcd"), "text": texts, "label": [0, 1, 0, 1]})
    found = probe_sets.about_comments(answered(examples))
    assert tuple(found.groups) == TERMS
    assert found.rows["deaf", ""].tolist() == [0, 3]
    assert found.rows["old", ""].tolist() == [0]
    assert found.rows["african american", ""].tolist() == [2]
    assert found.rows["african", ""].tolist() == []
    assert found.rows[NO_TERM].tolist() == [1]
    assert found.rows[WHOLE].tolist() == [0, 1, 2, 3]
    assert found.negatives(("deaf", "")).tolist() == [0]


@pytest.mark.parametrize("name", ["phrases", "neutral"])
def test_ids_are_distinct(name):
    probes = probe_sets.probes(SPLITS)
    assert len({*probes[name]["id"][:]}) == len(probes[name])


def test_synthetic_comments_can_come_with_phrases():
    sets = probe_sets.probes(OWN)
    found = probe_sets.about_identities(answered(sets["phrases"]))
    assert {len(rows) for rows in found.groups.values()} == {300}
    assert len(found.rows[NO_TERM]) == len(sets["neutral"]) == 300
    assert len(found.negatives(("gay", ""))) == 200
