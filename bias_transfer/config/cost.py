"""How many GPU-hours a grid takes: tokens and model size against a stated throughput, before anything is read or run.

The count is of floating-point operations: 6 a parameter and token to train, 2 to predict, embeddings left out (Kaplan et al.
2020, section 2.1). Start-up, data and recording are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bias_transfer.spec import Trial

TERAFLOPS = 100.0
"""What one GPU is taken to sustain, in 10^12 operations a second, where no other figure is given. Ours: a third of the bf16
peak of an A100; not measured here."""

TRAIN, PREDICT = 6, 2
"""Operations a parameter and token."""

BASE = 12 * 12 * 768**2
"""Parameters of a base encoder (12 layers of width 768), embeddings left out."""


@dataclass(frozen=True)
class Size:
    """A task's public data: how many examples, and tokens an example, that a trial reads."""

    train: int
    predicted: int
    """Dev and test, each as often as it is predicted."""
    tokens: float
    """Mean, cut at 128."""
    phrases: float = 0.0
    """Tokens of the identity phrases, and of neutral words in them."""


SIZES = {
    "bios": Size(train=257_478, predicted=39_642 + 2 * 99_069, tokens=73),
    "wiki": Size(train=95_692, predicted=32_128 + 31_866, tokens=56, phrases=(76_564 + 9_084) * 8.5),
}
"""Task -> its published data (SCIENCE.md, "The two tasks"); BIOS's test set is predicted as it is and scrubbed. Lengths are
means of samples of the real texts."""


@dataclass(frozen=True)
class Estimate:
    """GPU-hours of a grid, and what they rest on."""

    hours: float
    per_trial: float
    teraflops: float
    unknown: tuple[str, ...]
    """Data or models whose size had to be assumed."""


def gpu_hours(trials: Sequence[Trial], teraflops: float) -> Estimate | None:
    """Hours on one GPU that sustains so many 10^12 operations a second; None where no trial's size is known: `tiny` models
    and data that are read here are for a processor."""
    counted = [trial for trial in trials if trial.model != "tiny" and trial.task in SIZES]
    if not counted:
        return None
    hours = sum(operations(trial) for trial in counted) / (teraflops * 1e12 * 3600)
    assumed = [trial.model for trial in counted if _config(trial.model) is None]
    return Estimate(hours, hours / len(counted), teraflops, tuple(dict.fromkeys(assumed)))


def operations(trial: Trial) -> float:
    """Floating-point operations of fine-tuning and prediction, on the task's published data."""
    size, parameters = SIZES[trial.task], _parameters(trial.model)
    tokens = min(size.tokens, trial.max_tokens)
    return parameters * (
        TRAIN * trial.epochs * size.train * tokens + PREDICT * (size.predicted * tokens + size.phrases)
    )


def _parameters(model: str) -> int:
    """Without embeddings: 12 L h^2; of a base encoder where the configuration is not here."""
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
        found = try_to_load_from_cache(name, "config.json", revision=revision or None) if "/" in name else None
        path = Path(found) if isinstance(found, str) else path
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else None
    except (OSError, ValueError):
        return None
