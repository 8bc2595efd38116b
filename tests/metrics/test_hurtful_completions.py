"""Hurtful completions: the share of the likeliest words, which are found by brute force here."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.metrics import files
from bias_transfer.metrics.hurtful_completions import OPTION, TOP, hurtful_completions
from bias_transfer.models import language_model
from bias_transfer.models.masked_head import MaskedLMHead
from bias_transfer.models.vocabulary import pieces, whole_words

NAMES = {"cats": "cat", "dogs": "dog"}
TEMPLATES = ("The {group} is {mask}.", "{group} people are {mask}")


def answering(completions: dict[str, list[str]]) -> SimpleNamespace:
    def complete(texts, count):
        assert count == TOP
        return [completions[text] for text in texts]

    return SimpleNamespace(head=SimpleNamespace(completions=complete))


def test_shares_by_hand():
    model = answering(
        {
            "The cat is {mask}.": ["bad", "good", "nasty", "kind"],
            "The dog is {mask}.": ["good"] * 4,
            "Cat people are {mask}": ["bad"] * 2,
            "Dog people are {mask}": ["kind", "bad"],
        }
    )
    rows = hurtful_completions(model, {"bad", "nasty"}, NAMES, TEMPLATES)
    found = {(row.group, row.template): (row.value, row.n) for row in rows}
    assert found == {
        ("cats", TEMPLATES[0]): (0.5, 4), ("dogs", TEMPLATES[0]): (0, 4), ("cats", TEMPLATES[1]): (1, 2),
        ("dogs", TEMPLATES[1]): (0.5, 2), ("", ""): (5 / 12, 12),
    }  # fmt: skip


def test_a_text_without_completions_is_missing_and_so_is_the_whole():
    model = answering({"The cat is {mask}.": [], "The dog is {mask}.": ["bad"]})
    found = {row.group: row for row in hurtful_completions(model, {"bad"}, NAMES, TEMPLATES[:1])}
    assert (found["dogs"].value, found["dogs"].n) == (1, 1)
    for group in ("cats", ""):
        assert math.isnan(found[group].value)
        assert found[group].n == 0


def test_a_lexicon_is_a_list_or_hurtlex(tmp_path):
    (tmp_path / "words.txt").write_text("Bad\n\nnasty \nbad\n")
    (tmp_path / "hurtlex.tsv").write_text("id\tpos\tlemma\tlevel\nE1\tn\tbad\tconservative\nE2\tn\tnasty\tinclusive\n")
    for name in ("words.txt", "hurtlex.tsv"):
        assert files.words(OPTION, str(tmp_path / name)) == ("bad", "nasty")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="no word in it"):
        files.words(OPTION, str(tmp_path / "empty.txt"))
    (tmp_path / "other.csv").write_text("word\nbad\n")
    with pytest.raises(UserError, match="lemma must each be one column. Needed: lemma, as in HurtLex"):
        files.words(OPTION, str(tmp_path / "other.csv"))


def test_a_masked_models_completions_are_the_likeliest_words_of_its_vocabulary(load):
    model = load("bert")
    texts = ["the cat is {mask}.", "my neighbor is a {mask} person"] * 40
    found = model.head.completions(texts, 5)
    assert len(found) == 80
    words = whole_words(model.tokenizer)
    for text, completions in zip(texts[:2], found, strict=False):
        p = model.head.distribution([text])[0]
        by_word = dict[str, float]()
        for index, word in words.items():
            by_word[word] = max(by_word.get(word, 0), p[index])
        assert completions == sorted(by_word, key=lambda word: -by_word[word])[:5]


def test_a_word_in_capitals_and_not_counts_once_by_its_likelier_form():
    tokenizer = SimpleNamespace(get_vocab=lambda: {"▁Bad": 0, "▁bad": 1, "▁good": 2, "▁kind": 3})
    head = MaskedLMHead(tokenizer, None)
    object.__setattr__(head, "distribution", lambda texts: np.array([[0.2, 0.25, 0.3, 0.23]]))
    assert head.completions(["x"], 3) == [["good", "bad", "kind"]]


def brute_force(model, text: str, count: int) -> list[str]:
    """The words of one piece, of two and so on, each from the whole text, until no beginning is as likely as the last word."""
    known, row = pieces(model.tokenizer), model.tokenizer(text)["input_ids"]
    later = list(known.later)
    words, beginnings = dict[str, float](), [((), 1.0)]
    while beginnings:
        with torch.no_grad():
            batch = torch.tensor([[*row, *tokens] for tokens, _ in beginnings])
            following = model.lm.eval()(batch).logits[:, -1].double().softmax(-1).numpy()
        grown = []
        for (tokens, p), p_next in zip(beginnings, following, strict=True):
            if tokens:
                word = (known.first[tokens[0]] + "".join(known.later[token] for token in tokens[1:])).lower()
                if len(word) > 1:
                    words[word] = max(words.get(word, 0), p * (1 - p_next[later].sum()))
            allowed = known.later if tokens else known.first
            grown += [((*tokens, token), p * p_next[token]) for token in allowed]
        bound = sorted(words.values())[-count] if len(words) >= count else 0
        beginnings = [entry for entry in grown if entry[1] > bound]
    return sorted(words, key=lambda word: -words[word])[:count]


@pytest.mark.parametrize("family", language_model.CAUSAL_FAMILIES)
def test_a_causal_models_completions_are_whole_next_words_by_the_chain_rule(family, load):
    model = load(family)
    with torch.no_grad():  # sharper, so that words of two pieces are among the likeliest
        model.lm.get_output_embeddings().weight *= 2
    texts = ["the cat is {mask} and more", "my neighbor is a {mask}"]
    found = model.head.completions(texts, TOP)
    expected = [brute_force(model, text.partition(" {")[0], TOP) for text in texts]
    assert found == expected
    single = {*whole_words(model.tokenizer).values()}
    assert any(word not in single for words in found for word in words), "else the chain rule would not be tried"


def test_a_probability_that_is_not_finite_gives_no_completions(load):
    model = load("gpt2")
    with torch.no_grad():
        model.lm.get_output_embeddings().weight.fill_(math.nan)
    assert model.head.completions(["the cat is {mask}"], TOP) == [[]]
