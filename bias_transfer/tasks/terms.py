"""The 50 identity terms of the WIKI task, and which of them a text mentions.

Terms and spelling ("millenial") are those of Dixon et al. 2018, conversationai/unintended-ml-bias-analysis (CC BY 4.0).
"""

from __future__ import annotations

import re

TERMS: tuple[str, ...] = (
    "lesbian", "gay", "bisexual", "transgender", "trans", "queer", "lgbt", "lgbtq", "homosexual", "straight",
    "heterosexual", "male", "female", "nonbinary", "african", "african american", "black", "white", "european",
    "hispanic", "latino", "latina", "latinx", "mexican", "canadian", "american", "asian", "indian", "middle eastern",
    "chinese", "japanese", "christian", "muslim", "jewish", "buddhist", "catholic", "protestant", "sikh", "taoist",
    "old", "older", "young", "younger", "teenage", "millenial", "middle aged", "elderly", "blind", "deaf",
    "paralyzed",
)  # fmt: skip
"""The groups of the task, in the source's order."""

_LONGEST_FIRST = sorted(TERMS, key=len, reverse=True)
# One capture group a term: the group's number names the term, whatever the gap between its words.
_ALTERNATIVES = "|".join("(" + term.replace(" ", r"(?:\s+|-)") + ")" for term in _LONGEST_FIRST)
# Refuses most words by their first two letters: five times as fast as trying 50 alternatives on each.
_BEGINNINGS = "|".join(sorted({term[:2] for term in TERMS}))
_MENTION = re.compile(rf"\b(?={_BEGINNINGS})(?:{_ALTERNATIVES})\b")


def mentioned(text: str) -> tuple[str, ...]:
    """The terms that `text` mentions as whole words in any case, each once, in the order of TERMS.

    Mentions do not overlap and the longest term wins: "African-American" is "african american", neither "african" nor
    "american". White space of any length or one hyphen may part the words of a term. Inflections are other words:
    "muslims" is no mention of "muslim".
    """
    found = {_LONGEST_FIRST[match.lastindex - 1] for match in _MENTION.finditer(text.lower()) if match.lastindex}
    return tuple(sorted(found, key=TERMS.index))
