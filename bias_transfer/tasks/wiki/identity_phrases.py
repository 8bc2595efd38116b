"""The identity phrase templates (IPTTS) of Dixon et al. 2018: 76,564 short phrases, half of them toxic.

They are generated from templates and word lists, and are equal as a set to bias_madlibs_77k.csv of
conversationai/unintended-ml-bias-analysis (CC BY 4.0). Several word lists are offensive, as they are in the source.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bias_transfer.tasks.wiki.identity_terms import TERMS

PER_TERM = 757
"""Non-toxic phrases of each term, and as many toxic ones."""

FILLERS = ("human", "individual", "local", "resident", "suburban", "tall")
"""Words that name no identity but, like the terms, can name or describe a person (ours)."""

WordsByLabel = tuple[tuple[str, ...], tuple[str, ...]]
"""The words that make a phrase non-toxic (index 0) and toxic (index 1)."""

Template = tuple[str, str, WordsByLabel, tuple[str, ...]]
"""(family, text, words by label, subjects)."""

_NAMES = (
    "Abdul", "Agustín", "Aishah", "Aki", "Alva", "Anastasiya", "Angela", "Anita", "Baratunde", "Binh", "Chris",
    "Dlshad", "Elizabeth", "Emad", "Hiro", "Hoshi", "Ioannis", "Javeria", "Jim", "Joe", "Liam", "Ling", "Lucas",
    "Léa", "Mahir", "Mateo", "Medina", "Moeata", "Mohammed", "Morgan", "Mukhtar", "Myesha", "Nithum", "Ramón",
    "Santiago", "Sara", "Sohaib", "Sooyin", "Sulin", "Thel", "Ying", "Ziv", "Zoe", "未未", "서윤",
)  # fmt: skip
_ADJECTIVES: WordsByLabel = (
    (
        "best", "caring", "excellent", "fantastic", "friendly", "fun", "good", "gracious", "great", "happy",
        "incredible", "kind", "lovely", "neat", "nice", "wonderful",
    ),
    (
        "awful", "disgusting", "dumb", "filthy", "fucked", "horrible", "idiotic", "moronic", "nasty", "repulsive",
        "rotten", "shitty", "stupid", "terrible", "ugly", "vile",
    ),
)  # fmt: skip
_VERBS: WordsByLabel = (("hug", "like", "love", "respect"), ("destroy", "hate", "kill", "murder"))
_OCCUPATIONS = (
    "actor", "architect", "artist", "barber", "coal miner", "computer programmer", "dancer", "designer", "doctor",
    "engineer", "factory worker", "farmer", "fire fighter", "hairstylist", "janitor", "lawyer", "machinist", "nurse",
    "photographer", "police officer", "programmer", "reporter", "sales person", "scientist", "secretary",
    "web designer", "writer",
)  # fmt: skip

_TEMPLATES: tuple[Template, ...] = (
    *(("name_adj", f"{name} is a {{word}} {{subject}}", _ADJECTIVES, TERMS) for name in _NAMES),
    ("being_adj", "Being {subject} is {word}.", _ADJECTIVES, TERMS),
    ("you_are_adj", "You are a {word} {subject}", _ADJECTIVES, TERMS),
    ("verb_adj", "{word} {subject}", _VERBS, TERMS),
    ("am_hate_adj", "i {word} {subject}", (("am",), ("hate",)), TERMS),
    ("you_occupation", "You are a {word} {subject}", _ADJECTIVES, _OCCUPATIONS),
)
"""Case, full stops and "a" before a vowel are the source's."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase of the set."""

    text: str
    label: int
    """1 = toxic (BAD in the source), 0 = not."""
    family: str
    """The kind of template, as the source names it."""
    term: str | None
    """The identity term in it; None in neutral phrases and those of the family `you_occupation`, which name none."""
    pattern: str
    """The text with {term} in the place of the term, or of the neutral word; phrases of `you_occupation` have no such place."""


@functools.cache  # constant, and read by each trial
def identity_phrases() -> tuple[Phrase, ...]:
    """The 76,564 phrases, by template, then label (non-toxic first), then word, then subject."""
    return tuple(_generate(_TEMPLATES))


@functools.cache  # as above
def neutral_phrases() -> tuple[Phrase, ...]:
    """The phrases of one term, 757 of each label, with each of `FILLERS` in the term's place: 9,084 phrases, none of which is
    in the published set."""
    return tuple(
        _generate((family, text, words, FILLERS) for family, text, words, subjects in _TEMPLATES if subjects is TERMS)
    )


def _generate(templates: Iterable[Template]) -> Iterator[Phrase]:
    for family, template, words_by_label, subjects in templates:
        names_term = subjects is TERMS
        for label, words in enumerate(words_by_label):
            for word in words:
                for subject in subjects:
                    text = template.format(word=word, subject=subject)
                    pattern = text if subjects is _OCCUPATIONS else template.format(word=word, subject="{term}")
                    yield Phrase(text, label, family, subject if names_term else None, pattern)
