"""Counterfactual texts: every attribute word of a text replaced by its counterpart, both ways of a pair."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bias_transfer.interventions.upstream.attribute_words import Sides, cased

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


def counterfactual(text: str, sets: Sequence[Sides], shift: int = 1) -> str:
    """The text with each whole word of the sets replaced by the one `shift` sides further, in the case of the text.

    Of a pair each word becomes the other. Where the sets have her/his, him becomes her and hers becomes his as well; "her"
    becomes "his" before a noun phrase and "him" elsewhere, "his" becomes "her" and "hers" (`is_possessive`). A name counts with
    a capital alone.
    """
    places = {word.lower(): (sides, place) for sides in sets for place, word in enumerate(sides)}
    names = {word.lower() for sides in sets for word in sides if word[0].isupper()}
    forms = OBJECTIVE if "her" in places else {}

    def replace(match: re.Match[str]) -> str:
        word = match[0].lower()
        if word in names and not match[0][0].isupper():
            return match[0]
        if forms and word in ("her", "his"):
            return cased(_other_pronoun(word, text[: match.start()], text[match.end() :]), match[0])
        if word in forms:
            return cased(forms[word], match[0])
        sides, place = places[word]
        return cased(sides[(place + shift) % len(sides)], match[0])

    return re.sub(rf"\b(?:{'|'.join(map(re.escape, {**places, **forms}))})\b", replace, text, flags=re.IGNORECASE)


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
