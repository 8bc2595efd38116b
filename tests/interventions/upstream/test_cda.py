"""CDA trains on both sides of each sentence and undoes an association; its control trains on the same sentences unswapped."""

from __future__ import annotations

import dataclasses
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bias_transfer.errors import UserError
from bias_transfer.interventions.counterfactual import SWAPPED, counterfactual
from bias_transfer.interventions.registry import UPSTREAM
from bias_transfer.interventions.upstream import cda, dropout
from bias_transfer.interventions.upstream.attribute_words import SETS
from bias_transfer.interventions.upstream.cda import CdaOptions
from bias_transfer.interventions.upstream.dropout import DropoutOptions
from bias_transfer.models import language_model
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions
from bias_transfer.training import lm_training

WIKI = TASKS["wiki"]
SPLITS = WIKI.load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300))
TEXTS = tuple(f"So {who} said {n}." for n in range(20) for who in ("she", "he")) + ("Nobody was there.",) * 30


@pytest.fixture
def trained_on(monkeypatch):
    """(arm, dose, options, context) -> (texts, settings) of its training."""
    calls = list[tuple[list[str], lm_training.TinyOptions]]()
    monkeypatch.setattr(lm_training, "train", lambda model, texts, options, report: calls.append((texts, options)))
    config = SimpleNamespace(hidden_dropout_prob=0.1)
    model = SimpleNamespace(lm=SimpleNamespace(config=config), classifier=torch.nn.Identity(), kind="masked")

    def train(arm, dose: float, options, texts=TEXTS, seed: int = 0):
        arm.apply(model, dose, options, seed, Context(WIKI, dataclasses.replace(SPLITS, pretraining=texts)))
        return calls[-1]

    return train


def test_the_text_has_both_sides_of_every_sentence_and_none_without_an_attribute_word(trained_on):
    texts, _ = trained_on(cda, 1.0, CdaOptions(corpus="task"))
    counts = Counter(texts)
    assert len(texts) == 80
    assert all(counts[counterfactual(text, SWAPPED["gender"])] == count for text, count in counts.items())
    assert not any("Nobody" in text for text in texts)
    control, _ = trained_on(cda, 1.0, CdaOptions(corpus="task", control=True))
    assert Counter(control) == dict.fromkeys(TEXTS[:40], 2)


@pytest.mark.parametrize("words", ["gender", "religion"])
@pytest.mark.parametrize("dose", [0.25, 1.0])
def test_the_control_trains_as_long_on_as_many_sentences_with_the_same_seed(words, dose, trained_on):
    (texts, settings), (unswapped, same) = (
        trained_on(cda, dose, CdaOptions(words=words, control=control)) for control in (False, True)
    )
    assert settings == same  # steps, tokens per step, learning rate and seed
    pairs = [(first, second) for first, second in zip(texts, unswapped, strict=True) if first != second]
    assert len(pairs) == round(dose * (len(texts) - len(pairs)))
    sides = len(SETS[words][0])
    turns = [{counterfactual(before, SWAPPED[words], shift) for shift in range(1, sides)} for _, before in pairs]
    assert all(after in possible for (after, _), possible in zip(pairs, turns, strict=True))
    assert {after == counterfactual(before, SWAPPED[words]) for after, before in pairs} == {True, sides == 2}


def test_a_smaller_dose_swaps_a_part_of_what_a_larger_one_swaps(trained_on):
    few, many = (set(trained_on(cda, dose, CdaOptions(corpus="task"))[0][40:]) for dose in (0.2, 0.7))
    assert (len(few), len(many)) == (8, 28)
    assert few < many


def test_the_share_is_recorded():
    context = Context(WIKI, dataclasses.replace(SPLITS, pretraining=TEXTS))
    (row,) = cda.record(None, 0.5, CdaOptions(corpus="task"), 0, context)
    assert (row.metric, row.value, row.n) == ("swapped_share", 20 / 60, 60)
    (control,) = cda.record(None, 0.5, CdaOptions(corpus="task", control=True), 0, context)
    assert (control.value, control.n) == (0, 60)


def test_dropout_trains_on_the_text_of_the_control_in_an_order_of_its_own(trained_on, monkeypatch):
    monkeypatch.setattr(dropout, "with_rates", lambda lm, new: torch.no_grad())
    (texts, settings), (same, again) = (
        trained_on(dropout, 1.0, DropoutOptions(corpus="task", control=control)) for control in (False, True)
    )
    unswapped, of_cda = trained_on(cda, 1.0, CdaOptions(corpus="task", control=True))
    assert (texts, settings) == (same, again)
    assert sorted(texts) == sorted(unswapped)
    assert settings.seed != of_cda.seed
    assert settings.model_copy(update={"seed": 0}) == of_cda.model_copy(update={"seed": 0})


def test_a_draw_is_named_by_the_seed_or_by_an_option(trained_on):
    seeds = [
        trained_on(cda, 1.0, CdaOptions(draw=draw), seed=seed)[1].seed for draw, seed in ((3, 0), (3, 1), (None, 3))
    ]
    assert len(set(seeds)) == 1


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_cda_undoes_an_association_and_its_control_does_not(kind, gendered, pronoun_ratio, occupations):
    def association(name: str, **options) -> float:
        folder, texts = gendered(kind)
        model, arm = language_model.load(folder, None, labels=2, seed=0), UPSTREAM[name]
        context = Context(WIKI, dataclasses.replace(SPLITS, pretraining=texts))
        settings = {"corpus": "task", "steps": 60, "tokens_per_step": 400, "learning_rate": 2e-3, **options}
        arm.apply(model, 1.0, arm.options(**({} if name == "none" else settings)), 0, context)
        ratios = pronoun_ratio(model)
        return float(np.mean([value if occupations[key] else -value for key, value in ratios.items()]))

    untreated = association("none")
    assert untreated > 1
    assert abs(association("cda")) < 0.3 * untreated
    assert association("cda", control=True) > 0.8 * untreated


@pytest.mark.parametrize("dose", [-0.5, 1.01])
def test_a_dose_out_of_range_is_refused(dose, load):
    for arm in (cda, dropout):
        with pytest.raises(UserError, match="Allowed: above 0, at most 1"):
            arm.check(load(), dose, CdaOptions())
