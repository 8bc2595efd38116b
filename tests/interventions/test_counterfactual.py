"""Swapped texts: whole words, both ways, in their case; and how often the rule for "her" is wrong on real biographies."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from bias_transfer.interventions.counterfactual import counterfactual
from bias_transfer.interventions.upstream.attribute_words import GENDER, RELIGION, sentences

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "bios" / "sample.parquet"

OBJECTS = frozenset({2, 17, 20, 37, 40, 76, 86, 88, 117, 121, 148, 156, 161, 165, 170, 172, 173})
"""Of the 179 times that the sample has "her", those where it is an object (him), labelled by hand. "led to her becoming" counts
as a possessive."""


def swapped(text: str) -> str:
    return counterfactual(text, GENDER)


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
        ("HER sister, herself a nurse", "HIS sister, himself a nurse"),
        ("John and Mary marry", "Mary and John marry"),
        ("the john, the theory, a shed", "the john, the theory, a shed"),
        ("nobody here", "nobody here"),
    ],
)
def test_all_words_are_swapped_both_ways_in_their_case(text, expected):
    assert swapped(text) == expected


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
