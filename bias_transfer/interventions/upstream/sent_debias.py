"""SentDebias (Liang et al. 2020) and its controls: a subspace is projected out of the last hidden states."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field

from bias_transfer.hashing import text_digest
from bias_transfer.models.embeddings import Position
from bias_transfer.models.embeddings import embeddings
from bias_transfer.models.hub import did_you_mean
from bias_transfer.interventions.upstream import attribute_words
from bias_transfer.interventions.upstream.projection import project_out
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.tasks.base import Context

FEWEST = 20
"""Sentences with an attribute word: with fewer a subspace is not worth its name (ours)."""

MOST_TOKENS = 64

CORPORA = ("both", "built-in", "task")


class ProjectionOptions(Options):
    """`upstream.NAME` for sham_debias; sent_debias and random_projection add their own. Defaults are ours."""

    components: int = Field(default=1, ge=1)
    """k: dimensions that are projected out."""
    kept: bool = True
    """The projection stays as it is in fine-tuning; false: it is applied once and then trains like other weights."""
    position: Position = "mean"
    """Where the subspace is looked for: the mean over tokens, or what the classification head reads."""
    corpus: str = "both"
    """`built-in`, embedded sentences; `task`, the task's text for pre-training; `both`; or a text file, a text a line."""
    corpus_digest: str | None = None
    """Content of the file, set by `trial.resolve`."""
    sentences: int = Field(default=2000, ge=FEWEST)
    """The first so many that hold a word of the attribute."""

    def resolved(self) -> Self:
        """With the digest of the corpus file. Raises UserError where there is none."""
        if self.corpus in CORPORA:
            return self
        path = Path(self.corpus)
        if not path.is_file():
            raise UserError(
                f"upstream.corpus: {self.corpus!r} is no file.{did_you_mean(self.corpus)} Allowed: "
                f"{', '.join(CORPORA)}, or a UTF-8 text file with a text a line."
            )
        return self.model_copy(update={"corpus_digest": hashlib.sha256(path.read_bytes()).hexdigest()})


class SentDebiasOptions(ProjectionOptions):
    """`upstream.NAME` for `upstream: sent_debias`."""

    words: Literal["gender", "religion"] = "gender"


class RandomProjectionOptions(SentDebiasOptions):
    """`upstream.NAME` for `upstream: random_projection`."""

    match: Literal["rank", "variance"] = "rank"
    """A random subspace of as many dimensions, or one that also removes as much variance of the sentences."""


def check(model: LanguageModel, dose: float, options: ProjectionOptions) -> None:
    """Raises UserError for a strength outside [0, 1], and for as many components as the model is wide."""
    if not 0 <= dose <= 1:
        raise UserError(f"upstream_dose {dose:g}: it is a strength. Allowed: above 0, at most 1.")
    width = int(model.masked_lm.config.hidden_size)
    if options.components >= width:
        raise UserError(
            f"upstream.components: {options.components}; the model is {width} wide. Allowed: 1 to {width - 1}."
        )


def debias(model: LanguageModel, dose: float, options: SentDebiasOptions, seed: int, context: Context) -> None:
    """Project the attribute's subspace out. The seed plays no part."""
    if dose:
        states = attribute_states(model, options, options.words, context)
        project_out(model, subspace(states, options.components), dose, options.kept)


def sham(model: LanguageModel, dose: float, options: ProjectionOptions, seed: int, context: Context) -> None:
    """The same with words that tell nothing of a person: what a projection of this kind does by itself."""
    if dose:
        states = attribute_states(model, options, "neutral", context)
        project_out(model, subspace(states, options.components), dose, options.kept)


def random(model: LanguageModel, dose: float, options: RandomProjectionOptions, seed: int, context: Context) -> None:
    """A random subspace, drawn by the seed."""
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
    """(sentences, sides, width): each sentence with each of an attribute's sides in it. Pairs repeat one side of three.

    Raises UserError where the corpus holds too few sentences with a word of the attribute.
    """
    variants = list(islice(_variants(options, words, context), options.sentences))
    if len(variants) < FEWEST:
        raise UserError(
            f"upstream.corpus: {options.corpus} has {len(variants)} sentences with a word for {words}; {FEWEST} are needed. "
            "Name another: built-in, task, both, or a text file."
        )
    sides = len(variants[0])
    texts = [text for variant in variants for text in variant]
    deciding = {"embeddings": text_digest(texts), "position": options.position, "max_tokens": MOST_TOKENS}
    flat = context.remember(deciding, lambda: embeddings(model, texts, options.position, MOST_TOKENS))
    if not np.isfinite(flat).all():
        raise UserError("the model's hidden states are not finite: no subspace can be found in them")
    return flat.reshape(len(variants), sides, -1)


def _variants(options: ProjectionOptions, words: str, context: Context) -> Iterator[tuple[str, ...]]:
    return attribute_words.swapped(_corpus(options, words, context), attribute_words.SETS[words])


def _corpus(options: ProjectionOptions, words: str, context: Context) -> Iterable[str]:
    if options.corpus in ("both", "built-in"):
        yield from attribute_words.built_in(attribute_words.SETS[words])
    if options.corpus in ("both", "task"):
        yield from attribute_words.sentences(context.splits.pretraining)
    if options.corpus not in CORPORA:
        try:
            lines = Path(options.corpus).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"upstream.corpus: {options.corpus} is not UTF-8") from None
        yield from attribute_words.sentences(lines)


def subspace(states: np.ndarray, components: int) -> np.ndarray:
    """(k, width), orthonormal: the first principal components of the sides of each sentence less their mean.

    states: (sentences, sides, width). Liang et al. 2020, algorithm 1; all k components are kept, not their average.
    """
    centred = (states - states.mean(axis=1, keepdims=True)).reshape(-1, states.shape[2])
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(directions[:components])


def matched(draw: np.ndarray, states: np.ndarray, twin: np.ndarray) -> np.ndarray:
    """(k, width): random directions that remove as much variance of the states as the twin's, or as near as can be.

    draw: (k, width), standard normal. It is weighted by a power of the states' variances, found by bisection: the larger
    the power, the more of the draw lies where the variance is.
    """
    flat = states.reshape(-1, states.shape[2])
    variances, axes = np.linalg.eigh(np.cov(flat, rowvar=False))
    variances = np.clip(variances, variances.max() * 1e-12, None)
    wanted = removed(twin, variances, axes)
    low, high = -3.0, 3.0
    for _ in range(60):
        power = (low + high) / 2
        found = orthonormal((draw * variances**power) @ axes.T)
        low, high = (power, high) if removed(found, variances, axes) < wanted else (low, power)
    return found


def removed(directions: np.ndarray, variances: np.ndarray, axes: np.ndarray) -> float:
    """The variance in the span of the directions: sum of v' C v, with C by its eigenvalues and axes (columns)."""
    return float((((directions @ axes) ** 2) * variances).sum())


def orthonormal(rows: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the rows' span: (k, width)."""
    return np.asarray(np.linalg.qr(rows.T)[0].T)
