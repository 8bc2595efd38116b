"""Words of an attribute are found whole, in any case, and swapped in the case of the text."""

from __future__ import annotations

import pytest

from bias_transfer.interventions.upstream import attribute_words
from bias_transfer.interventions.upstream.attribute_words import GENDER, RELIGION, SETS, built_in, sentences, swapped


def only(text: str, sets=GENDER) -> tuple[str, ...]:
    (variants,) = swapped([text], sets)
    return variants


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("When she, the doctor, came.", ("When she, the doctor, came.", "When he, the doctor, came.")),
        ("He left.", ("She left.", "He left.")),
        ("WHAT DID HE SAY", ("WHAT DID SHE SAY", "WHAT DID HE SAY")),
        ("I saw Mary there.", ("I saw Mary there.", "I saw John there.")),
        ("Her book and his pen.", ("Her book and his pen.", "His book and his pen.")),
    ],
)
def test_the_first_word_is_swapped_and_nothing_else(text, expected):
    assert only(text) == expected


@pytest.mark.parametrize("text", ["the theory of heat", "a shed", "They marry early.", "mary and john are names", ""])
def test_parts_of_words_and_names_without_a_capital_are_no_attribute(text):
    assert list(swapped([text], GENDER)) == []


def test_three_sides():
    assert only("The Church is old.", RELIGION) == ("The Synagogue is old.", "The Church is old.", "The Mosque is old.")


@pytest.mark.parametrize("name", SETS)
def test_every_built_in_sentence_holds_its_word_and_every_word_has_sentences(name):
    texts = built_in(SETS[name])
    assert len(set(texts)) == len(texts) >= 60
    swaps = list(swapped(texts, SETS[name]))
    assert len(swaps) == len(texts)
    assert all(text in variants for text, variants in zip(texts, swaps, strict=True))


def test_built_in_frames_tell_nothing_by_themselves():
    """Else the swap would not be of one word alone."""
    frames = [frame for group in attribute_words.FRAMES.values() for frame in group] + list(attribute_words.NOUNS)
    gendered = [frame for frame in frames if list(swapped([frame.format("it")], GENDER))]
    assert gendered == ["She has read a lot about {} in the last years."]


def test_texts_are_cut_into_sentences():
    assert list(sentences(["One. Two! Three?\nFour", "x " * 50])) == ["One.", "Two!", "Three?", "Four"]
