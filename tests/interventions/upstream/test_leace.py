"""LEACE: no linear probe reads the attribute from the states that it was fitted on, at the least change; its twins leave it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bias_transfer.errors import UserError
from bias_transfer.interventions.upstream import leace
from bias_transfer.interventions.upstream.attribute_states import attribute_states, orthonormal, record
from bias_transfer.interventions.upstream.leace import Eraser, LeaceOptions, fit
from bias_transfer.models.language_model import top
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions

CONTEXT = Context(TASKS["wiki"], TASKS["wiki"].load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300)))


def planted(sides: int = 2, width: int = 12, count: int = 200) -> np.ndarray:
    """(sentences, sides, width): correlated noise, and a shift per side in a direction of little variance."""
    random = np.random.default_rng(3)
    shared = random.standard_normal((count, 1, width)) @ (
        random.standard_normal((width, width)) * np.linspace(0.1, 3, width)
    )
    noise = random.standard_normal((count, sides, width))
    return shared + noise + random.standard_normal((1, sides, width)) * 0.8 + 7


def erased(states: np.ndarray, eraser: Eraser) -> np.ndarray:
    return states - (states - eraser.mean) @ (eraser.left @ eraser.right).T


def probe(states: np.ndarray) -> tuple[float, float]:
    """(accuracy, largest weight) of a fresh, hardly penalised probe on the states that it learns from."""
    flat, side = states.reshape(-1, states.shape[2]), np.tile(np.arange(states.shape[1]), len(states))
    scaled = StandardScaler().fit_transform(flat)
    model = LogisticRegression(C=1e4, max_iter=5000).fit(scaled, side)
    return float(model.score(scaled, side)), float(np.abs(model.coef_).max())


@pytest.mark.parametrize("sides", [2, 3])
def test_a_fresh_linear_probe_is_at_chance_on_the_fitting_sample(sides):
    states = planted(sides)
    assert probe(states)[0] > 1 / sides + 0.2
    eraser = fit(states)
    accuracy, weight = probe(erased(states, eraser))
    assert accuracy == pytest.approx(1 / sides)
    assert weight < 1e-6
    assert eraser.left.shape == (12, sides - 1)
    # The control: a random subspace of the same rank about the same mean.
    directions = orthonormal(np.random.default_rng(0).standard_normal((sides - 1, 12)))
    assert probe(erased(states, Eraser(directions.T, directions, eraser.mean)))[0] > 1 / sides + 0.15


def test_it_is_a_projection_that_keeps_the_mean_and_changes_less_than_an_orthogonal_one():
    """The orthogonal projection along the difference of the means guards as well, and moves the states further."""
    states = planted()
    eraser = fit(states)
    change = eraser.left @ eraser.right
    assert change @ change == pytest.approx(change, abs=1e-9)
    after = erased(states, eraser)
    assert after.mean(axis=(0, 1)) == pytest.approx(states.mean(axis=(0, 1)))
    difference = states[:, 0].mean(axis=0) - states[:, 1].mean(axis=0)
    direction = difference[None] / np.linalg.norm(difference)
    orthogonal = erased(states, Eraser(direction.T, direction, eraser.mean))
    assert probe(orthogonal)[0] == pytest.approx(0.5)
    assert ((after - states) ** 2).sum() < 0.8 * ((orthogonal - states) ** 2).sum()


def test_it_is_that_of_the_authors_package():
    """concept-erasure without its shrinkage and its bound on the trace, which the equations do not have."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls torch.jit.script
        package = pytest.importorskip("concept_erasure")
    for sides in (2, 3):
        states = planted(sides)
        flat = torch.from_numpy(states.reshape(-1, states.shape[2]))
        side = torch.eye(sides, dtype=torch.float64).tile(len(states), 1)
        theirs = package.LeaceFitter.fit(flat, side, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-8).eraser
        ours = fit(states)
        assert np.abs(np.eye(12) - ours.left @ ours.right - theirs.P.numpy()).max() < 1e-10
        assert np.abs(erased(states, ours).reshape(flat.shape) - theirs(flat).numpy()).max() < 1e-9


def test_a_direction_of_rounding_errors_is_left_alone():
    """After a layer norm the states lie in a plane but for fp32's rounding, in which the concept would be read best."""
    states = planted()
    states[..., -1] = 5 + np.array([1e-6, -1e-6])
    eraser = fit(states)
    assert np.abs(eraser.left @ eraser.right).max() < 10


def applied(load, sentences=CONTEXT, dose=1.0, family="roberta", **options):
    model = load(family)
    settings = LeaceOptions(**options)
    leace.apply(model, dose, settings, 0, sentences)
    return model, settings


@pytest.mark.parametrize("family", ["roberta", "llama"])
@pytest.mark.parametrize(("words", "sides"), [("gender", 2), ("religion", 3)])
def test_the_classifiers_states_of_a_treated_model_are_guarded(family, words, sides, load):
    """As its trial records it, of a masked model by the first token and of a causal one by the last."""
    model, options = applied(load, family=family, words=words)
    rows = {row.metric: row.value for row in record(model, 1.0, options, 0, CONTEXT, "upstream")}
    assert rows["fitted_probe_accuracy"] == pytest.approx(1 / sides)
    assert rows["removed_rank"] == sides - 1
    for control in ("sham", "random"):
        model, options = applied(load, family=family, words=words, control=control)
        twin = {row.metric: row.value for row in record(model, 1.0, options, 0, CONTEXT, "upstream")}
        assert twin["fitted_probe_accuracy"] > 1 / sides + 0.05
        assert twin["removed_rank"] == sides - 1


def test_half_the_dose_leaves_half_of_the_difference_and_the_mean(load):
    options = LeaceOptions()
    before, half = (
        attribute_states(model, options, "gender", CONTEXT) for model in (load(), applied(load, dose=0.5)[0])
    )
    differences = [states[:, 0].mean(axis=0) - states[:, 1].mean(axis=0) for states in (before, half)]
    assert differences[1] == pytest.approx(differences[0] / 2, abs=1e-4 * np.abs(before).max())
    assert half.mean(axis=(0, 1)) == pytest.approx(before.mean(axis=(0, 1)), abs=1e-4 * np.abs(before).max())


@pytest.mark.parametrize("kept", [True, False])
def test_weight_and_bias_are_frozen_if_kept(kept, load):
    layer = top(applied(load, kept=kept)[0]).projection
    assert [weight.requires_grad for weight in layer.parameters()] == [not kept, not kept]


def test_equal_sides_leave_nothing_to_erase():
    states = np.repeat(planted()[:, :1], 2, axis=1)
    with pytest.raises(UserError, match="nothing to erase"):
        fit(states)
