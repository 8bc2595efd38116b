"""INLP: its classifiers' row space is gone, it stops at chance and at a quarter of the width, and its twins have its rank."""

from __future__ import annotations

import numpy as np
import pytest

from bias_transfer.errors import UserError
from bias_transfer.interventions.upstream import inlp
from bias_transfer.interventions.upstream.attribute_states import orthonormal, record
from bias_transfer.interventions.upstream.inlp import InlpOptions, _classifier, null_space
from bias_transfer.models.embeddings import token_states
from bias_transfer.pipeline import check
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions

CONTEXT = Context(TASKS["wiki"], TASKS["wiki"].load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300)))
WIDTH = 32


def planted(strength: float = 1.0, count: int = 400) -> list[np.ndarray]:
    """States of three classes that differ in a plane of two dimensions alone."""
    random = np.random.default_rng(5)
    plane = orthonormal(random.standard_normal((2, WIDTH)))
    centres = strength * np.array([[1, 0], [-0.5, 0.9], [-0.5, -0.9]]) @ plane
    return [centre + random.standard_normal((count, WIDTH)) for centre in centres]


def test_the_row_space_of_the_classifiers_is_removed_and_the_next_one_is_at_chance():
    states = planted()
    weights, informed = _classifier(states)
    assert informed
    directions = null_space(states, 80)
    assert directions @ directions.T == pytest.approx(np.eye(len(directions)))
    assert weights @ directions.T @ directions == pytest.approx(weights, abs=1e-9)
    after = [part - part @ directions.T @ directions for part in states]
    assert not _classifier(after)[1]
    assert len(directions) <= WIDTH // 4, "never more than a quarter"
    wrong = orthonormal(np.random.default_rng(0).standard_normal(directions.shape))
    assert _classifier([part - part @ wrong.T @ wrong for part in states])[1], "the control: others leave it readable"


def test_the_number_of_classifiers_and_the_width_bound_the_rank():
    """The classes differ in all dimensions, so that the accuracy never falls to chance."""
    random = np.random.default_rng(2)
    states = [random.standard_normal(WIDTH) + random.standard_normal((400, WIDTH)) for _ in range(3)]
    ranks = [len(null_space(states, most)) for most in (1, 2, 80)]
    assert ranks == [3, 6, 6], "a third classifier would make 9 of 32"


def test_noise_leaves_nothing_to_project_out():
    with pytest.raises(UserError, match="nothing to project out"):
        null_space(planted(strength=0.0), 80)


def test_a_sham_has_exactly_the_rank_that_is_asked_for_even_where_classifiers_are_at_chance():
    assert null_space(planted(strength=0.0), 80, rank=5).shape == (5, WIDTH)


@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_a_treated_model_loses_the_rank_and_its_twins_as_much(family, load, sentences):
    ranks = {}
    for control in (None, "sham", "random"):
        model, options = load(family), InlpOptions(control=control)
        before = token_states(model, list(sentences), 32)
        inlp.apply(model, 1.0, options, 0, CONTEXT)
        lost = np.linalg.svd(before - token_states(model, list(sentences), 32), compute_uv=False)
        rows = {row.metric: row.value for row in record(model, 1.0, options, 0, CONTEXT, "upstream")}
        ranks[control] = int((lost > 1e-4 * lost[0]).sum()), rows["removed_rank"]
    assert set(ranks.values()) == {(3, 3.0)}


def test_a_model_too_narrow_for_a_classifier_is_refused(load):
    model = load()
    model.lm.config.hidden_size = 8
    with pytest.raises(UserError, match="width 12 or more"):
        inlp.check(model, 1.0, InlpOptions())


@pytest.mark.parametrize("arm", ["inlp", "leace", "sent_debias", "random_projection", "cda", "dropout"])
def test_a_text_without_the_attribute_is_refused_before_the_trial(arm, tmp_path):
    (tmp_path / "plain.txt").write_text("The weather was nice.\n" * 100)
    trial = parse_trial(
        {
            "upstream": arm,
            "upstream.corpus": str(tmp_path / "plain.txt"),
            "data.size": 200,
            "data.pretraining_sentences": 300,
        }
    )
    with pytest.raises(UserError, match="plain.txt has 0 sentences with a word for gender; 20 are needed"):
        check(resolve(trial), Places(cache=tmp_path, device="cpu"))


def test_a_text_of_the_attribute_alone_has_no_third_class(tmp_path):
    (tmp_path / "all.txt").write_text("She was here.\n" * 100)
    with pytest.raises(UserError, match="0 sentences without a word for gender"):
        inlp.check_text(InlpOptions(corpus=str(tmp_path / "all.txt")), CONTEXT)
