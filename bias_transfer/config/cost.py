"""Estimate the GPU-hours of a grid from tokens, model sizes and a stated throughput, before anything is read or run.

Floating-point operations are counted: 6 per parameter and token to train, 2 to predict, without embeddings (Kaplan et al.
2020, section 2.1). Start-up, reading data and recording are not included.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bias_transfer.spec import Trial

TERAFLOPS = 100.0
"""Default throughput of one GPU, in 10^12 operations per second: a third of the bf16 peak of an A100. Assumed, not measured."""

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
    phrases: float = 0.0
    """Tokens of the identity phrases, with identity terms and with neutral words."""


SIZES = {
    "bios": Size(train=257_478, predicted=39_642 + 2 * 99_069, tokens=73),
    "wiki": Size(train=95_692, predicted=32_128 + 31_866, tokens=56, phrases=(76_564 + 9_084) * 8.5),
}
"""Task -> size of its published data (docs/science.md, "The two tasks"). BIOS's test set is predicted twice, as it is and
scrubbed. Lengths are means over samples of the real texts."""


COPIED = {"bios": 1.0, "wiki": 0.1}
"""Task -> share of the training set that `augment` copies at dose 1: nearly all biographies have a gendered word, and of the
comments at hand a tenth mentions an identity term."""


@dataclass(frozen=True)
class Estimate:
    """GPU-hours of a grid, and the assumptions behind them."""

    hours: float
    per_trial: float
    teraflops: float
    unknown: tuple[str, ...]
    """Models whose size is unknown here; a base model's was assumed."""


def gpu_hours(trials: Sequence[Trial], teraflops: float) -> Estimate | None:
    """GPU-hours at `teraflops` (10^12 operations per second). None if no trial has a known size: `tiny` models run on a CPU,
    and the size of a custom task's data is unknown."""
    counted = [trial for trial in trials if trial.model != "tiny" and trial.task in SIZES]
    if not counted:
        return None
    hours = sum(operations(trial) for trial in counted) / (teraflops * 1e12 * 3600)
    assumed = [trial.model for trial in counted if _config(trial.model) is None]
    return Estimate(hours, hours / len(counted), teraflops, tuple(dict.fromkeys(assumed)))


def operations(trial: Trial) -> float:
    """Floating-point operations of a trial's fine-tuning and prediction on the task's published data."""
    size, parameters = SIZES[trial.task], _parameters(trial.model)
    tokens = min(size.tokens, trial.max_tokens)
    # Arms that remove examples are counted like the untouched one: only copies make a trial longer.
    copied = COPIED[trial.task] * (trial.downstream_dose or 1.0) if trial.downstream == "augment" else 0.0
    return parameters * (
        TRAIN * trial.epochs * size.train * (1 + copied) * tokens + PREDICT * (size.predicted * tokens + size.phrases)
    )


def _parameters(model: str) -> int:
    """Parameters without embeddings: 12 L h^2 (L layers of width h); a base encoder's if the configuration is unknown."""
    config = _config(model)
    if config is None:
        return BASE
    layers = config.get("num_hidden_layers") or config.get("n_layers") or 12
    width = config.get("hidden_size") or config.get("dim") or 768
    return 12 * int(layers) * int(width) ** 2


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
