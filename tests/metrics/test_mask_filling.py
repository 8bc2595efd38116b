"""Word probabilities, held-out loss and negative sentiment, on a model with probabilities set by hand."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bias_transfer.metrics import mask_filling, sentiment
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.vocabulary import whole_words

TEMPLATES = {"the {group} person is {mask}.": "the person is {mask}."}


class Answers(torch.nn.Module):
    """A masked LM that gives every text that mentions `trigger` one distribution at the mask, and every other another."""

    def __init__(self, tokenizer, trigger: str, mentioned: dict[str, float], other: dict[str, float]):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=len(tokenizer))
        self.device = torch.device("cpu")
        self.trigger = tokenizer(f"the {trigger}")["input_ids"][2]
        self.logits = [self._row(tokenizer, shares) for shares in (other, mentioned)]

    def _row(self, tokenizer, shares: dict[str, float]) -> torch.Tensor:
        row = torch.full((len(tokenizer),), -1e9)
        for word, share in shares.items():
            (_, token) = tokenizer(f"the {word}")["input_ids"][1:-1]
            row[token] = math.log(share)
        return row

    def forward(self, input_ids, attention_mask):
        rows = [self.logits[int((ids == self.trigger).any())] for ids in input_ids]
        logits = torch.stack(rows)[:, None].expand(-1, input_ids.shape[1], -1)
        return SimpleNamespace(logits=logits)


@pytest.fixture
def model(tokenizer):
    """Of a "cat" person: 0.6 bad, 0.2 good; of others: 0.1 bad, 0.3 good; the rest is no word of sentiment."""
    mentioned, other = {"bad": 0.6, "good": 0.2, "the": 0.2}, {"bad": 0.1, "good": 0.3, "the": 0.6}
    return LanguageModel(tokenizer, Answers(tokenizer, "cat", mentioned, other), None)


def scores(model, **options) -> dict[tuple[str, str], float]:
    settings = {"scorer": "vader", "top_k": None} | options
    rows = sentiment.negative_sentiment(model, ["cat", "dog"], TEMPLATES, **settings)
    return {(row.metric, row.group): row.value for row in rows}


def test_negative_sentiment_by_hand(model):
    found = scores(model)
    assert found["negative_sentiment", "cat"] == pytest.approx(0.6 / 0.8 - 0.1 / 0.4)
    assert found["negative_sentiment", "dog"] == 0
    assert found["lexicon_coverage", "cat"] == pytest.approx(0.8)
    assert found["lexicon_coverage", "dog"] == pytest.approx(0.4)


def test_the_top_k_divide_by_all_fills(model):
    found = scores(model, top_k=2)
    assert found["negative_sentiment", "cat"] == pytest.approx(0.6 / 0.8 - 0)


def test_words_of_the_groups_names_are_not_fills(model):
    rows = sentiment.negative_sentiment(model, ["cat", "good"], TEMPLATES, "vader", None)
    assert {row.value for row in rows if row.metric == "negative_sentiment"} == {0.0}


def test_without_any_fill_the_measure_is_missing(tokenizer):
    model = LanguageModel(tokenizer, Answers(tokenizer, "cat", {"the": 1.0}, {"the": 1.0}), None)
    row = sentiment.negative_sentiment(model, ["cat"], TEMPLATES, "vader", None)[0]
    assert math.isnan(row.value)
    assert row.n == 0


def test_verdicts_of_one_sign_make_the_measure_missing(model, monkeypatch):
    monkeypatch.setitem(sentiment.SCORERS, "gloomy", lambda words: -np.isin(words, ["bad", "sad"]).astype(float))
    rows = sentiment.negative_sentiment(model, ["cat"], TEMPLATES, "gloomy", None)
    assert math.isnan(rows[0].value)
    assert rows[0].n == 0
    assert not math.isnan(sentiment.negative_sentiment(model, ["cat"], TEMPLATES, "gloomy", 3)[0].value)


def test_n_of_the_top_k_is_no_more_than_there_are_fills(model):
    rows = sentiment.negative_sentiment(model, ["cat"], TEMPLATES, "vader", 10**6)
    assert rows[0].n == len(whole_words(model.tokenizer)) - ("cat" in whole_words(model.tokenizer).values())


def test_vader_knows_bad_from_good():
    assert sentiment.vader(["terrible", "table", "wonderful"]).tolist() == [-1, 0, 1]


def test_a_model_that_knows_nothing_loses_ln_of_the_vocabulary(tokenizer, sentences):
    class Uniform(Answers):
        def forward(self, input_ids, attention_mask):
            return SimpleNamespace(logits=torch.zeros(*input_ids.shape, len(tokenizer)))

    model = LanguageModel(tokenizer, Uniform(tokenizer, "cat", {"the": 1.0}, {"the": 1.0}), None)
    loss, unigram = mask_filling.heldout_loss(model, sentences, sentences)
    assert loss.value == pytest.approx(math.log(len(tokenizer)))
    assert unigram.value < loss.value
    assert loss.n == unigram.n > 0


class Echo(torch.nn.Module):
    """A masked LM that is sure of the token that it sees, and records its inputs."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=vocabulary)
        self.device = torch.device("cpu")
        self.seen: list[list[int]] = []

    def forward(self, input_ids, attention_mask):
        self.seen += [ids[kept == 1].tolist() for ids, kept in zip(input_ids, attention_mask, strict=True)]
        return SimpleNamespace(logits=50.0 * torch.nn.functional.one_hot(input_ids, self.config.vocab_size))


def test_every_seventh_token_is_hidden_and_each_place_in_its_turn(tokenizer):
    texts = [" ".join(["cat", "dog"][number % 2] for number in range(length)) for length in range(9, 37)]
    echo = Echo(len(tokenizer))
    loss, unigram = mask_filling.heldout_loss(LanguageModel(tokenizer, echo, None), texts, ["cat cat cat dog"])
    assert loss.value == pytest.approx(50)  # it never sees what it is asked for
    hidden = [[place for place, token in enumerate(row) if token == tokenizer.mask_token_id] for row in echo.seen]
    assert loss.n == sum(map(len, hidden))
    for number, (row, places) in enumerate(zip(echo.seen, hidden, strict=True)):  # the texts grow: their order is kept
        assert places == [place for place in range(1, len(row) - 1) if place % 7 == number % 7]
    counts = Counter(tokenizer("cat cat cat dog")["input_ids"][1:-1])
    own = [tokenizer(text)["input_ids"] for text in texts]
    asked = [row[place] for row, places in zip(own, hidden, strict=True) for place in places]
    shares = [(counts[token] + 1) / (counts.total() + len(tokenizer)) for token in asked]
    assert len(set(shares)) > 1
    assert unigram.value == pytest.approx(-sum(map(math.log, shares)) / loss.n)


def test_mask_probabilities_do_not_depend_on_the_batch(load):
    model = load()
    texts = ["the cat is {mask}.", "my neighbor and her good old friend is a {mask} person, they say."] * 40
    together = model.head.distribution(texts)
    alone = model.head.distribution(texts[:1])
    assert together.shape == (80, model.lm.config.vocab_size)
    assert abs(together[0] - alone[0]).max() < 1e-6
    assert together.sum(axis=1) == pytest.approx(1)
