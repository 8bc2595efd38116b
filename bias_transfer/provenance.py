"""Facts about how a result came about, recorded with it: sizes, digests, the machine, and package versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import torch
from datasets import Dataset

from bias_transfer.hashing import digest
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.start_token import NONE
from bias_transfer.spec import Option
from bias_transfer.storage import fingerprint
from bias_transfer.tasks.base import WEIGHT, Splits, weights_of

MANAGING = ("ray", "mlflow")
"""Packages that change no number, whose versions are recorded all the same. A single trial needs neither."""


def dataset_digest(examples: Dataset) -> str:
    """SHA-256 over ids, texts, labels and, where there are any, weights in their order."""
    weights = [WEIGHT] if WEIGHT in examples.column_names else []
    return digest([examples[name][:] for name in ("id", "text", "label", *weights)])


def _weights(train: Dataset) -> dict[str, Option]:
    """The range of the weights, and the number of equally weighted examples that carry as much (Kish 1965); nothing without
    weights."""
    weights = weights_of(train)
    if weights is None:
        return {}
    effective = sum(weights) ** 2 / sum(weight**2 for weight in weights)
    return {"weights.min": min(weights), "weights.max": max(weights), "examples.effective": effective}


def of(
    splits: Splits,
    train: Dataset,
    model: LanguageModel,
    stand_in: str,
    adaptation: Mapping[str, Option],
    device: str,
) -> dict[str, Option]:
    """Facts of one trial. train: the treated training set; stand_in: digest of a model that was pre-trained here, empty for
    one from elsewhere; adaptation: what is recorded of how the model became a classifier."""
    return {
        "examples.untreated": len(splits.train),
        "examples.train": len(train),
        "examples.test": len(splits.test),
        "digest.train": dataset_digest(train),
        **_weights(train),
        **({"digest.stand_in": stand_in} if stand_in else {}),
        **adaptation,
        "parameters": sum(value.numel() for value in model.classifier.parameters()),
        "family": model.family,
        **_start_token(model),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu {platform.machine()}",
        "machine": fingerprint.hardware(device),
        "machine.parts": json.dumps(fingerprint.components(device), sort_keys=True),
        "version.python": platform.python_version(),
        **splits.facts,
        **{f"version.{name}": number for name, number in (fingerprint.packages() | _managing()).items()},
    }


def _start_token(model: LanguageModel) -> dict[str, Option]:
    """The token that a causal model reads before every text; nothing for a masked one."""
    if model.kind != "causal":
        return {}
    return {"start_token": "".join(model.tokenizer.convert_ids_to_tokens(model.tokenizer("")["input_ids"])) or NONE}


def _managing() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in MANAGING:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
