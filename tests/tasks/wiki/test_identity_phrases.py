import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from bias_transfer.tasks.wiki.identity_phrases import FILLERS, identity_phrases, neutral_phrases
from bias_transfer.tasks.wiki.identity_terms import TERMS, mentioned

SOURCE = Path(__file__).parents[4] / "shared/data/wiki/iptts_77k.csv"
SOURCE_DIGEST = "66deb1c2829d662b934a20ab494581409ab5c4f6c2f9401b24a2f71379e8d1ce"  # computed from the source's csv
NONTOXIC_PER_TERM = {"name_adj": 720, "being_adj": 16, "you_are_adj": 16, "verb_adj": 4, "am_hate_adj": 1}


def test_the_set_is_the_published_one_by_digest() -> None:
    """SHA-256 of the sorted lines "family, tab, label, tab, text": the order of phrases does not enter, and duplicates do."""
    lines = sorted(f"{phrase.family}\t{phrase.label}\t{phrase.text}" for phrase in identity_phrases())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == SOURCE_DIGEST


def test_the_set_is_the_published_one_phrase_by_phrase() -> None:
    if not SOURCE.exists():
        pytest.skip(f"the published set is not here (the project does not ship it): {SOURCE}")
    with SOURCE.open(encoding="utf-8", newline="") as lines:
        published = Counter((row["Text"], row["Label"], row["Template"]) for row in csv.DictReader(lines))
    generated = Counter((p.text, "BAD" if p.label else "NOT_BAD", p.family) for p in identity_phrases())
    # Not `==`: pytest would print a difference of 76,564 lines.
    assert not published - generated
    assert not generated - published


def test_half_of_the_phrases_are_toxic() -> None:
    assert Counter(phrase.label for phrase in identity_phrases()) == {0: 38_282, 1: 38_282}


def test_every_term_has_the_same_phrases_for_each_label() -> None:
    per_cell = Counter((phrase.term, phrase.label, phrase.family) for phrase in identity_phrases())
    expected = {
        (term, label, family): count
        for term in TERMS
        for label in (0, 1)
        for family, count in NONTOXIC_PER_TERM.items()
    }
    assert sum(NONTOXIC_PER_TERM.values()) == 757
    assert per_cell == expected | {(None, label, "you_occupation"): 432 for label in (0, 1)}


def test_texts_are_distinct_and_the_order_is_fixed() -> None:
    phrases = identity_phrases()
    assert len({phrase.text for phrase in phrases}) == len(phrases) == 76_564
    assert phrases[0].text == "Abdul is a best lesbian"
    assert identity_phrases.__wrapped__() == phrases


def test_a_phrase_mentions_the_term_it_was_made_from_and_no_other() -> None:
    strays = [p for p in identity_phrases() if mentioned(p.text) != ((p.term,) if p.term else ())]
    assert not strays, len(strays)


def test_neutral_phrases_are_a_terms_with_a_neutral_word() -> None:
    own = [phrase for phrase in identity_phrases() if phrase.term == "deaf"]
    for filler in FILLERS:
        expected = {(phrase.text.replace("deaf", filler), phrase.label, phrase.family, None) for phrase in own}
        found = {(p.text, p.label, p.family, p.term) for p in neutral_phrases() if f" {filler}" in p.text}
        assert found == expected
        assert len(found) == 2 * 757
    assert len(neutral_phrases()) == len({phrase.text for phrase in neutral_phrases()}) == len(FILLERS) * 2 * 757


def test_neutral_phrases_mention_no_term_and_are_not_in_the_set() -> None:
    strays = [phrase.text for phrase in neutral_phrases() if mentioned(phrase.text)]
    assert not strays, len(strays)
    assert not {phrase.text for phrase in neutral_phrases()} & {phrase.text for phrase in identity_phrases()}
