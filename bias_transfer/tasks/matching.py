"""How a text mentions a term: the one place for the rule, in every script.

Texts and terms are compared in lower case and in NFC (Unicode Standard Annex 15), so that it does not matter how an accent or a
vowel sign is stored. Where words have spaces between them, a term is a word: no letter, mark, digit or underscore adjoins it.
In scripts that are written without spaces it is found anywhere in the text.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import regex

from bias_transfer.tasks.base import Span

UNSPACED = r"[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Yi}\p{lb=Complex_Context}]"
"""Characters of scripts without spaces between words: Chinese, Japanese, Yi, and those whose lines a dictionary breaks (Thai,
Lao, Khmer, Burmese and their relatives; Unicode Standard Annex 14, class SA)."""

WORD = rf"[[\p{{L}}\p{{N}}_]--{UNSPACED}]"
"""Letters, digits and the underscore where words have spaces between them."""

# A mark belongs to the letter before it: after an emoji with a variation selector there is a boundary. Joiners are looked
# through, as by \w in Unicode Technical Standard 18: Persian and Indic words have them inside.
BEGINS = rf"(?<!{WORD}[\p{{M}}\p{{Join_Control}}]*)"
ENDS = rf"(?!\p{{M}}|\p{{Join_Control}}*{WORD})"
"""The edges of a term that is a word."""

# Within a syllable of Thai, Lao, Khmer or Burmese no word begins or ends: not after a vowel that is written first or under a
# stacked letter, and not before a mark or a vowel that is written last.
UNSPACED_BEGINS = r"(?<![\p{Logical_Order_Exception}\p{InSC=Invisible_Stacker}])"
UNSPACED_ENDS = r"(?![\p{M}[\p{InSC=Vowel_Dependent}--\p{Logical_Order_Exception}]])"
"""The edges of a term in a script without spaces."""

PREFIXES: dict[str, tuple[str, ...]] = {
    "arabic": ("ال", "لل", "و", "ف", "ب", "ك", "ل"),
    "hebrew": ("ו", "ה", "ב", "כ", "ל", "מ", "ש"),
}
"""Language -> its articles, prepositions and conjunctions that are written in one word with what follows."""

SUFFIXES: dict[str, tuple[str, ...]] = {
    "korean": (
        "들", "은", "는", "이", "가", "을", "를", "의", "에", "에게", "에서", "께", "께서", "한테", "와", "과", "랑", "이랑",
        "로", "으로", "도", "만", "까지", "부터", "보다", "처럼", "같은", "이나", "나", "이라", "라", "이다",
        "입니다", "이고", "인",
    )
}  # fmt: skip
"""Language -> its particles that are written in one word with what precedes (a selection, ours)."""

MOST_ATTACHED = 3
"""Prefixes, and suffixes, that one term may have."""


_PIECES = regex.compile(rf"{UNSPACED}|(?:{WORD}\p{{M}}*)+|[^\s]", regex.VERSION1)


@dataclass(frozen=True)
class Attached:
    """What may be written in one word with a term."""

    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()


ALONE = Attached()
"""Nothing may."""


def matcher(terms: Sequence[str], attached: Attached = ALONE) -> Callable[[str], tuple[str, ...]]:
    """text -> the terms that it mentions in any case, each once, in the order of `terms`.

    Mentions do not overlap, and the longest term wins: "African-American" mentions "african american", but neither "african"
    nor "american". The words of a term may be separated by white space of any length or by one hyphen. An inflected form is
    another word: "muslims" does not mention "muslim". `attached` lets a term have prefixes and suffixes all the same.
    """
    search = _search(terms, attached)
    order = {term: number for number, term in enumerate(terms)}

    def mentioned(text: str) -> tuple[str, ...]:
        return tuple(sorted({term for _, _, term in search(fold(text))}, key=order.__getitem__))

    return mentioned


def finder(terms: Sequence[str], attached: Attached = ALONE) -> Callable[[str], list[Span]]:
    """text -> (start, end, term) of each mention, as `matcher` finds them, in the text's order; without what is attached."""
    search = _search(terms, attached)

    def spans(text: str) -> list[Span]:
        folded, places = fold(text), _places(text)
        found = search(folded)
        return (
            [*found] if places is None else [(places[start][0], places[end - 1][1], term) for start, end, term in found]
        )

    return spans


