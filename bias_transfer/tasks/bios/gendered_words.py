"""Words that reveal a person's pronoun in a biography: finding, counting and scrubbing them (De-Arteaga et al. 2019)."""

from __future__ import annotations

import re

from datasets import Dataset

SHE = ("she", "her", "hers", "herself")
HE = ("he", "his", "him", "himself")
TITLES = {"Mr": "he", "Mrs": "she", "Ms": "she"}
"""They are matched in this case only: "MS" is a degree."""

BLANK = "_"
"""Scrubbing replaces a word with it."""

NAME = "name"
"""The column with the person's name, if the data have one. Anything but letters separates the parts of a name."""

_WORDS = re.compile(rf"\b(?:(?i:{'|'.join((*SHE, *HE))})|{'|'.join(TITLES)})\b")
_OTHERS = re.compile(r"\b(?!_\b)\w+\b")
_PARTS = re.compile(r"[^\W\d_]{2,}")


def names(examples: Dataset) -> list[str]:
    """The name of each example, "" where the data have no names."""
    return list(examples[NAME][:]) if NAME in examples.column_names else [""] * len(examples)


def visible(text: str) -> tuple[int, int]:
    """(number of "she" words, number of "he" words) in the text: pronouns in any case, and titles."""
    words = [match[0] for match in _WORDS.finditer(text)]
    she = sum(TITLES.get(word) == "she" or word.lower() in SHE for word in words)
    return she, len(words) - she


def telling(text: str, name: str = "") -> list[tuple[int, int]]:
    """(start, end) of each pronoun, title and part of the name, in characters, as whole words in the text's order.

    Parts of a single letter are not matched ("A"), and parts are matched in their own case ("Will" is not "will").
    """
    parts = _PARTS.findall(name)
    pattern = re.compile(rf"{_WORDS.pattern}|\b(?:{'|'.join(sorted(parts))})\b") if parts else _WORDS
    return [match.span() for match in pattern.finditer(text)]


def others(text: str, name: str = "") -> list[tuple[int, int]]:
    """(start, end) of all other words."""
    spans = set(telling(text, name))
    return [match.span() for match in _OTHERS.finditer(text) if match.span() not in spans]


def blanked(text: str, places: list[tuple[int, int]]) -> str:
    """The text with `BLANK` in place of each (start, end)."""
    for start, end in sorted(places, reverse=True):
        text = text[:start] + BLANK + text[end:]
    return text


def scrubbed(text: str, name: str = "") -> str:
    """The text without the words that reveal the pronoun."""
    return blanked(text, telling(text, name))
