"""Whether texts are English, as far as their letters and commonest words tell. No model, and no list of other languages: texts
in other languages are found by their script, or by having none of the words that English can hardly do without."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LATIN = "Latin"
OTHER_LATIN = "another language"
"""What messages call a language in Latin script that does not look like English."""

ENGLISH = frozenset({
    "the", "and", "are", "that", "this", "these", "those", "with", "they", "them", "she", "you", "your", "their", "his", "who",
    "what", "which", "when", "there", "would", "could", "should", "were", "been", "being", "have", "from", "about", "because",
    "every", "some", "very", "always", "never", "people", "woman", "someone", "everyone", "friend", "seems", "says", "said",
    "know", "think", "only", "my", "it's", "don't", "i'm", "that's", "can't",
})  # fmt: skip
"""Words that an English text of some length has, and that few other languages spell alike (ours)."""

FEWEST_WORDS, FEWEST_IN_TEMPLATES = 12, 8
"""With as many words, a text, or all templates together, without any of `ENGLISH` count as another language (ours). Of 4,000
talk-page comments in English, 2 % do."""

_NAMES = {
    "CJK": "Han", "FULLWIDTH": LATIN, "MODIFIER": LATIN, "FEMININE": LATIN, "MASCULINE": LATIN, "HALFWIDTH": "Katakana",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class Languages:
    """What some texts are written in."""

    texts: int
    scripts: dict[str, int]
    """Script -> the texts that have most of their letters in it, most frequent first; texts without letters are in none."""
    judged: int
    """Texts in Latin script of `FEWEST_WORDS` or more."""
    without_english: int
    """Those of them that have no word of `ENGLISH`."""

    @property
    def other_scripts(self) -> dict[str, int]:
        """The scripts other than Latin."""
        return {script: count for script, count in self.scripts.items() if script != LATIN}

    @property
    def foreign(self) -> int:
        """Texts that are most likely not English."""
        return sum(self.other_scripts.values()) + self.without_english


def look(texts: Iterable[str]) -> Languages:
    """The scripts and languages of texts."""
    scripts, count, judged, without = Counter[str](), 0, 0, 0
    for text in texts:
        count += 1
        script = script_of(text)
        scripts.update([script] if script else [])
        words = _WORD.findall(text.lower()) if script == LATIN else []
        judged += len(words) >= FEWEST_WORDS
        without += len(words) >= FEWEST_WORDS and ENGLISH.isdisjoint(words)
    return Languages(count, dict(scripts.most_common()), judged, without)


def script_of(text: str) -> str:
    """The script of most letters; empty for a text without letters."""
    if text.isascii():
        return LATIN if any(map(str.isalpha, text)) else ""
    letters = Counter[str]()
    for character, count in Counter(text).items():
        if script := _script(character):
            letters[script] += count
    return letters.most_common(1)[0][0] if letters else ""


@functools.lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """By the first word of the character's name in Unicode: HIRAGANA LETTER A."""
    if not character.isalpha():
        return ""
    first = unicodedata.name(character, "OTHER").split()[0].split("-")[0]
    return _NAMES.get(first, first.capitalize())


def other_language(sentences: Sequence[str]) -> str:
    """What a few sentences are written in, if that does not look like English: a script, or "another language"; else empty.

    They are judged together, since single sentences are short.
    """
    whole = " ".join(sentences)
    script = script_of(whole)
    if script not in ("", LATIN):
        return f"{script} script"
    words = _WORD.findall(whole.lower())
    return OTHER_LATIN if len(words) >= FEWEST_IN_TEMPLATES and ENGLISH.isdisjoint(words) else ""
