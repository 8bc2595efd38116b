"""Length and frequency of the groups' names by hand, and which text they are counted in."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
from datasets import Dataset

from bias_transfer.metrics.group_names import group_names, mentions
from bias_transfer.metrics.options import MetricOptions
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.word_lists import WIKI_WORDS

TEXTS = ["An African-American and an african man.", "africans, AFRICAN american", "gay"]


def test_mentions_are_whole_words_and_the_longest_name_wins():
    counts, total = mentions(["african", "african american", "gay", "deaf"], TEXTS)
    assert counts == {"african american": 2, "african": 1, "gay": 1}
    assert total == 11


def test_covariates_of_names_by_hand(load):
    names = {"aa": "african american", "gay": "gay", "deaf": "deaf"}
    tokenizer = load().tokenizer
    found = {(row.group, row.metric): (row.value, row.n) for row in group_names(names, tokenizer, TEXTS)}
    assert found["aa", "name_words"] == (2.0, 1)
    assert found["aa", "name_tokens"] == (len(tokenizer.tokenize("african american")), 1)
    assert found["aa", "name_log_frequency"] == (pytest.approx(math.log(2.5 / 11)), 11)
    assert found["deaf", "name_log_frequency"] == (pytest.approx(math.log(0.5 / 11)), 11)  # rare, and not missing
    (empty,) = (row for row in group_names({"gay": "gay"}, tokenizer, []) if row.metric == "name_log_frequency")
    assert math.isnan(empty.value)
    assert empty.n == 0


def test_the_text_at_hand_is_that_of_pretraining_else_the_untreated_training_set(load):
    train = Dataset.from_dict({"text": ["gay gay", "deaf"]})
    splits = Splits(train, train, train, ("never read by a checkpoint from elsewhere: gay",), ())
    sentences = shared_metrics.sentences_of({"gay": "gay"}, {"The {group} is {mask}.": "It is {mask}."})
    words = replace(WIKI_WORDS, sentences=lambda kind: sentences)
    measure = partial(shared_metrics.UPSTREAM["group_names"], words)
    for model, expected in (
        (load(), math.log(2.5 / 3)),
        (replace(load(), pretraining=splits.pretraining), math.log(1.5 / 8)),
    ):
        (row,) = (row for row in measure(model, splits, MetricOptions()) if row.metric == "name_log_frequency")
        assert row.value == pytest.approx(expected)
