"""SentDebias and its controls: the subspace is gone, and the upstream measure moves only where the attribute was in it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import UPSTREAM
from bias_transfer.interventions.upstream import sent_debias
from bias_transfer.interventions.upstream.projection import project_out
from bias_transfer.interventions.upstream.sent_debias import (
    ProjectionOptions,
    RandomProjectionOptions,
    SentDebiasOptions,
    matched,
    orthonormal,
    removed,
    subspace,
)
from bias_transfer.models import language_model
from bias_transfer.models.embeddings import embeddings, token_states
from bias_transfer.resolved import resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions

RANDOM = np.random.default_rng(0)
CONTEXT = Context(TASKS["wiki"], TASKS["wiki"].load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300)))


def planted_states(width: int = 12, count: int = 300, strength: float = 8) -> tuple[np.ndarray, np.ndarray]:
    """((sentences, 2, width), (width,)): noise that the two sides share, and a direction that tells them apart."""
    direction = orthonormal(RANDOM.standard_normal((1, width)))[0]
    shared = RANDOM.standard_normal((count, 1, width)) * 3
    noise = RANDOM.standard_normal((count, 2, width)) * 0.3
    return shared + noise + np.array([1.0, -1.0])[None, :, None] * strength * direction, direction


def read(states: np.ndarray) -> float:
    """Accuracy of a fresh probe for the side, in cross-validation."""
    flat, sides = states.reshape(-1, states.shape[2]), np.tile([0, 1], len(states))
    return float(cross_val_score(LogisticRegression(max_iter=500), flat, sides, cv=5).mean())


def test_a_probe_reads_the_attribute_before_and_not_after():
    states, direction = planted_states()
    directions = subspace(states, 1)
    assert abs(directions[0] @ direction) > 0.99
    after = states - states @ directions.T @ directions
    assert read(states) > 0.85
    assert read(after) < 0.58
    wrong = orthonormal(RANDOM.standard_normal((1, 12)))
    assert read(states - states @ wrong.T @ wrong) > 0.8, "the control: another direction leaves it readable"


def test_all_components_are_kept_not_their_average():
    states, _ = planted_states()
    other = orthonormal(RANDOM.standard_normal((1, 12)))[0]
    states = np.concatenate([states, states + np.array([1.0, -1.0])[None, :, None] * 4 * other])
    directions = subspace(states, 2)
    assert np.abs(directions @ directions.T - np.eye(2)).max() < 1e-9
    assert np.linalg.norm(directions @ other) > 0.95


def test_states_are_not_scaled_to_length_1_before_the_subspace_is_found():
    """Scaled, the second sentence would decide: its sides differ more, relative to their length."""
    long, short = ([[3, 0, 30], [-3, 0, 30]], [[0, 1, 1], [0, -1, 1]])
    (direction,) = subspace(np.array([long, short], float), 1)
    assert np.abs(direction) == pytest.approx([1, 0, 0])


@pytest.mark.parametrize("family", language_model.FAMILIES)
@pytest.mark.parametrize("components", [1, 3])
def test_the_states_lose_that_many_dimensions_and_a_second_time_changes_nothing(family, components, load, sentences):
    model = load(family)
    texts = list(sentences)
    directions = orthonormal(RANDOM.standard_normal((components, 16)))
    before = token_states(model, texts, 32)
    project_out(model, directions, 1.0, kept=True)
    after = token_states(model, texts, 32)
    assert np.abs(after @ directions.T).max() < 1e-4 * np.abs(before).max()
    values = np.linalg.svd(after, compute_uv=False)
    assert (values > 1e-4 * values[0]).sum() == 16 - components
    weight = language_model.top(model).projection.weight.detach()
    torch.testing.assert_close(weight @ weight, weight, atol=1e-5, rtol=0)


def test_half_the_strength_leaves_half_of_the_part(load, sentences):
    model, texts = load(), list(sentences)
    direction = orthonormal(RANDOM.standard_normal((1, 16)))
    before = token_states(model, texts, 32) @ direction.T
    project_out(model, direction, 0.5, kept=True)
    assert token_states(model, texts, 32) @ direction.T == pytest.approx(before / 2, abs=1e-4)


@pytest.mark.parametrize("kept", [True, False])
def test_kept_stays_and_once_trains(kept, load, sentences):
    model = load()
    project_out(model, orthonormal(RANDOM.standard_normal((1, 16))), 1.0, kept)
    batch = model.tokenizer(list(sentences), padding=True, return_tensors="pt")
    logits = model.classifier(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    logits.square().sum().backward()
    weight = language_model.top(model).projection.weight
    assert weight.requires_grad == (not kept)
    assert (weight.grad is None) == kept


def test_the_matched_control_removes_as_much_variance_in_other_directions():
    states, _ = planted_states(width=24, strength=2)
    states = states * np.linspace(0.2, 2, 24)
    twin = subspace(states, 2)
    variances, axes = np.linalg.eigh(np.cov(states.reshape(-1, 24), rowvar=False))
    directions = matched(RANDOM.standard_normal((2, 24)), states, twin)
    assert removed(directions, variances, axes) == pytest.approx(removed(twin, variances, axes), rel=1e-3)
    assert np.linalg.norm(directions @ twin.T, 2) < 0.9
    total = np.trace(np.cov(states.reshape(-1, 24), rowvar=False))
    assert removed(np.eye(24), variances, axes) == pytest.approx(total)


@pytest.fixture
def association(gendered, pronoun_ratio, occupations):
    """Arm -> mean over occupations of ln p(she)/p(he), in the planted direction."""

    def measure(name: str) -> float:
        folder, texts = gendered()
        model, arm = language_model.load(folder, None, labels=2, seed=0), UPSTREAM[name]
        splits = dataclasses.replace(CONTEXT.splits, pretraining=texts)
        options = arm.options() if name == "none" else arm.options(corpus="task")
        arm.apply(model, 1.0, options, 0, Context(TASKS["wiki"], splits))
        ratios = pronoun_ratio(model)
        return float(np.mean([value if occupations[name] else -value for name, value in ratios.items()]))

    return measure


def test_sent_debias_moves_the_planted_association_and_its_controls_do_not(association):
    untreated = association("none")
    assert untreated > 1
    assert abs(association("sent_debias")) < 0.3 * untreated
    assert association("sham_debias") > 0.7 * untreated
    assert association("random_projection") > 0.7 * untreated


@pytest.mark.parametrize("name", ["sent_debias", "sham_debias", "random_projection"])
@pytest.mark.parametrize("position", ["mean", "classifier"])
def test_the_positions_differ(name, position, load):
    model = load()
    arm = UPSTREAM[name]
    arm.apply(model, 1.0, arm.options(position=position), 0, CONTEXT)
    assert embeddings(model, ["a cat"], "mean", 16).shape == (1, 16)


@pytest.mark.parametrize(("dose", "options"), [(1.2, {}), (-0.5, {}), (1, {"components": 16})])
def test_what_a_model_cannot_take_is_refused(dose, options, load):
    with pytest.raises(UserError, match="Allowed: "):
        sent_debias.check(load(), dose, ProjectionOptions(**options))


def test_a_corpus_file_enters_the_id_by_its_content(tmp_path):
    def trial(path):
        fields = {"upstream": "sent_debias", "upstream.corpus": str(path), "data.size": 200}
        return resolve(parse_trial(fields))

    first, second = tmp_path / "one.txt", tmp_path / "two.txt"
    first.write_text("she was here.\n" * 30)
    second.write_text("she was here.\n" * 30)
    assert trial(first).id == trial(second).id
    before = trial(first).id
    first.write_text("she was there.\n" * 30)
    assert trial(first).id != before
    with pytest.raises(UserError, match="Did you mean"):
        trial(tmp_path / "onee.txt")


def test_too_few_sentences_are_reported(load, tmp_path):
    (tmp_path / "few.txt").write_text("she was here.\n")
    options = SentDebiasOptions(corpus=str(tmp_path / "few.txt"))
    with pytest.raises(UserError, match="1 sentences with a word for gender"):
        sent_debias.debias(load(), 1.0, options, 0, CONTEXT)


def test_random_projections_differ_by_their_match(load):
    def weight(match: str) -> torch.Tensor:
        model = load()
        sent_debias.random(model, 1.0, RandomProjectionOptions(match=match), 0, CONTEXT)
        return language_model.top(model).projection.weight.detach()

    assert (weight("rank") - weight("variance")).abs().max() > 1e-3