def described(terms: Sequence[str], attached: Attached = ALONE) -> str:
    """How these terms are matched, in sentences."""
    unspaced = [term for term in terms if begins_unspaced(term) or begins_unspaced(term[-1])]
    texts = []
    if len(unspaced) < len(terms):
        texts.append(
            "Terms are found as whole words in any case, the longest first; an inflected form is another word."
        )
    if unspaced:
        listed = "All terms" if len(unspaced) == len(terms) else " and ".join(unspaced)
        texts.append(f"{listed} are found wherever a text has them, since their script has no spaces between words.")
    for side, parts in (("before", attached.prefixes), ("after", attached.suffixes)):
        if parts:
            texts.append(f"Written together with a term, {side} it, there may be: {', '.join(parts)}.")
    return " ".join(texts)


def counted(names: Collection[str], texts: Sequence[str]) -> Counter[str]:
    """How often the texts mention each of the names that words of letters and digits alone do not find: those with marks, and
    those in scripts without spaces. The other names are not among the keys."""
    others = [name for name in names if regex.search(rf"\p{{M}}|{UNSPACED}", fold(name), regex.VERSION1)]
    if not others:
        return Counter()
    spans = finder(others)
    counts = Counter(dict.fromkeys(others, 0))
    counts.update(name for text in texts for _, _, name in spans(text))
    return counts


def pieces(text: str) -> int:
    """Words and punctuation marks; in scripts without spaces, characters. Fewer than a tokenizer's tokens, as a rule."""
    return len(_PIECES.findall(text))


def fold(text: str) -> str:
    """The form in which texts and terms are compared: lower case, NFC, and one sigma, whose form depends on its place."""
    lowered = text.lower()
    return lowered if lowered.isascii() else unicodedata.normalize("NFC", lowered).replace("ς", "σ")


def _places(text: str) -> list[tuple[int, int]] | None:
    """(start, end) in the text of each character of `fold(text)`; None where they are the same places."""
    lowered = text.lower()
    if len(lowered) == len(text) and unicodedata.is_normalized("NFC", lowered):
        return None
    places = list[tuple[int, int]]()
    for cluster in regex.finditer(r"\X", text):
        folded, (start, end) = fold(cluster[0]), cluster.span()
        if len(folded) == end - start:
            places += [(place, place + 1) for place in range(start, end)]
        else:
            places += [(start, end)] * len(folded)
    return places


def _search(terms: Sequence[str], attached: Attached) -> Callable[[str], Iterator[Span]]:
    """Folded text -> (start, end, term) of each mention in it."""
    ordered = sorted(terms, key=lambda term: (begins_unspaced(term), -len(term)))
    of_words = [fold(term) for term in ordered if not begins_unspaced(term)]
    of_others = [fold(term) for term in ordered if begins_unspaced(term)]
    suffixes = _up_to(attached.suffixes)
    parts = [
        _pattern(BEGINS + _up_to(attached.prefixes), of_words, suffixes),
        _pattern(UNSPACED_BEGINS, of_others, suffixes),
    ]
    finditer = regex.compile("|".join(part for part in parts if part), regex.VERSION1).finditer

    def search(text: str) -> Iterator[Span]:
        for match in finditer(text):
            # One capture group per term: its number identifies the term, whatever separates the term's words.
            yield (*match.span(match.lastindex), ordered[match.lastindex - 1])

    return search


def _pattern(begins: str, terms: Sequence[str], suffixes: str) -> str:
    if not terms:
        return ""
    # The lookahead rejects most words by their first two letters: faster than trying 50 alternatives on each.
    beginnings = "|".join(sorted({regex.escape(term[:2].strip()) for term in terms}))
    return rf"{begins}(?={beginnings})(?:{'|'.join(_captured(term, suffixes) for term in terms)})"


def begins_unspaced(text: str) -> bool:
    """Whether the text begins in a script that is written without spaces."""
    return regex.match(UNSPACED, text, regex.VERSION1) is not None


def _captured(term: str, suffixes: str) -> str:
    words = r"(?:\s+|-)".join(map(regex.escape, term.split()))
    return rf"({words}){UNSPACED_ENDS if begins_unspaced(term[-1]) else suffixes + ENDS}"


def _up_to(parts: Sequence[str]) -> str:
    """As few of the parts as it takes, so that a term which begins with one of them is found whole."""
    listed = "|".join(regex.escape(fold(part)) for part in sorted(parts, key=len, reverse=True))
    return rf"(?:{listed}){{0,{MOST_ATTACHED}}}?" if parts else ""
