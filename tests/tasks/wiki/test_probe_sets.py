"""WIKI's sets of examples by term."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from datasets import Dataset

from bias_transfer.config import cost
from bias_transfer.errors import UserError
from bias_transfer.spec import parse, parse_trial
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.grouped_predictions import WHOLE
from bias_transfer.tasks.wiki import probe_sets
from bias_transfer.tasks.wiki.identity_terms import TERMS, mentioned
from bias_transfer.tasks.wiki.probe_sets import NO_TERM, PhraseOptions
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
    probes = probe_sets.probes(SPLITS, PhraseOptions())
    assert len({*probes[name]["id"][:]}) == len(probes[name])


def test_synthetic_comments_can_come_with_phrases():
    sets = probe_sets.probes(OWN, PhraseOptions())
    found = probe_sets.about_identities(answered(sets["phrases"]))
    assert {len(rows) for rows in found.groups.values()} == {300}
    assert len(found.rows[NO_TERM]) == len(sets["neutral"]) == 300
    assert len(found.negatives(("gay", ""))) == 200


def chosen(per_term: int, splits=SPLITS):
    return probe_sets.probes(splits, PhraseOptions(phrases_per_term=per_term))


@pytest.mark.parametrize(
    ("per_term", "harmless", "toxic"),
    [
        (1, {"name_adj": 1}, {"name_adj": 1}),
        (40, {"name_adj": 38, "being_adj": 1, "you_are_adj": 1}, {"name_adj": 10}),
        (
            500,
            {"name_adj": 475, "being_adj": 11, "you_are_adj": 10, "verb_adj": 3, "am_hate_adj": 1},
            {"name_adj": 119, "being_adj": 3, "you_are_adj": 2, "verb_adj": 1},
        ),
    ],
)
def test_fewer_phrases_keep_the_proportions_of_the_families_by_largest_remainders(per_term, harmless, toxic):
    """Of 757 phrases of a label: name_adj 720, being_adj and you_are_adj 16, verb_adj 4, am_hate_adj 1, worked out by hand."""
    sets = chosen(per_term)
    columns = [sets["phrases"][name][:] for name in ("term", "label", "family")]
    counts = defaultdict(dict)
    for (term, label, family), count in Counter(zip(*columns, strict=True)).items():
        counts[term, label][family] = count
    for term in TERMS:
        assert counts[term, 0] == harmless
        assert counts[term, 1] == toxic
    assert counts["", 0] == {"you_occupation": min(per_term, 432)}
    assert counts["", 1] == {"you_occupation": -(-per_term // 4)}
    assert Counter(sets["neutral"]["label"][:]) == {0: 6 * per_term, 1: 6 * -(-per_term // 4)}
    assert sum(map(len, sets.values())) == cost.phrases(parse_trial({"metric.phrases_per_term": per_term})), (
        "the dry run counts them by a formula"
    )
    assert sum(map(len, probe_sets.probes(SPLITS, PhraseOptions()).values())) == cost.phrases(parse_trial({}))


@pytest.mark.parametrize("splits", [SPLITS, OWN], ids=["published", "own"])
def test_all_terms_and_neutral_words_are_asked_about_in_the_same_sentences(splits):
    sets, by_term = chosen(20, splits), defaultdict(list)
    rows = [sets["phrases"][name][:] for name in ("term", "text", "pattern")]
    for term, text, pattern in zip(*rows, strict=True):
        by_term[term].append(pattern)
        assert not term or text == pattern.replace("{term}", term)
    patterns = by_term["gay"]
    assert len(patterns) == 25
    assert all(by_term[term] == patterns for term in TERMS)
    assert {*sets["neutral"]["pattern"][:]} == {*patterns}


def test_the_choice_depends_on_the_phrases_alone_and_grows_with_their_number():
    """By the hash of the pattern: neither the order of the phrases nor what else is in the set matters."""
    whole = probe_sets.phrases()
    few, more = ({*chosen(number)["phrases"]["text"][:]} for number in (30, 40))
    shuffled = whole.select(np.random.default_rng(0).permutation(len(whole)))
    assert {*probe_sets.choose(shuffled, 30)["text"][:]} == few
    of_two = whole.select(np.flatnonzero(np.isin(whole["term"][:], ["gay", "old"])))
    assert {*probe_sets.choose(of_two, 30)["text"][:]} == {
        text for text in few if mentioned(text) in (("gay",), ("old",))
    }
    by_name = {text for text in few if text.partition(" ")[0] in {"Abdul", "Aki", "Zoe"}}
    assert by_name <= more, "within a family the lowest hashes are taken"


@pytest.mark.parametrize(
    ("splits", "number", "message"),
    [
        (OWN, 201, "201 is more than the 200 non-toxic phrases that there are of each term. Allowed: 1 to 200"),
        (SPLITS, 0, "a term has 757 non-toxic phrases. Allowed: 1 to 757; leave it out for all .got 0."),
        (SPLITS, 758, "Allowed: 1 to 757; leave it out for all .got 758."),
    ],
)
def test_a_number_of_phrases_that_there_are_not_is_refused(splits, number, message):
    with pytest.raises(UserError, match=f"metric.phrases_per_term: .*{message}"):
        probe_sets.cautions(splits, parse(PhraseOptions, {"phrases_per_term": number}, "metric."))


def test_fewer_phrases_are_announced_and_so_is_what_they_leave_out():
    assert probe_sets.cautions(SPLITS, PhraseOptions()) == ()
    (few,), (enough,) = (probe_sets.cautions(SPLITS, PhraseOptions(phrases_per_term=number)) for number in (99, 100))
    assert "about 6,375 of 76,564 identity phrases, 100 non-toxic and 25 toxic ones per term" in enough
    assert "750 of 9,084 neutral ones" in enough
    assert "ln FPR" not in enough
    assert "logarithms of rates are missing: ln FPR" in few
