"""What decides the values that trials share: two with equal answers here get equal bits, on any machine that says the same."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bias_transfer.spec import NUMERICS
from bias_transfer.spec import Trial
from bias_transfer.hashing import digest

PACKAGES = ("datasets", "numpy", "scikit-learn", "tokenizers", "torch", "transformers", "vaderSentiment")
"""Another version of one may give other bits."""

CODE = Path(__file__).parent

AFTER = (
    "downstream", "downstream_dose", "epochs", "batch_size", "micro_batch_size", "learning_rate", "warmup", "weight_decay",
    "clip", "tuning",
)  # fmt: skip
"""Fields of a trial that act after the upstream measures. A field that is not named here decides them."""

BY_CONTENT = ("task", "data", "model")
"""Fields that name what lies somewhere: its digest stands for it, if it has one."""


def machine(device: str, threads: int) -> dict[str, Any]:
    """What decides the bits of any computation, beside its input: the code, its packages, and what runs it."""
    own = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    runs = f"{device} {platform.machine()} {own}"
    return {"numerics": NUMERICS, "code": _code(), "packages": _packages(), "machine": runs, "threads": threads}


@functools.cache
def _packages() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@functools.cache
def _code() -> str:
    """SHA-256 over this package's files: whoever edits a measure need not think of what is kept."""
    files = sorted(CODE.rglob("*.py"))
    return digest([[str(path.relative_to(CODE)), path.read_text(encoding="utf-8")] for path in files])


def untreated(trial: Trial, device: str, pretraining: Sequence[str]) -> dict[str, Any]:
    """What decides the resolved trial's model as it was loaded, and its tokenizer. pretraining: what `tiny` learned from."""
    options = {key: value for key, value in trial.options.items() if key.startswith("model.")}
    own = {"model": trial.model_digest, "options": options}
    return {**machine(device, trial.threads), **own, "pretraining": text_digest(pretraining) if options else ""}


def text_digest(texts: Sequence[str]) -> str:
    """SHA-256 over texts in their order."""
    total = hashlib.sha256()
    for text in texts:
        content = text.encode()
        total.update(f"{len(content)} ".encode() + content)
    return total.hexdigest()


def before_training(trial: Trial, device: str) -> dict[str, Any]:
    """What decides a resolved trial's upstream measures and treated model: every field but those of `AFTER`.

    An untreated model's do not depend on the seed, which else names the arm's draws.
    """
    fields = trial.model_dump(exclude_none=True, exclude={*AFTER, "options"})
    for name in BY_CONTENT:
        if getattr(trial, f"{name}_digest"):
            del fields[name]
    if trial.upstream == "none":
        del fields["seed"]
    kept = {key: value for key, value in trial.options.items() if key.partition(".")[0] not in ("downstream", "tuning")}
    kept = {key: value for key, value in kept.items() if f"{key}_digest" not in kept}
    return {**machine(device, trial.threads), **fields, "options": kept}


def in_turn(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Resolved trials in an order in which those that share their upstream stage are far from each other: the first has kept it
    when the next begins. Those of one data set stay together, since a worker has read it."""
    seen = Counter[str]()
    places = dict[str, int]()
    keys = list[tuple[int, int]]()
    for trial in trials:
        data = digest([trial.task, trial.task_digest, trial.data_digest, trial.options_of("data")])
        shared = digest(before_training(trial, "cpu"))
        keys.append((places.setdefault(data, len(places)), seen[shared]))
        seen[shared] += 1
    return tuple(trials[index] for index in sorted(range(len(trials)), key=keys.__getitem__))
