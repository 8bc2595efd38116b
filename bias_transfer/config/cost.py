"""Estimate the GPU-hours of a grid from tokens, model sizes and a stated throughput, before anything is read or run.

Floating-point operations are counted: 6 per parameter and token to train, 2 to predict, without embeddings (Kaplan et al.
2020, section 2.1). Start-up, reading data and recording are not included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bias_transfer.spec import Trial

TERAFLOPS = 100.0
"""Default throughput of one GPU, in 10^12 operations per second: a third of the bf16 peak of an A100. Assumed, not measured."""

CPU_TERAFLOPS = 0.5
"""The same of two CPU cores with AMX, in bf16: SmolLM2 reads WIKI's phrases in five minutes (measured)."""

TRAIN, PREDICT = 6, 2
"""Operations per parameter and token."""

BASE = 12 * 12 * 768**2
"""Parameters of a base encoder (12 layers of width 768) without embeddings."""


@dataclass(frozen=True)
class Size:
    """Size of a task's published data: how many examples a trial reads, and how many tokens they have."""

    train: int
    predicted: int
    """Predicted examples: dev and test, each as often as it is predicted."""
    tokens: float
    """Mean tokens per example, truncated at 128."""
    asked: int
    """Tokens that a prompt adds to each predicted text: question and answers, counted with SmolLM2's tokenizer."""


SIZES = {
    "bios": Size(train=257_478, predicted=39_642 + 2 * 99_069, tokens=73, asked=16),
    "wiki": Size(train=95_692, predicted=32_128 + 31_866, tokens=56, asked=11),
}
"""Task -> size of its published data (docs/science.md, "The two tasks"). BIOS's test set is predicted twice, as it is and
scrubbed. Lengths are means over samples of the real texts."""

PHRASES, PHRASE_TOKENS = 76_564 + 9_084, 8.5
"""WIKI's identity phrases, with identity terms and with neutral words, and their mean tokens."""

PER_TERM = "metric.phrases_per_term"


