"""Cache keys: everything that an intermediate result depends on. Equal keys mean bit-identical results."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bias_transfer.hashing import digest
from bias_transfer.spec import NUMERICS, Trial

PACKAGES = ("datasets", "numpy", "scikit-learn", "tokenizers", "torch", "transformers", "vaderSentiment")
"""Another version of one of these may give other bits."""

# The root of the package, not this file's folder: an edit anywhere in it makes cached results invalid.
CODE = Path(__file__).parents[1]

AFTER = (
    "downstream", "downstream_dose", "epochs", "batch_size", "micro_batch_size", "learning_rate", "warmup", "weight_decay",
    "clip", "tuning",
)  # fmt: skip
"""Fields of a trial that act after the upstream measures. Every other field is part of their key, so that a field added
later is in it by default."""

NAMED_BY_CONTENT = ("task", "data", "model")
"""Fields that name a file, a folder or a hub id: their digest replaces the name in a key."""


def machine(device: str, threads: int) -> dict[str, Any]:
    """What any computation's bits depend on in addition to its input: code, package versions, device and threads."""
    capability = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "numerics": NUMERICS,
        "code": _code(),
        "packages": _packages(),
        "machine": f"{device} {platform.machine()} {capability}",
        "threads": threads,
    }


@functools.cache
def _packages() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@functools.cache
def _code() -> str:
    """SHA-256 over the package's source files, so that whoever edits a measure need not think of the cache."""
    files = sorted(CODE.rglob("*.py"))
    return digest([[str(path.relative_to(CODE)), path.read_text(encoding="utf-8")] for path in files])


def model_key(trial: Trial) -> dict[str, Any]:
    """What a resolved trial's model, before any arm, and its tokenizer depend on."""
    options = {key: value for key, value in trial.options.items() if key.startswith("model.")}
    return {"model": trial.model_digest, "options": options}


def upstream_key(trial: Trial) -> dict[str, Any]:
    """What a resolved trial's treated model and upstream measures depend on: every field but those of `AFTER`.

    The measures of an untreated model do not depend on the seed; with an upstream arm the seed names the arm's draws.
    """
    fields = trial.model_dump(exclude_none=True, exclude={*AFTER, "options"})
    for name in NAMED_BY_CONTENT:
        if getattr(trial, f"{name}_digest"):
            del fields[name]
    if trial.upstream == "none":
        del fields["seed"]
    options = {
        key: value for key, value in trial.options.items() if key.partition(".")[0] not in ("downstream", "tuning")
    }
    options = {key: value for key, value in options.items() if f"{key}_digest" not in options}
    return {**fields, "options": options}
