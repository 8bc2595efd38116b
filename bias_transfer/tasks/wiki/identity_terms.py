"""Which of a task's terms a text mentions, and the 50 identity terms of the WIKI task.

Terms and spelling ("millenial") are those of Dixon et al. 2018, conversationai/unintended-ml-bias-analysis (CC BY 4.0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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

    Mentions do not overlap and the longest term wins: "African-American" is "african american", neither "african" nor
    "american". White space of any length or one hyphen may part the words of a term. Inflections are other words:
    "muslims" is no mention of "muslim".
    """
    longest_first = sorted(terms, key=len, reverse=True)
    # One capture group a term: the group's number names the term, whatever the gap between its words.
    alternatives = "|".join(f"({_spaced(term.lower())})" for term in longest_first)
    # Refuses most words by their first two letters: five times as fast as trying 50 alternatives on each.
    beginnings = "|".join(sorted({re.escape(term.lower()[:2].strip()) for term in terms}))
    search = re.compile(rf"(?<!\w)(?={beginnings})(?:{alternatives})(?!\w)").finditer
    place = {term: number for number, term in enumerate(terms)}

    def mentioned(text: str) -> tuple[str, ...]:
        found = {longest_first[match.lastindex - 1] for match in search(text.lower()) if match.lastindex}
        return tuple(sorted(found, key=place.__getitem__))

    return mentioned


def _spaced(term: str) -> str:
    return r"(?:\s+|-)".join(map(re.escape, term.split()))


mentioned = matcher(TERMS)
"""text -> the identity terms that it mentions."""
