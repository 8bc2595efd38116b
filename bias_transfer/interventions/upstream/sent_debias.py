"""SentDebias (Liang et al. 2020) and its controls: project a subspace out of the last hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field

from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed, file_digest, text_digest
from bias_transfer.interventions.upstream import attribute_words
from bias_transfer.interventions.upstream.projection import project_out
from bias_transfer.models.embeddings import embeddings
from bias_transfer.models.hub import did_you_mean
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Context

FEWEST = 20
"""Sentences with an attribute word that a subspace is estimated from, at least (ours)."""

MOST_TOKENS = 64

CORPORA = ("both", "built-in", "task")


class ProjectionOptions(Options):
    """`upstream.NAME` for sham_debias; sent_debias and random_projection add to them. Defaults are ours."""

    components: int = Field(default=1, ge=1)
    """k, the number of dimensions that are projected out."""
    kept: bool = True
    """The projection is frozen in fine-tuning; false: it trains like other weights."""
    position: Literal["mean", "classifier"] = "mean"
    """Which states the subspace is estimated from: the mean over a sentence's own tokens, without special tokens, or the state
    that the classification head reads."""
    corpus: str = "both"
    """`built-in` sentences, the `task`'s pre-training text, `both`, or the path of a UTF-8 file with one text per line."""
    corpus_digest: str | None = None
    """SHA-256 of the corpus file, set by `resolved`."""
    sentences: int = Field(default=2000, ge=FEWEST)
    """Use the first N sentences that contain a word of the attribute."""

    def resolved(self) -> Self:
        """These options with the digest of the corpus file. Raises UserError if the file does not exist."""
        if self.corpus in CORPORA:
            return self
        path = Path(self.corpus)
        if not path.is_file():
            raise UserError(
                f"upstream.corpus: {self.corpus!r} is not a file.{did_you_mean(self.corpus)} Allowed: "
                f"{', '.join(CORPORA)}, or a UTF-8 file with one text per line."
            )
        return self.model_copy(update={"corpus_digest": file_digest(path)})


class SentDebiasOptions(ProjectionOptions):
    """`upstream.NAME` for `upstream: sent_debias`."""

    words: Literal["gender", "religion"] = "gender"


class RandomProjectionOptions(SentDebiasOptions):
    """`upstream.NAME` for `upstream: random_projection`."""

    match: Literal["rank", "variance"] = "rank"
    """rank: a random subspace with as many dimensions; variance: one that also removes as much variance of the sentences."""


def check(model: LanguageModel, dose: float, options: ProjectionOptions) -> None:
    """Raises UserError for a strength outside [0, 1], and for as many components as the model's width or more."""
    if not 0 <= dose <= 1:
        raise UserError(f"upstream_dose {dose:g}: it is the strength of a projection. Allowed: above 0, at most 1.")
    width = int(model.lm.config.hidden_size)
    if options.components >= width:
        raise UserError(
            f"upstream.components: {options.components}; the model's width is {width}. Allowed: 1 to {width - 1}."
        )


def debias(model: LanguageModel, dose: float, options: SentDebiasOptions, seed: int, context: Context) -> None:
    """Project the attribute's subspace out, in place. The seed has no effect."""
    if dose:
        states = attribute_states(model, options, options.words, context)
        project_out(model, subspace(states, options.components), dose, options.kept)


def sham(model: LanguageModel, dose: float, options: ProjectionOptions, seed: int, context: Context) -> None:
    """As `debias`, with words that say nothing about a person: what such a projection does by itself."""
    if dose:
        states = attribute_states(model, options, "neutral", context)
        project_out(model, subspace(states, options.components), dose, options.kept)


def random(model: LanguageModel, dose: float, options: RandomProjectionOptions, seed: int, context: Context) -> None:
    """As `debias`, with a random subspace that the seed draws."""
    if not dose:
        return
    generator = np.random.default_rng(derive_seed(seed, "upstream", "random_projection"))
    states = attribute_states(model, options, options.words, context)
    draw = generator.standard_normal((options.components, states.shape[2]))
    if options.match == "variance":
        directions = matched(draw, states, subspace(states, options.components))
    else:
        directions = orthonormal(draw)
    project_out(model, directions, dose, options.kept)


