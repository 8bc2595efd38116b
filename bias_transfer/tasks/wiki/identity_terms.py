"""The 50 identity terms of the WIKI task, and a matcher that finds the terms that a text mentions.

Terms and spelling ("millenial") are those of Dixon et al. 2018, conversationai/unintended-ml-bias-analysis (CC BY 4.0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from datasets import Dataset

from bias_transfer.tasks.base import Groups

TERMS: tuple[str, ...] = (
    "lesbian", "gay", "bisexual", "transgender", "trans", "queer", "lgbt", "lgbtq", "homosexual", "straight",
    "heterosexual", "male", "female", "nonbinary", "african", "african american", "black", "white", "european",
    "hispanic", "latino", "latina", "latinx", "mexican", "canadian", "american", "asian", "indian", "middle eastern",
    "chinese", "japanese", "christian", "muslim", "jewish", "buddhist", "catholic", "protestant", "sikh", "taoist",
    "old", "older", "young", "younger", "teenage", "millenial", "middle aged", "elderly", "blind", "deaf",
    "paralyzed",
)  # fmt: skip
"""The groups of the task, in the source's order."""


def matcher(terms: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """text -> the terms that it mentions as whole words in any case, each once, in the order of `terms`.

    Mentions do not overlap, and the longest term wins: "African-American" mentions "african american", but neither "african"
    nor "american". The words of a term may be separated by white space of any length or by one hyphen. An inflected form is
    another word: "muslims" does not mention "muslim".
    """
    longest_first = sorted(terms, key=len, reverse=True)
    # One capture group per term: its number identifies the term, whatever separates the term's words.
    alternatives = "|".join(
        "(" + r"(?:\s+|-)".join(map(re.escape, term.lower().split())) + ")" for term in longest_first
    )
    # The lookahead rejects most words by their first two letters: five times as fast as trying 50 alternatives on each.
    beginnings = "|".join(sorted({re.escape(term.lower()[:2].strip()) for term in terms}))
    search = re.compile(rf"(?<!\w)(?={beginnings})(?:{alternatives})(?!\w)").finditer
    order = {term: number for number, term in enumerate(terms)}

    def mentioned(text: str) -> tuple[str, ...]:
        mentions = {longest_first[match.lastindex - 1] for match in search(text.lower()) if match.lastindex}
        return tuple(sorted(mentions, key=order.__getitem__))

    return mentioned


mentioned = matcher(TERMS)
"""text -> the identity terms that it mentions."""


def identities(examples: Dataset) -> list[tuple[str, ...]]:
    """The groups of each example: the identity terms that its text mentions."""
    return [mentioned(text) for text in examples["text"][:]]


IDENTITIES = Groups(TERMS, identities, harmful=1, examples="toxic comments", outside="that mention no term")
"""The groups of WIKI, and its harmful class."""
