"""Swapped texts: whole words, both ways, in their case; and how often the rule for "her" is wrong on real biographies."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset

from bias_transfer.interventions.counterfactual import PERSONS, SWAPPED, counterfactual, mentions
from bias_transfer.interventions.downstream import augment
from bias_transfer.interventions.upstream import cda
from bias_transfer.interventions.upstream.attribute_words import GENDER, RELIGION, SETS, sentences

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "bios" / "sample.parquet"

OBJECTS = frozenset({2, 17, 20, 37, 40, 76, 86, 88, 117, 121, 148, 156, 161, 165, 170, 172, 173})
"""Of the 179 times that the sample has "her", those where it is an object (him), labelled by hand. "led to her becoming" counts
as a possessive."""


def swapped(text: str) -> str:
    return counterfactual(text, SWAPPED["gender"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She gave her book to her mother.", "He gave his book to his father."),
        ("He gave his book to him.", "She gave her book to her."),
        ("They saw her. Her work helped them.", "They saw him. His work helped them."),
        ("Ask her about it, or her 30 patients", "Ask him about it, or his 30 patients"),
        ("This helped her find a job", "This helped him find a job"),
        ("her in-depth study", "his in-depth study"),
        ("The idea was his, not hers.", "The idea was hers, not his."),
        ("HER sister, herself a nurse", "HIS brother, himself a nurse"),
        ("John and Mary marry", "Mary and John marry"),
        ("the john, the theory, a shed", "the john, the theory, a shed"),
        ("nobody here", "nobody here"),
        ("Mr. Lee, Ms. Lee and Mrs. Lee have an MS.", "Ms. Lee, Mr. Lee and Mr. Lee have an MS."),
        ("The heroine's sheet, a themed hymn; mankind", "The heroine's sheet, a themed hymn; mankind"),
        ("The women's choir and a man's job", "The men's choir and a woman's job"),
        ("It gave her the chance; it is hers, not his.", "It gave him the chance; it is his, not hers."),
        ("his now-famous book, and him", "her now-famous book, and her"),
        ("She sent her his letters\nand her\n3 maps", "He sent him her letters\nand his\n3 maps"),
    ],
)
def test_all_words_are_swapped_both_ways_in_their_case(text, expected):
    assert swapped(text) == expected


def test_persons_come_back_from_a_second_swap():
    text = "; ".join(f"the {word} of a {other}" for word, other in PERSONS) + "; she likes his dog, and he likes her"
    assert swapped(swapped(text)) == text != swapped(text)


def test_cda_and_augment_swap_by_one_rule():
    texts = ["Mrs. Lee thanked her. HER husband, a gentleman, is hers.", "Nobody was there."]
    train = Dataset.from_dict({"id": ["a", "b"], "text": texts, "label": [0, 1], "pronoun": ["she", "he"]})
    copies = augment.pronouns(train, 1.0, augment.AugmentOptions(), 0)["text"][2:]
    assert copies == cda.swaps(texts[:1], SWAPPED["gender"]) == ["Mr. Lee thanked him. HIS wife, a lady, is his."]


def test_a_text_is_about_an_attribute_by_its_own_words_alone():
    """Further words are swapped, and choose no text: which sentences dropout and INLP read does not depend on them."""
    assert [mentions(text, GENDER) for text in ("Mr. Lee", "his wife", "a wife", "mary", "Mary", "It is hers")] == [
        False, True, False, False, True, True,
    ]  # fmt: skip
    assert {name: sets for name, sets in SWAPPED.items() if name != "gender"} == {
        name: sets for name, sets in SETS.items() if name != "gender"
    }


def test_a_triple_goes_round_and_has_no_pronouns():
    text = "The Jewish rabbi met her, a christian priest."
    assert counterfactual(text, RELIGION) == "The Christian priest met her, a muslim imam."
    assert counterfactual(text, RELIGION, 2) == "The Muslim imam met her, a jewish rabbi."
    assert counterfactual(counterfactual(text, RELIGION), RELIGION, 2) == text


@pytest.fixture(scope="module")
def biographies() -> list[str]:
    """The sentences of the sample."""
    if not SAMPLE.is_file():
        pytest.skip(f"{SAMPLE} is not there")
    return list(sentences(pd.read_parquet(SAMPLE)["hard_text"], most_words=10**6))


def test_her_is_right_where_it_was_labelled_by_hand(biographies):
    """docs/science.md gives the rate: 1 of 179, in 130 sentences."""
    chosen = [text for text in biographies if re.search(r"\bher\b", text, re.IGNORECASE)]
    # What is his or him after the swap was her before.
    words = [word.lower() for text in chosen for word in re.findall(r"\b(?:his|him)\b", swapped(text), re.IGNORECASE)]
    wrong = [number for number, word in enumerate(words) if (word == "him") != (number in OBJECTS)]
    assert (len(chosen), len(words), wrong) == (130, 179, [173])


def test_his_and_him_come_back_from_a_second_swap(biographies):
    """Their sentences are labelled by nature: his and him become her, and her has to become what it was. 3 of 140 do not."""
    chosen = [text for text in biographies if re.search(r"\b(his|him)\b", text, re.IGNORECASE)]
    wrong = [text for text in chosen if swapped(swapped(text)) != text]
    assert (len(chosen), len(wrong)) == (140, 3)