def attribute_states(model: LanguageModel, options: ProjectionOptions, words: str, context: Context) -> np.ndarray:
    """Hidden states of each sentence with each side of the attribute in it: (sentences, sides, width), fp64.

    Raises UserError for a corpus with too few sentences that contain a word of the attribute, and for states that are not
    finite.
    """
    swapped = attribute_words.swapped(_corpus(options, words, context), attribute_words.SETS[words])
    variants = list(islice(swapped, options.sentences))
    if len(variants) < FEWEST:
        raise UserError(
            f"upstream.corpus: {options.corpus} has {len(variants)} sentences with a word for {words}; {FEWEST} are needed. "
            "Choose another corpus: built-in, task, both, or a text file."
        )
    sides = len(variants[0])
    texts = [text for variant in variants for text in variant]
    key = {"embeddings": text_digest(texts), "position": options.position, "max_tokens": MOST_TOKENS}
    flat = context.remember(key, lambda: embeddings(model, texts, options.position, MOST_TOKENS))
    if not np.isfinite(flat).all():
        raise UserError(
            "the model's hidden states are not finite, so no subspace can be estimated from them. Check the checkpoint."
        )
    return flat.reshape(len(variants), sides, -1)


def _corpus(options: ProjectionOptions, words: str, context: Context) -> Iterator[str]:
    if options.corpus in ("both", "built-in"):
        yield from attribute_words.built_in(attribute_words.SETS[words])
    if options.corpus in ("both", "task"):
        yield from attribute_words.sentences(context.splits.pretraining)
    if options.corpus not in CORPORA:
        try:
            lines = Path(options.corpus).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"upstream.corpus: {options.corpus} is not UTF-8. Save it in that encoding.") from None
        yield from attribute_words.sentences(lines)


def subspace(states: np.ndarray, components: int) -> np.ndarray:
    """The first k principal components, (k, width), orthonormal rows, of the states less their sentence's mean over sides.

    states: (sentences, sides, width), not scaled to length 1 (bias-bench does so). Liang et al. 2020, algorithm 1. All k
    components are used, not their average.
    """
    centred = (states - states.mean(axis=1, keepdims=True)).reshape(-1, states.shape[2])
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(directions[:components])


def matched(draw: np.ndarray, states: np.ndarray, twin: np.ndarray) -> np.ndarray:
    """Random directions, (k, width), that remove as much variance of the states as `twin` does, or as nearly as possible.

    draw: (k, width), standard normal; states: (sentences, sides, width); twin: (k, width), orthonormal rows.
    """
    # The draw is weighted by a power of the variances along the principal axes. The larger the power, the more variance the
    # directions remove, so bisection finds the power.
    flat = states.reshape(-1, states.shape[2])
    variances, axes = np.linalg.eigh(np.cov(flat, rowvar=False))
    variances = np.clip(variances, variances.max() * 1e-12, None)
    target = removed(twin, variances, axes)
    low, high = -3.0, 3.0
    for _ in range(60):
        power = (low + high) / 2
        directions = orthonormal((draw * variances**power) @ axes.T)
        low, high = (power, high) if removed(directions, variances, axes) < target else (low, power)
    return directions


def removed(directions: np.ndarray, variances: np.ndarray, axes: np.ndarray) -> float:
    """The variance in the span of the directions (k, width): the sum of v' C v.

    C, the covariance of the states, is given by its eigenvalues `variances` (width,) and eigenvectors `axes`, in columns.
    """
    return float((((directions @ axes) ** 2) * variances).sum())


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """An orthonormal basis, (k, width), of the span of the rows."""
    return np.asarray(np.linalg.qr(rows.T)[0].T)
