"""Words of a biography that tell the person's pronoun: counted, and scrubbed (De-Arteaga et al. 2019)."""

from __future__ import annotations

import re

from datasets import Dataset

SHE = ("she", "her", "hers", "herself")
HE = ("he", "his", "him", "himself")
TITLES = {"Mr": "he", "Mrs": "she", "Ms": "she"}
"""Only as written here: "MS" is a degree."""

BLANK = "_"
"""What scrubbing leaves in the place of a word."""

NAME = "name"
"""The column of name parts, parted by what is no letter; only where the data give one."""

_WORDS = re.compile(rf"\b(?:(?i:{'|'.join((*SHE, *HE))})|{'|'.join(TITLES)})\b")
_OTHERS = re.compile(r"\b(?!_\b)\w+\b")
_PARTS = re.compile(r"[^\W\d_]{2,}")


def names(examples: Dataset) -> list[str]:
    """The name of each example, "" where the data give none."""
    return list(examples[NAME][:]) if NAME in examples.column_names else [""] * len(examples)


def visible(text: str) -> tuple[int, int]:
    """(she words, he words) that the text shows: pronouns in any case, and titles."""
    words = [match[0] for match in _WORDS.finditer(text)]
    she = sum(TITLES.get(word) == "she" or word.lower() in SHE for word in words)
    return she, len(words) - she


def telling(text: str, name: str = "") -> list[tuple[int, int]]:
    """(start, end) of pronouns, titles and parts of the name, as whole words in their order.

    Parts of one letter are left ("A"), and parts are matched in their own case ("Will" is not "will").
    """
    parts = _PARTS.findall(name)
    pattern = re.compile(rf"{_WORDS.pattern}|\b(?:{'|'.join(sorted(parts))})\b") if parts else _WORDS
    return [match.span() for match in pattern.finditer(text)]


def others(text: str, name: str = "") -> list[tuple[int, int]]:
    """(start, end) of all other words."""
    told = set(telling(text, name))
    return [match.span() for match in _OTHERS.finditer(text) if match.span() not in told]


def blanked(text: str, places: list[tuple[int, int]]) -> str:
    """The text with `BLANK` for each (start, end)."""
    for start, end in sorted(places, reverse=True):
        text = text[:start] + BLANK + text[end:]
    return text


def scrubbed(text: str, name: str = "") -> str:
    """The text without what tells the pronoun."""
    return blanked(text, telling(text, name))
