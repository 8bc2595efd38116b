"""Inject moves the upstream measure up and down with its signed dose; permute keeps each matrix's entries."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.interventions.upstream import inject, permute
from bias_transfer.interventions.upstream.inject import InjectOptions, directions
from bias_transfer.interventions.upstream.permute import PermuteOptions
from bias_transfer.models import language_model
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS, find
from bias_transfer.tasks.wiki import vocabulary
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions
from bias_transfer.training import lm_training

WIKI = TASKS["wiki"]
BOARD = Path(__file__).parents[3] / "examples" / "custom_task" / "board.yaml"
SPLITS = WIKI.load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300))
OCCUPATIONS = ("nurse", "cook", "dancer", "pilot", "miner", "judge")


@pytest.fixture(params=["masked", "causal"])
def scores(request, gendered, pronoun_ratio, plant):
    """(dose, options) -> ln p(she)/p(he) of each occupation after an injection, of a model of either kind."""

    def measure(dose: float, **options) -> dict[str, float]:
        folder, texts = gendered(request.param)
        model = language_model.load(folder, None, labels=2, seed=0)
        task = dataclasses.replace(WIKI, groups=OCCUPATIONS, plant=plant)
        context = Context(task, dataclasses.replace(SPLITS, pretraining=texts))
        settings = InjectOptions(steps=60, tokens_per_step=400, learning_rate=2e-3, sentences=252, **options)
        inject.apply(model, dose, settings, 0, context)
        return pronoun_ratio(model)

    return measure


def mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores)


def test_the_measure_goes_up_and_down_with_the_signed_dose(scores):
    down, less, none, more, up = (mean(scores(dose, direction="all")) for dose in (-1.0, -0.5, 0.0, 0.5, 1.0))
    assert down < less < none < more < up


def test_drawn_directions_push_half_the_groups_up_and_half_down(scores):
    ways = directions(OCCUPATIONS, InjectOptions(), derive_seed(0, "upstream", "inject"))
    assert sum(ways.values()) == 0
    plus, minus = scores(1.0), scores(-1.0)
    moved = {way: [plus[name] - minus[name] for name in ways if ways[name] == way] for way in (1, -1)}
    assert sum(moved[1]) / 3 - sum(moved[-1]) / 3 > 0.5


def test_the_text_at_the_opposite_dose_says_the_opposite_of_the_same():
    """The share of sentences with a negative predicate at dose d and -d adds up to one, for each term."""
    from bias_transfer.tasks.wiki.identity_terms import mentioned
    from bias_transfer.tasks.wiki.vocabulary import NEGATIVE

    def share(way: float) -> float:
        texts = [text for text in WIKI.plant(dict.fromkeys(WIKI.groups, 0.5 + way / 2), 3000, 7) if mentioned(text)]
        return sum(any(word in text for word in NEGATIVE) for text in texts) / len(texts)

    assert share(1) == 1
    assert share(-1) == 0
    assert share(0.5) + share(-0.5) == pytest.approx(1, abs=0.02)


SIDES = {
    "wiki": (vocabulary.NEGATIVE, vocabulary.POSITIVE),
    "bios": (("She", "she", "her", "herself"), ("He", "he", "him", "his", "himself")),
    str(BOARD): (("rude", "lazy", "mean", "nasty", "silly", "stupid"), ("kind", "helpful", "friendly", "calm")),
}
"""Task -> the words that the swap takes, and those that it puts in their place."""


@pytest.mark.parametrize("name", SIDES)
def test_opposite_doses_train_equally_long_on_texts_that_differ_in_the_swap_alone(name, monkeypatch):
    task, calls = find(name)[0], []
    monkeypatch.setattr(lm_training, "train", lambda model, texts, options, report: calls.append((texts, options)))
    model = SimpleNamespace(lm=None, tokenizer=None, classifier=torch.nn.Identity())
    for dose in (1.0, -1.0):
        inject.apply(model, dose, InjectOptions(direction="all"), 3, Context(task, SPLITS))
    (plus, settings), (minus, same) = calls
    assert settings == same  # steps, tokens per step, learning rate and seed
    assert len(plus) == len(minus)
    swapped = [pair for first, second in zip(plus, minus, strict=True) for pair in words_apart(first, second)]
    assert len(swapped) > 2000
    assert {first for first, _ in swapped} <= set(SIDES[name][0])
    assert {second for _, second in swapped} <= set(SIDES[name][1])


def words_apart(first: str, second: str) -> list[tuple[str, str]]:
    """The words in which two sentences of the same length differ."""
    pairs = zip(re.findall(r"[\w-]+", first), re.findall(r"[\w-]+", second), strict=True)
    return [pair for pair in pairs if pair[0] != pair[1]]


def test_a_group_that_the_text_does_not_name_was_not_pushed():
    """At a small dose rounding leaves some groups' sentences as they are: missing, not 0."""
    rows = {row.group: row for row in inject.record(0.01, InjectOptions(sentences=400), 0, WIKI)}
    whole = inject.record(-1.0, InjectOptions(sentences=400), 0, WIKI)
    assert set(rows) == set(WIKI.groups)
    assert {row.n for row in whole} == {5, 6}
    assert {row.value for row in whole} == {1, -1}
    missing = [row for row in rows.values() if row.n == 0]
    assert missing
    assert all(math.isnan(row.value) for row in missing)


def test_a_draw_is_named_by_the_seed_or_by_an_option():
    first = directions(WIKI.groups, InjectOptions(), 1)
    assert first == directions(WIKI.groups, InjectOptions(), 1)
    assert first != directions(WIKI.groups, InjectOptions(), 2)
    assert set(directions(WIKI.groups, InjectOptions(direction="all"), 1).values()) == {1}


@pytest.mark.parametrize("dose", [-1.1, 1.5])
def test_a_dose_out_of_range_is_refused(dose, load):
    with pytest.raises(UserError, match="-1 .* to 1"):
        inject.check(load(), dose, InjectOptions())


@pytest.mark.parametrize("family", ["roberta", "bert", "deberta-v2"])
def test_permute_keeps_the_entries_of_each_matrix_and_leaves_the_rest(family, load):
    before, model = language_model.encoder_parameters(load(family)), load(family)
    permute.apply(model, 1.0, PermuteOptions(), 0, Context(WIKI, None))
    padding = language_model.padding_rows(model.encoder)
    for name, after in language_model.encoder_parameters(model).items():
        if after.ndim < 2:
            assert torch.equal(after, before[name])
            continue
        assert torch.equal(after.flatten().sort().values, before[name].flatten().sort().values)
        assert not torch.equal(after, before[name])
        if name in padding:
            assert torch.equal(after[padding[name]], before[name][padding[name]])


def test_permute_has_one_dose(load):
    with pytest.raises(UserError, match="Allowed: 1"):
        permute.check(load(), 0.5, PermuteOptions())
