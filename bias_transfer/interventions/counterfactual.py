"""Counterfactual texts: every attribute word of a text replaced by its counterpart, both ways of a pair.

All arms swap by this one rule: `cda` the texts of further pre-training, `augment` those of the fine-tuning set.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bias_transfer.interventions.upstream.attribute_words import GENDER, SETS, Sides, cased

PERSONS: tuple[Sides, ...] = (
    ("women", "men"), ("girls", "boys"), ("mothers", "fathers"), ("daughters", "sons"), ("females", "males"),
    ("mom", "dad"), ("wife", "husband"), ("wives", "husbands"), ("sister", "brother"), ("sisters", "brothers"),
    ("aunt", "uncle"), ("niece", "nephew"), ("grandmother", "grandfather"), ("granddaughter", "grandson"),
    ("lady", "gentleman"), ("ladies", "gentlemen"),
)  # fmt: skip
"""Pairs that are swapped in addition to SentDebias's (ours). Words for occupations are not among them, since they may be the
label (actress, waiter)."""

SWAPPED: dict[str, tuple[Sides, ...]] = {**SETS, "gender": (*GENDER, *PERSONS)}
"""Attribute -> the words that are swapped in a text about it. Those that make a text one about it are `SETS`."""

TITLES = {"Mr": "Ms", "Ms": "Mr", "Mrs": "Mr"}
"""Swapped with gender, and matched in this case only: "MS" is a degree."""

OBJECTIVE = {"him": "her", "hers": "his"}
"""Forms that no pair of SentDebias has, and what each becomes. "her" and "his" become one of two forms, by `is_possessive`."""

NO_NOUN_PHRASE = frozenset({
    # prepositions
    "about", "above", "across", "after", "against", "along", "among", "around", "as", "at", "before", "behind",
    "beneath", "beside", "besides", "between", "beyond", "by", "despite", "down", "during", "except", "for", "from",
    "in", "into", "like", "near", "of", "off", "on", "onto", "out", "over", "per", "since", "through", "throughout",
    "to", "toward", "towards", "under", "underneath", "until", "unless", "up", "upon", "via", "with", "within",
    "without",
    # conjunctions, question words and pronouns
    "and", "or", "but", "nor", "because", "if", "so", "than", "that", "though", "although", "when", "whenever",
    "where", "wherever", "whether", "while", "who", "whom", "whose", "which", "what", "why", "how", "it", "i", "he",
    "she", "they", "we", "you", "him", "her", "his", "them", "us", "my", "your", "our", "their", "himself", "herself",
    "itself",
    # determiners
    "a", "an", "the", "this", "these", "those", "some", "any", "all", "both", "each", "every", "no",
    # auxiliary verbs
    "am", "is", "was", "are", "were", "be", "been", "being", "has", "have", "had", "do", "does", "did", "will",
    "would", "can", "could", "may", "might", "must", "shall", "should", "not",
    # adverbs
    "again", "ago", "also", "alone", "always", "away", "back", "here", "instead", "just", "now", "once", "then",
    "there", "today", "together", "tomorrow", "too", "yesterday",
})  # fmt: skip
"""Words with which the noun phrase after a possessive does not begin."""

CAUSATIVES = frozenset({
    "help", "helps", "helped", "helping", "let", "lets", "letting", "make", "makes", "made", "making", "see", "saw",
    "seen", "watch", "watched", "hear", "heard",
})  # fmt: skip
BARE_VERBS = frozenset({
    "achieve", "be", "become", "believe", "bring", "build", "create", "deal", "develop", "discover", "do", "explore",
    "feel", "find", "focus", "gain", "get", "give", "go", "grow", "have", "improve", "keep", "know", "learn", "look",
    "overcome", "perform", "realise", "realize", "see", "speak", "stay", "succeed", "take", "tell", "understand",
    "win", "write",
})  # fmt: skip
""""helped her find": after one of the first, one of the second is a verb, and the pronoun its subject."""

_NEXT = re.compile(r"\s+[\"“‘'(]?([A-Za-z]+)(-?)")
_ENDS = re.compile(r"\s*$|\s*[.,;:!?)\]…]|[\"'”’]|\s+[-–—(&]")
_LAST = re.compile(r"([A-Za-z]+)\s+$")


@dataclass(frozen=True)
class _Words:
    """The words of some sets, ready to be found in a text."""

    places: Mapping[str, tuple[Sides, int]]
    """Word, in lower case -> its set and its place in it."""
    names: frozenset[str]
    pronouns: bool
    """Whether they are about gender: then him, hers and the titles are words as well."""

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Whole words: titles in their own case, all others in any."""
        words = "|".join(map(re.escape, [*self.places, *(OBJECTIVE if self.pronouns else ())]))
        return re.compile(rf"\b(?:(?i:{words}){''.join(f'|{title}' for title in TITLES) if self.pronouns else ''})\b")


@functools.cache
def _words(sets: tuple[Sides, ...]) -> _Words:
    places = {word.lower(): (sides, place) for sides in sets for place, word in enumerate(sides)}
    names = frozenset(word.lower() for sides in sets for word in sides if word[0].isupper())
    return _Words(places, names, "her" in places)


def mentions(text: str, sets: Sequence[Sides]) -> bool:
    """Whether the text has a word of the sets, or him or hers where the sets have her/his; of names with a capital."""
    words = _words(tuple(sets))
    found = (match[0] for match in words.pattern.finditer(text))
    return any(word not in TITLES and (word.lower() not in words.names or word[0].isupper()) for word in found)


def counterfactual(text: str, sets: Sequence[Sides], shift: int = 1) -> str:
    """The text with each whole word of the sets replaced by the one `shift` sides further, in the case of the text.

    Of a pair each word becomes the other. Where the sets have her/his, him becomes her, hers becomes his, and titles are
    swapped as well; "her" becomes "his" before a noun phrase and "him" elsewhere, "his" becomes "her" and "hers"
    (`is_possessive`). A name counts with a capital alone.
    """
    words = _words(tuple(sets))

    def replace(match: re.Match[str]) -> str:
        word = match[0].lower()
        if word in words.names and not match[0][0].isupper():
            return match[0]
        if words.pronouns and match[0] in TITLES:
            return TITLES[match[0]]
        if words.pronouns and word in ("her", "his"):
            return cased(_other_pronoun(word, text[: match.start()], text[match.end() :]), match[0])
        if word in OBJECTIVE:
            return cased(OBJECTIVE[word], match[0])
        sides, place = words.places[word]
        return cased(sides[(place + shift) % len(sides)], match[0])

    return words.pattern.sub(replace, text)


def _other_pronoun(word: str, before: str, after: str) -> str:
    if word == "her":
        return "his" if is_possessive(before, after) else "him"
    return "hers" if _ENDS.match(after) else "her"


def is_possessive(before: str, after: str) -> bool:
    """Whether "her" between these parts of a text is the possessive of a noun phrase (his), and not an object (him).

    It is one if a word follows, unless the word begins no noun phrase (`NO_NOUN_PHRASE`) or is the verb in "helped her find".
    The rule is ours; docs/science.md has its error rate.
    """
    following = _NEXT.match(after)
    if _ENDS.match(after) or following is None:
        return not _ENDS.match(after)
    word, hyphen = following[1].lower(), following[2]
    previous = _LAST.search(before)
    caused = previous is not None and previous[1].lower() in CAUSATIVES and word in BARE_VERBS
    return bool(hyphen) or not (word in NO_NOUN_PHRASE or caused)
