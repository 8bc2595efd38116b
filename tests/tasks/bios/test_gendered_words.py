"""Words that reveal a pronoun: all of them are found, as whole words, and no others."""

from __future__ import annotations

import pytest
from datasets import Dataset

from bias_transfer.tasks.bios import gendered_words


@pytest.mark.parametrize(
    ("text", "name", "left"),
    [
        ("She said he saw HER, himself.", "", "_ said _ saw _, _."),
        ("Mr. Lee, Mrs Day and Ms. Fox", "", "_. Lee, _ Day and _. Fox"),
        ("The sheriff helps others with an MS in history: there, hero!", "", None),
        ("She's s/he, hers-his", "", "_'s s/_, _-_"),
        ("Will Day will see A. Day-Lewis today", "Will A. Day", "_ _ will see A. _-Lewis today"),
        ("Ana Ángel is Ana's aunt, Banana", "['Ana', 'Ángel']", "_ _ is _'s aunt, Banana"),
        ("nobody", "", None),
    ],
)
def test_scrubbed(text, name, left):
    assert gendered_words.scrubbed(text, name) == (text if left is None else left)
    assert gendered_words.visible(gendered_words.scrubbed(text, name)) == (0, 0)
    assert gendered_words.scrubbed(gendered_words.scrubbed(text, name), name) == gendered_words.scrubbed(text, name)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("She lost her keys. Ms. Fox herself; hers", (5, 0)),
        ("His wife likes him, Mr. Lee: he himself", (0, 5)),
        ("Mrs. Day told him", (1, 1)),
        ("MS and MR are no titles, nor is mr", (0, 0)),
        ("_", (0, 0)),
    ],
)
def test_visible(text, counts):
    assert gendered_words.visible(text) == counts


def test_other_words_are_those_that_do_not_reveal_the_pronoun():
    text = "She _ told Will, her friend, a lie"
    found = [text[start:end] for start, end in gendered_words.others(text, "Will")]
    assert found == ["told", "friend", "a", "lie"]


def test_names_are_empty_without_a_column_of_names():
    rows = {"id": ["1"], "text": ["a"], "label": [0]}
    assert gendered_words.names(Dataset.from_dict(rows)) == [""]
    assert gendered_words.names(Dataset.from_dict(rows | {"name": ["Ana"]})) == ["Ana"]
