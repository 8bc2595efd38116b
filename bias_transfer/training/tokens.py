"""Token ids of a training set that a downstream arm has treated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bias_transfer.models.batching import Tokens

Encode = Callable[[Sequence[str]], Tokens]
"""Texts -> token ids of each, in their order."""


def treated_rows(texts: Sequence[str], untreated: Sequence[str], shared: Encode, encode: Encode) -> Tokens:
    """Token ids of each of the treated set's `texts`, from `shared` for untreated texts and from `encode` for rewritten ones.

    An arm leaves most texts as they were, and `shared` is memoized for all trials that read the same untreated set.
    """
    known = dict(zip(untreated, shared(untreated), strict=True))
    new = [text for text in dict.fromkeys(texts) if text not in known]
    known |= zip(new, encode(new), strict=True)
    return [known[text] for text in texts]
