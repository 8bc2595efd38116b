"""Which entries of a vocabulary are words, and which begin or continue one."""

from __future__ import annotations

from types import SimpleNamespace

from bias_transfer.models.vocabulary import pieces, whole_words

WORDPIECE = {"[MASK]": 0, "Bad": 1, "##ly": 2, "a": 3, "good": 4, "7": 5, "##7": 6}
SENTENCEPIECE = {"<s>": 0, "▁Bad": 1, "ly": 2, "▁a": 3, "▁": 4, "7": 5, "▁7": 6, "é": 7}


def of(vocabulary):
    return SimpleNamespace(get_vocab=lambda: vocabulary)


def test_whole_words_of_byte_level_bpe(tokenizer):
    words = whole_words(tokenizer)
    assert "bad" in words.values()
    vocabulary = tokenizer.get_vocab()
    assert all(vocabulary[f"Ġ{word}"] == index for index, word in words.items())


def test_whole_words_of_wordpiece():
    assert whole_words(of(WORDPIECE)) == {1: "bad", 4: "good"}
    assert whole_words(of(WORDPIECE | {"▁x": 8, "##ing": 9}))[1] == "bad"


def test_pieces_that_begin_and_that_continue_a_word():
    assert pieces(of(WORDPIECE)) == ({1: "Bad", 3: "a", 4: "good"}, {2: "ly"})
    assert pieces(of(SENTENCEPIECE)) == ({1: "Bad", 3: "a"}, {2: "ly", 7: "é"})
    in_bytes = {token.replace("▁", "Ġ").replace("é", "Ã"): index for token, index in SENTENCEPIECE.items()}
    assert pieces(of(in_bytes)) == ({1: "Bad", 3: "a"}, {2: "ly"})
