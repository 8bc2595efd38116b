"""Inject moves the upstream measure up and down with its signed dose; permute keeps each matrix's entries."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.interventions.upstream import inject, permute
from bias_transfer.interventions.upstream.inject import InjectOptions, directions
from bias_transfer.interventions.upstream.permute import PermuteOptions
from bias_transfer.models import language_model
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions

WIKI = TASKS["wiki"]
SPLITS = WIKI.load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300))
OCCUPATIONS = ("nurse", "cook", "dancer", "pilot", "miner", "judge")


@pytest.fixture
def scores(gendered, pronoun_ratio, plant):
    """(dose, options) -> ln p(she)/p(he) of each occupation after an injection."""

    def measure(dose: float, **options) -> dict[str, float]:
        folder, texts = gendered
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
