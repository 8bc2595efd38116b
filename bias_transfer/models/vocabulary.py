"""The words of a vocabulary, among which upstream measures choose, and the pieces of longer ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple
from unicodedata import normalize

WORD_BEGINS = "Ġ▁"
"""Marks of a word's beginning, of byte-level BPE and of SentencePiece."""
BYTES = WORD_BEGINS[0]


class Pieces(NamedTuple):
    """The entries of a vocabulary that are letters alone, as token id -> these letters, by id."""

    first: dict[int, str]
    """Those that begin a word within a text."""
    later: dict[int, str]
    """Those that go on with a word. In a byte-level vocabulary a letter outside ASCII is several bytes, which are not among
    them."""


def pieces(tokenizer: Any) -> Pieces:
    """Byte-level BPE and SentencePiece mark the beginning of a word; WordPiece marks its continuation."""
    vocabulary = _tokens(tokenizer)
    if _marks_beginnings(vocabulary.values()):
        first = {index: token[1:] for index, token in vocabulary.items() if token[0] in WORD_BEGINS}
        later = {index: token for index, token in vocabulary.items() if index not in first}
        if any(token[0] == BYTES for token in vocabulary.values()):
            later = {index: token for index, token in later.items() if token.isascii()}
    else:
        later = {index: token[2:] for index, token in vocabulary.items() if token.startswith("##")}
        first = {index: token for index, token in vocabulary.items() if index not in later}
    return Pieces(_letters(first), _letters(later))


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items() if token}


def _marks_beginnings(tokens: Collection[str]) -> bool:
    """Whether the vocabulary marks the beginning of a word, and not its continuation."""
    return sum(token[0] in WORD_BEGINS for token in tokens) > sum(token.startswith("##") for token in tokens)


def entries(tokenizer: Any, words: Collection[str], after_space: bool) -> dict[int, str]:
    """Token id -> word, by id, for the entries that are one of the words, in any script.

    words: in lower case and NFC; after_space: whether the word stands after a space (or begins the text), or is joined to what
    stands before it, as in Chinese.
    """
    tokens, wanted = _tokens(tokenizer), set(words)
    marks = _marks_beginnings(tokens.values())
    found = {
        index: normalize("NFC", tokenizer.convert_tokens_to_string([token]).strip().lower())
        for index, token in sorted(tokens.items())
        if ((token[0] in WORD_BEGINS) == after_space if marks else not token.startswith("##"))
    }
    return {index: word for index, word in found.items() if word in wanted}


def _letters(tokens: dict[int, str]) -> dict[int, str]:
    return {index: token for index, token in sorted(tokens.items()) if token.isalpha()}


def whole_words(tokenizer: Any) -> dict[int, str]:
    """Token id -> word, lower-cased, for the vocabulary entries that are a whole word of two or more letters."""
    return {index: word.lower() for index, word in pieces(tokenizer).first.items() if len(word) > 1}
