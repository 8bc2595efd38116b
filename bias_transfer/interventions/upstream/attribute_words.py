"""Attribute words, sentences that contain one, and the same sentences with the word swapped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

Sides = tuple[str, ...]
"""Words that are swapped for each other: a pair or a triple, one word per side of the attribute."""

GENDER: tuple[Sides, ...] = (
    ("woman", "man"), ("girl", "boy"), ("she", "he"), ("mother", "father"), ("daughter", "son"), ("gal", "guy"),
    ("female", "male"), ("her", "his"), ("herself", "himself"), ("Mary", "John"),
)  # fmt: skip
RELIGION: tuple[Sides, ...] = (
    ("jewish", "christian", "muslim"), ("jews", "christians", "muslims"), ("torah", "bible", "quran"),
    ("synagogue", "church", "mosque"), ("rabbi", "priest", "imam"), ("judaism", "christianity", "islam"),
)  # fmt: skip
NEUTRAL: tuple[Sides, ...] = (
    ("north", "south"), ("two", "three"), ("east", "west"), ("summer", "winter"), ("morning", "evening"),
    ("monday", "friday"), ("four", "five"), ("book", "newspaper"), ("history", "geography"), ("music", "football"),
    ("section", "paragraph"), ("today", "yesterday"), ("table", "image"), ("left", "right"), ("opera", "chess"),
)  # fmt: skip
"""For shams (ours): everyday words that say nothing about a person."""
NEUTRAL_TRIPLES: tuple[Sides, ...] = (
    ("north", "south", "east"), ("two", "three", "four"), ("summer", "winter", "autumn"),
    ("morning", "evening", "afternoon"), ("monday", "friday", "sunday"), ("book", "newspaper", "letter"),
    ("history", "geography", "physics"), ("music", "football", "opera"), ("section", "paragraph", "chapter"),
    ("table", "image", "map"),
)  # fmt: skip
"""The same for an attribute of three sides (ours)."""

SETS: dict[str, tuple[Sides, ...]] = {
    "gender": GENDER,
    "religion": RELIGION,
    "neutral": NEUTRAL,
    "neutral triples": NEUTRAL_TRIPLES,
}
"""Attribute -> its words. Gender and religion are those of SentDebias (Liang et al. 2020, table 1)."""

FRAMES: dict[Sides, tuple[str, ...]] = {
    ("she", "he", "herself", "himself", "Mary", "John"): (
        "Yesterday {} went to the market to buy some bread.",
        "When the rain stopped, {} opened all the windows.",
        "I think that {} will be at the meeting on time.",
        "It was {} who found the key under the stairs.",
        "We asked whether {} had read the letter, and nobody knew.",
        "After lunch {} walked home along the river.",
    ),
    ("her", "his"): (
        "The neighbours came to see {} garden.",
        "Everyone liked {} way of telling a story.",
        "The letter was lying on {} desk for a week.",
        "In the end {} answer was the right one.",
        "They talked about {} plans for the house.",
    ),
    ("jewish", "christian", "muslim", "female", "male"): (
        "They met an old {} friend at the station.",
        "The {} families of the town sent a letter to the council.",
        "A {} teacher moved into the house next door.",
        "There is a {} school at the end of the street.",
    ),
    ("jews", "christians", "muslims"): (
        "Many {} live in this part of the city.",
        "The book tells how {} came to the valley.",
        "Some {} and their friends met in the hall.",
        "For {} the day begins with a meal.",
    ),
    ("judaism", "christianity", "islam"): (
        "The course is about {} and its history.",
        "She has read a lot about {} in the last years.",
        "In {} there are several feasts a year.",
        "What does {} say about work?",
    ),
}
"""Words -> sentences with a slot for one of them; the rest of a sentence says nothing about the attribute (ours)."""

NOUNS = (
    "The {} stood in front of the door and waited.",
    "I saw the {} from the window of the train.",
    "They had heard of the {} long before.",
    "Nobody remembers who wrote about the {} first.",
    "We were told that the {} is not far from here.",
    "A picture of the {} was hanging on the wall.",
)
"""Sentences for all other words, which are nouns (ours)."""

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


def built_in(sets: Sequence[Sides]) -> list[str]:
    """The built-in sentences, each frame filled with each word of the sets that fits it. Needs no file and no network."""
    return [frame.format(word) for sides in sets for word in sides for frame in _frames(word)]


def _frames(word: str) -> tuple[str, ...]:
    return next((frames for words, frames in FRAMES.items() if word in words), NOUNS)


def sentences(texts: Iterable[str], most_words: int = 40) -> Iterator[str]:
    """The sentences of the texts, without those of more than `most_words` words."""
    for text in texts:
        for sentence in _SENTENCE.findall(text):
            if len(sentence.split()) <= most_words and sentence.strip():
                yield sentence.strip()


def swapped(texts: Iterable[str], sets: Sequence[Sides]) -> Iterator[tuple[str, ...]]:
    """For each text with a word of the sets: the text with its first such word replaced by each side of that word's set.

    Texts without one are skipped. Only whole words count ("she," is she), in any case, and the replacement takes the case of
    the word in the text. A name counts only with a capital letter ("mary" may be a misspelt "marry").
    """
    sides_of = {word.lower(): sides for sides in sets for word in sides}
    search = re.compile(rf"\b(?:{'|'.join(map(re.escape, sides_of))})\b", re.IGNORECASE).search
    names = {word.lower() for sides in sets for word in sides if word[0].isupper()}
    for text in texts:
        match = search(text)
        if match and (match[0].lower() not in names or match[0][0].isupper()):
            before, after = text[: match.start()], text[match.end() :]
            yield tuple(before + cased(word, match[0]) + after for word in sides_of[match[0].lower()])


def cased(word: str, like: str) -> str:
    """The word in the case of `like`: all capitals, a first capital, or as it is."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word
