"""Words of an attribute, sentences that hold one of them, and the same sentences with the word swapped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

Sides = tuple[str, ...]
"""Words that take each other's place: a pair, or three."""

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
"""For sham_debias (ours): words of everyday use that tell nothing of a person."""

SETS: dict[str, tuple[Sides, ...]] = {"gender": GENDER, "religion": RELIGION, "neutral": NEUTRAL}
"""The first two are SentDebias's (Liang et al. 2020, table 1)."""

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
"""Words -> sentences with a place for one of them, of which the rest says nothing of the attribute (ours)."""

NOUNS = (
    "The {} stood in front of the door and waited.",
    "I saw the {} from the window of the train.",
    "They had heard of the {} long before.",
    "Nobody remembers who wrote about the {} first.",
    "We were told that the {} is not far from here.",
    "A picture of the {} was hanging on the wall.",
)
"""For words of every other kind."""

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


def built_in(sets: Sequence[Sides]) -> list[str]:
    """The embedded sentences, with each word of the sets in them once a frame: needs no file and no network."""
    return [frame.format(word) for sides in sets for word in sides for frame in _frames(word)]


def _frames(word: str) -> tuple[str, ...]:
    return next((frames for words, frames in FRAMES.items() if word in words), NOUNS)


def sentences(texts: Iterable[str], most_words: int = 40) -> Iterator[str]:
    """The texts' sentences of at most so many words."""
    for text in texts:
        for sentence in _SENTENCE.findall(text):
            if len(sentence.split()) <= most_words and sentence.strip():
                yield sentence.strip()


def swapped(texts: Iterable[str], sets: Sequence[Sides]) -> Iterator[tuple[str, ...]]:
    """Of each text that holds a word of the sets: the text with its first such word as each side of that word's set.

    Words are found whole ("she," is she) and in any case, and the case of the text is kept; a name is a name only with its
    capital letter.
    """
    places = {word.lower(): (sides, side) for sides in sets for side, word in enumerate(sides)}
    search = re.compile(rf"\b(?:{'|'.join(map(re.escape, places))})\b", re.IGNORECASE).search
    names = {word.lower() for sides in sets for word in sides if word[0].isupper()}
    for text in texts:
        found = search(text)
        if found and (found[0].lower() not in names or found[0][0].isupper()):
            sides, _ = places[found[0].lower()]
            yield tuple(text[: found.start()] + _cased(word, found[0]) + text[found.end() :] for word in sides)


def _cased(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word
