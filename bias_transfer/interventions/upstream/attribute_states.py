"""Hidden states of sentences about an attribute, from which arms find the directions that they project out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bias_transfer.errors import UserError
from bias_transfer.hashing import text_digest
from bias_transfer.interventions.upstream import corpus, projection
from bias_transfer.metrics.linear_probe import linear_probe
from bias_transfer.models.embeddings import embeddings
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure, Stage
from bias_transfer.tasks.base import Context

MOST_TOKENS = 64

Attribute = Literal["gender", "religion"]

SHAM = {"gender": "neutral", "religion": "neutral triples"}
"""Attribute -> neutral words with as many sides, for shams of equal rank."""


class StatesOptions(corpus.CorpusOptions):
    """Options of all arms that insert a layer after the encoder's last one. Defaults are ours."""

    kept: bool = True
    """The layer is frozen in fine-tuning; false: it trains like other weights."""
    position: Literal["mean", "classifier"] = "mean"
    """Which states the layer is estimated from: the mean over a sentence's own tokens, without special tokens, or the state
    that the classification head reads."""


def check_strength(model: LanguageModel, dose: float, options: StatesOptions) -> None:
    """Raises UserError for a strength outside [0, 1]."""
    if not 0 <= dose <= 1:
        raise UserError(f"upstream_dose {dose:g}: it is the strength of a projection. Allowed: above 0, at most 1.")


def check_text(options: StatesOptions, context: Context) -> None:
    """Raises UserError for a corpus with too few sentences that contain a word of the attribute, or of its sham."""
    words = getattr(options, "words", "neutral")
    for each in (words, *([SHAM[words]] if getattr(options, "control", None) == "sham" else [])):
        corpus.variants(corpus.fewest(options), each, context)


def attribute_states(model: LanguageModel, options: StatesOptions, words: str, context: Context) -> np.ndarray:
    """Hidden states of each sentence with each side of the attribute in it: (sentences, sides, width), fp64.

    Raises UserError for a corpus with too few sentences that contain a word of the attribute, and for states that are not
    finite.
    """
    variants = corpus.variants(options, words, context)
    flat = states_of(model, [text for variant in variants for text in variant], options, context)
    return flat.reshape(len(variants), len(variants[0]), -1)


def states_of(model: LanguageModel, texts: Sequence[str], options: StatesOptions, context: Context) -> np.ndarray:
    """Hidden states at the options' position, (texts, width), fp64; computed once for all trials with the same untreated model.
    Raises UserError for states that are not finite."""
    key = {"embeddings": text_digest(texts), "position": options.position, "max_tokens": MOST_TOKENS}
    states = context.remember(key, lambda: embeddings(model, texts, options.position, MOST_TOKENS))
    if not np.isfinite(states).all():
        raise UserError(
            "the model's hidden states are not finite, so no subspace can be estimated from them. Check the checkpoint."
        )
    return states


def record(model: LanguageModel, dose: float, options: Any, seed: int, context: Context, stage: Stage) -> list[Measure]:
    """How well a fresh linear probe tells the sides of the attribute apart (`linear_probe`), and before fine-tuning
    `removed_rank`, the number of dimensions in which the inserted layer changes states.

    The probe reads the treated model's states of the arm's sentences at the arm's position; those of the attribute for a
    control too, which was fitted on others.
    """
    states = attribute_states(model, options, options.words, context)
    rows = linear_probe(states, stage)
    if stage == "upstream":
        n = states.shape[0] * states.shape[1]
        rows.append(Measure(stage, "removed_rank", "", "", float(projection.removed_rank(model)), n))
    return rows


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """An orthonormal basis, (k, width), of the span of the rows."""
    return np.asarray(np.linalg.qr(rows.T)[0].T)
