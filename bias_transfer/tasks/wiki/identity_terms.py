"""The 50 identity terms of the WIKI task, and a matcher that finds the terms that a text mentions.

Terms and spelling ("millenial") are those of Dixon et al. 2018, conversationai/unintended-ml-bias-analysis (CC BY 4.0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from datasets import Dataset

from bias_transfer.tasks.base import Groups, Span

TERMS: tuple[str, ...] = (
    "lesbian", "gay", "bisexual", "transgender", "trans", "queer", "lgbt", "lgbtq", "homosexual", "straight",
    "heterosexual", "male", "female", "nonbinary", "african", "african american", "black", "white", "european",
    "hispanic", "latino", "latina", "latinx", "mexican", "canadian", "american", "asian", "indian", "middle eastern",
    "chinese", "japanese", "christian", "muslim", "jewish", "buddhist", "catholic", "protestant", "sikh", "taoist",
    "old", "older", "young", "younger", "teenage", "millenial", "middle aged", "elderly", "blind", "deaf",
    "paralyzed",
)  # fmt: skip
"""The groups of the task, in the source's order."""


CATEGORIES: dict[str, tuple[str, ...]] = {
    "sexuality": (
        "lesbian", "gay", "bisexual", "queer", "lgbt", "lgbtq", "homosexual", "straight", "heterosexual",
    ),
    "gender": ("transgender", "trans", "male", "female", "nonbinary"),
    "origin": (
        "african", "african american", "black", "white", "european", "hispanic", "latino", "latina", "latinx", "mexican",
        "canadian", "american", "asian", "indian", "middle eastern", "chinese", "japanese",
    ),
    "religion": ("christian", "muslim", "jewish", "buddhist", "catholic", "protestant", "sikh", "taoist"),
    "age": ("old", "older", "young", "younger", "teenage", "millenial", "middle aged", "elderly"),
    "disability": ("blind", "deaf", "paralyzed"),
}  # fmt: skip
"""Category -> its terms; each term is in one (ours)."""


def matcher(terms: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """text -> the terms that it mentions as whole words in any case, each once, in the order of `terms`.

    Mentions do not overlap, and the longest term wins: "African-American" mentions "african american", but neither "african"
    nor "american". The words of a term may be separated by white space of any length or by one hyphen. An inflected form is
    another word: "muslims" does not mention "muslim".
    """
    search = _search(terms)
    order = {term: number for number, term in enumerate(terms)}

    def mentioned(text: str) -> tuple[str, ...]:
        return tuple(sorted({term for _, term in search(text.lower())}, key=order.__getitem__))

    return mentioned


def finder(terms: Sequence[str]) -> Callable[[str], list[Span]]:
    """text -> (start, end, term) of each mention, as `matcher` finds them, in the text's order."""
    search = _search(terms)
    return lambda text: [(*match.span(), term) for match, term in search(_lowered(text))]


def _lowered(text: str) -> str:
    """The text in lower case and of the same length: the few letters that lower case makes longer stay as they are."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _search(terms: Sequence[str]) -> Callable[[str], Iterator[tuple[re.Match[str], str]]]:
    """text in lower case -> each match and its term."""
    longest_first = sorted(terms, key=len, reverse=True)
    # One capture group per term: its number identifies the term, whatever separates the term's words.
    alternatives = "|".join(
        "(" + r"(?:\s+|-)".join(map(re.escape, term.lower().split())) + ")" for term in longest_first
    )
    # The lookahead rejects most words by their first two letters: five times as fast as trying 50 alternatives on each.
    beginnings = "|".join(sorted({re.escape(term.lower()[:2].strip()) for term in terms}))
    finditer = re.compile(rf"(?<!\w)(?={beginnings})(?:{alternatives})(?!\w)").finditer
    return lambda text: ((match, longest_first[match.lastindex - 1]) for match in finditer(text) if match.lastindex)


mentioned = matcher(TERMS)
"""text -> the identity terms that it mentions."""


def identities(examples: Dataset) -> list[tuple[str, ...]]:
    """The groups of each example: the identity terms that its text mentions."""
    return [mentioned(text) for text in examples["text"][:]]


IDENTITIES = Groups(
    TERMS, identities, harmful=1, examples="toxic comments", outside="that mention no term", spans=finder(TERMS)
)
"""The groups of WIKI, and its harmful class."""