def phrases(trial: Trial) -> int:
    """Identity and neutral phrases that a trial of WIKI predicts, of the published ones (`tasks.wiki.probe_sets.choose`): those
    of 50 terms, of six neutral words, and those that name neither, of which there are 432 non-toxic ones."""
    per_term = trial.options.get(PER_TERM)
    if per_term is None:
        return PHRASES
    harmless = int(per_term)
    toxic = -(-harmless // 4)
    return (50 + 6) * (harmless + toxic) + min(harmless, 432) + toxic


COPIED = {"bios": 1.0, "wiki": 0.1}
"""Task -> share of the training set that `augment` copies at dose 1: nearly all biographies have a gendered word, and of the
comments at hand a tenth mentions an identity term."""


TOKENS_PER_WORD = 1.4
"""Of English text: 1.36 on HateCheck's cases and 1.43 on Wikipedia's comments, with SmolLM2's tokenizer (measured)."""

MULTI_TOKEN_TOKENS = 255 * 3_153
"""Tokens that `metric.multi_token` reads on WIKI: in each of its 255 texts the beginnings of the words of VADER's lexicon that
are several tokens for SmolLM2, 2,074 of them, which have 3,153 tokens in all."""


@dataclass(frozen=True)
class FurtherTexts:
    """What a trial reads in addition to its task's published data: the number of words of each text."""

    evaluated: tuple[int, ...] = ()
    """The texts of its evaluation sets, which its classifier predicts."""
    asked: tuple[int, ...] = ()
    """BBQ's questions, each with each of its answers, which the language model reads before fine-tuning."""


NOTHING_FURTHER = FurtherTexts()


@dataclass(frozen=True)
class Estimate:
    """GPU-hours of a grid, and the assumptions behind them."""

    hours: float
    per_trial: float
    teraflops: float
    unknown: tuple[str, ...]
    """Models whose size is unknown here; a base model's was assumed."""


def gpu_hours(
    trials: Sequence[Trial], teraflops: float, further: Callable[[Trial], FurtherTexts] = lambda trial: NOTHING_FURTHER
) -> Estimate | None:
    """GPU-hours at `teraflops` (10^12 operations per second). None if no trial has a known size: `tiny` models run on a CPU,
    and the size of a custom task's data is unknown. further: what each trial reads in addition."""
    counted = [trial for trial in trials if trial.model != "tiny" and trial.task in SIZES]
    if not counted:
        return None
    before = {_before_finetuning(trial): trial for trial in counted}.values()
    in_all = [operations(trial, further(trial)) for trial in counted]
    in_all += [measured_operations(trial, further(trial)) for trial in before]
    hours = sum(in_all) / (teraflops * 1e12 * 3600)
    assumed = [trial.model for trial in counted if not _known(trial.model)]
    return Estimate(hours, hours / len(counted), teraflops, tuple(dict.fromkeys(assumed)))


def operations(trial: Trial, further: FurtherTexts = NOTHING_FURTHER) -> float:
    """Floating-point operations of a trial: fine-tuning and prediction on the task's published data, prediction of its
    evaluation sets, and an upstream arm that trains (whose weights trials that differ in nothing before fine-tuning share).

    A prompt trains nothing, and what stands before the text is read once per trial, which does not count.
    """
    size, parameters = SIZES[trial.task], _parameters(trial.model)
    tokens, prompted = min(size.tokens, trial.max_tokens), trial.tuning == "prompt"
    asked = size.asked if prompted else 0
    # Arms that remove examples are counted like the untouched one: only copies make a trial longer.
    copied = COPIED[trial.task] * (trial.downstream_dose or 1.0) if trial.downstream == "augment" else 0.0
    trained = 0.0 if prompted else trial.epochs * size.train * (1 + copied) * tokens
    of_phrases = phrases(trial) * (PHRASE_TOKENS + asked) if trial.task == "wiki" else 0.0
    evaluated = sum(min(TOKENS_PER_WORD * words, trial.max_tokens) + asked for words in further.evaluated)
    return parameters * (
        TRAIN * (trained + _upstream_tokens(trial))
        + PREDICT * (size.predicted * (tokens + asked) + of_phrases + evaluated)
    )


def measured_operations(trial: Trial, further: FurtherTexts) -> float:
    """Floating-point operations of BBQ and of words of several tokens, which are measured once for all trials that differ in
    nothing before fine-tuning."""
    several = trial.options.get("metric.multi_token") and trial.task == "wiki"
    tokens = TOKENS_PER_WORD * sum(further.asked) + (MULTI_TOKEN_TOKENS if several else 0)
    return PREDICT * _parameters(trial.model) * tokens


def _before_finetuning(trial: Trial) -> str:
    """What the language model depends on when it is measured. The untreated one is the same with all seeds."""
    owners = ("data", "model", "upstream", "metric")
    options = {key: value for key, value in trial.options.items() if key.partition(".")[0] in owners}
    seed = None if trial.upstream == "none" else trial.seed
    return str([trial.task, trial.data, trial.model, trial.upstream, trial.upstream_dose, seed, options])


def saved_operations(trial: Trial) -> float:
    """Floating-point operations that `metric.phrases_per_term` saves a trial of WIKI."""
    tokens = PHRASE_TOKENS + (SIZES["wiki"].asked if trial.tuning == "prompt" else 0)
    return PREDICT * _parameters(trial.model) * (PHRASES - phrases(trial)) * tokens


def _upstream_tokens(trial: Trial) -> float:
    """Tokens that the upstream arm trains on. A resolved trial has all options of its arm; one that is not may lack them."""
    steps, tokens = (trial.options.get(f"upstream.{name}", 0) for name in ("steps", "tokens_per_step"))
    return float(steps) * float(tokens)


def _parameters(model: str) -> int:
    """Parameters without embeddings: those of a GGUF file; else 12 L h^2 (L layers of width h); a base encoder's if nothing is
    known of the model."""
    from bias_transfer.models import gguf  # late: it loads torch, which --help does not wait for

    if file := gguf.file_of(model):
        return gguf.parameters(file)
    config = _config(model)
    if config is None:
        return BASE
    layers = config.get("num_hidden_layers") or config.get("n_layers") or 12
    width = config.get("hidden_size") or config.get("dim") or 768
    return 12 * int(layers) * int(width) ** 2


def _known(model: str) -> bool:
    from bias_transfer.models import gguf  # late, as above

    return gguf.file_of(model) is not None or _config(model) is not None


def _config(model: str) -> dict[str, int] | None:
    """A checkpoint folder's configuration, or a hub model's from the local cache."""
    from huggingface_hub import try_to_load_from_cache

    path = Path(model) / "config.json"
    if not path.is_file():
        name, _, revision = model.partition("@")
        cached = try_to_load_from_cache(name, "config.json", revision=revision or None) if "/" in name else None
        path = Path(cached) if isinstance(cached, str) else path
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else None
    except (OSError, ValueError):
        return None
