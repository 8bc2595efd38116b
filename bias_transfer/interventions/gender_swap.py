"""A text with its gendered words swapped: pronouns, titles, words for persons, and SentDebias's pair of names."""

from __future__ import annotations

import re

from bias_transfer.interventions.upstream.attribute_words import GENDER, cased

PERSONS = (
    ("women", "men"), ("girls", "boys"), ("mothers", "fathers"), ("daughters", "sons"), ("females", "males"),
    ("mom", "dad"), ("wife", "husband"), ("wives", "husbands"), ("sister", "brother"), ("sisters", "brothers"),
    ("aunt", "uncle"), ("niece", "nephew"), ("grandmother", "grandfather"), ("granddaughter", "grandson"),
    ("lady", "gentleman"), ("ladies", "gentlemen"),
)  # fmt: skip
"""Further pairs (ours). Words for occupations are not among them, since they may be the label (actress, waiter)."""

TITLES = {"Mr": "Ms", "Ms": "Mr", "Mrs": "Mr"}
"""They are matched in this case only: "MS" is a degree."""

OBJECTIVE = {"her": "him", "him": "her"}
POSSESSIVE = {"her": "his", "his": "her"}
ALONE = {"his": "hers", "hers": "his"}
"""A possessive without a noun."""

_AFTER = """
a about above across after again against all along also although always among an and another any anything
around as at away back because been before behind below beneath beside besides between beyond both but by
down during either even everything for from had has he her here his how however i if in into is it its
later me my near nor of off often on onto or our out outside over perhaps quite rather right she should
since so something sometimes soon such than that the their them then there these they this those through
throughout till to today together tomorrow too toward towards under unless until up upon was we what when
whenever where whether which while who whose why will with within without would yesterday you your
"""
AFTER_OBJECT = frozenset(_AFTER.split())
"""Words that begin no noun phrase after a possessive: before one of them "her" is an object (ours)."""

_PAIRS = [pair for pair in (*GENDER, *PERSONS) if pair != ("her", "his")]
_SWAPS = {word.lower(): other for pair in _PAIRS for word, other in (pair, pair[::-1])}
_NAMES = {word for pair in _PAIRS for word in pair if word[0].isupper()}
_WORD = re.compile(rf"\b(?:(?i:{'|'.join((*_SWAPS, 'her', 'hers', 'his', 'him'))})|{'|'.join(TITLES)})\b")
_NEXT = re.compile(r"\s+(\w+)(-?)")


def swapped(text: str) -> str:
    """The text with every gendered word replaced by its counterpart, both ways of a pair, whole words, in their case.

    "her" becomes "him" where no noun phrase follows: at a mark of punctuation, at the end, or before a word of `AFTER_OBJECT`;
    else "his". "his" becomes "hers" in the same places, else "her". Names are swapped with a capital letter only.
    """
    return _WORD.sub(lambda match: _counterpart(match, text), text)


def _counterpart(match: re.Match[str], text: str) -> str:
    word = match[0]
    if word in TITLES:
        return TITLES[word]
    lowered = word.lower()
    if lowered in _SWAPS:
        other = _SWAPS[lowered]
        return word if other in _NAMES and not word[0].isupper() else cased(other, word)
    determines = lowered in POSSESSIVE and _noun_follows(text[match.end() :])
    return cased((POSSESSIVE if determines else OBJECTIVE | ALONE)[lowered], word)


def _noun_follows(rest: str) -> bool:
    """Whether what comes after a possessive is, by its first word, a noun phrase. "now-famous" is one, "now" is none."""
    following = _NEXT.match(rest)
    return following is not None and (following[2] == "-" or following[1].lower() not in AFTER_OBJECT)
