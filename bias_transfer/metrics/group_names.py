"""Covariates of every group's name: its length in words and in sub-tokens, and its frequency.

Names of two words, of many sub-tokens or of rare words stand out upstream and downstream for that reason alone, whatever a
model has learned about the group. B holds the three fixed. They need no forward pass.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from bias_transfer.spec import Measure

SEPARATORS = re.compile(r"[\s_-]+")
_WORD = re.compile(r"\w+")


Count = Callable[[Collection[str], Sequence[str]], Mapping[str, int]]
"""(names, texts) -> how often the texts have those of the names that `mentions` cannot count."""


def group_names(
    names: Mapping[str, str], tokenizer: Any, texts: Sequence[str], counted: Count = lambda names, texts: {}
) -> list[Measure]:
    """`name_words`, `name_tokens` and `name_log_frequency` of each group. names: group -> its name in a sentence.

    name_words: words, split at white space, underscores and hyphens; name_tokens: sub-tokens of the name inside a sentence,
    that is, after a space; both with n = 1, the name. name_log_frequency: ln[(k + 1/2)/N] for k mentions among the N words of
    `texts`, with n = N. Half a mention is added to all counts, so that a name which the text never has is rarer than one that
    it has once, and not missing. NaN with n = 0 only where there is no text. counted: for scripts in which words are not runs
    of letters.
    """
    counts, total = mentions(names.values(), texts)
    counts = Counter({**counts, **counted(names.values(), texts)})
    return [
        Measure("upstream", metric, group, "", value, n)
        for group, name in names.items()
        for metric, value, n in (
            ("name_words", float(len(SEPARATORS.split(name))), 1),
            ("name_tokens", float(len(tokenizer.encode(f" {name}", add_special_tokens=False))), 1),
            ("name_log_frequency", math.log((counts[name] + 0.5) / total) if total else math.nan, total),
        )
    ]


def mentions(names: Collection[str], texts: Sequence[str]) -> tuple[Counter[str], int]:
    """(how often the texts have each name, number of words in the texts).

    Whole words in any case, whatever separates them; mentions do not overlap, and the longest name wins, as in the tasks.
    """
    by_first: dict[str, list[tuple[str, list[str]]]] = {}
    for name in sorted(names, key=lambda name: -len(_WORD.findall(name))):
        if words := _WORD.findall(name.lower()):
            by_first.setdefault(words[0], []).append((name, words))
    counts, total = Counter[str](), 0
    for text in texts:
        words = _WORD.findall(text.lower())
        total += len(words)
        end = 0
        for place, word in enumerate(words):
            if place >= end and word in by_first:
                for name, parts in by_first[word]:
                    if words[place : place + len(parts)] == parts:
                        counts[name] += 1
                        end = place + len(parts)
                        break
    return counts, total
