"""Facts about how a result came about: sizes, digests and package versions, recorded with it."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import torch
from datasets import Dataset

from bias_transfer.hashing import digest
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.start_token import NONE
from bias_transfer.spec import Option
from bias_transfer.tasks.base import Splits

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy", "scikit-learn", "peft", "gguf", "ray", "mlflow")
"""Packages whose versions are recorded with each result, if they are installed."""


def dataset_digest(examples: Dataset) -> str:
    """SHA-256 over ids, texts and labels in their order."""
    return digest([examples[name][:] for name in ("id", "text", "label")])


def of(splits: Splits, train: Dataset, model: LanguageModel, steps: int, tokens: int, device: str) -> dict[str, Option]:
    """Facts of one trial. train: the treated training set; steps: optimiser steps; tokens: of the treated training set."""
    return {
        "examples.untreated": len(splits.train),
        "examples.train": len(train),
        "examples.test": len(splits.test),
        "digest.train": dataset_digest(train),
        "tokens.train": tokens,
        "steps": steps,
        "parameters": sum(value.numel() for value in model.classifier.parameters()),
        "family": model.family,
        **_start_token(model),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu {platform.machine()}",
        "version.python": platform.python_version(),
        **splits.facts,
        **_versions(),
    }


def _start_token(model: LanguageModel) -> dict[str, Option]:
    """The token that a causal model reads before every text; nothing for a masked one."""
    if model.kind != "causal":
        return {}
    return {"start_token": "".join(model.tokenizer.convert_ids_to_tokens(model.tokenizer("")["input_ids"])) or NONE}


def _versions() -> dict[str, Option]:
    versions: dict[str, Option] = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # a single trial needs neither Ray nor MLflow
            versions[f"version.{name}"] = version(name)
    return versions
