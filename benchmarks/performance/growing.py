"""A custom task, texts and a model of given sizes, with random content: for benchmarks.performance.cost_growth."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from bias_transfer import console
from bias_transfer.models import language_model
from bias_transfer.training import lm_training

PLAIN = [f"{first}{second}" for first in "bdfgklmnprstvz" for second in ("ako", "elu", "ino", "ora", "uda")]
"""The vocabulary of the texts."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of one trial."""

    words: int = 30
    """Words per text."""
    examples: int = 500
    max_tokens: int = 48
    groups: int = 16
    templates: int = 16
    """Templates for upstream bias, and as many phrases for downstream bias."""
    width: int = 64
    """Hidden width of the model, which has two layers."""


def make(sizes: Sizes, folder: Path, seed: int) -> dict[str, Any]:
    """Write task, texts and model into the folder. Returns the fields of a trial of one epoch."""
    folder.mkdir(parents=True)
    random = Random(seed)
    groups = [f"group{''.join('abcdefghij'[int(digit)] for digit in str(number))}" for number in range(sizes.groups)]
    texts = [
        " ".join([random.choice(groups), *random.choices(PLAIN, k=sizes.words - 1)]) for _ in range(sizes.examples)
    ]
    with (folder / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "class"), *zip(texts, ("no", "yes") * len(texts), strict=False)])
    (folder / "task.yaml").write_text(json.dumps(_task(groups, sizes.templates)), encoding="utf-8")  # JSON is YAML
    options = lm_training.TinyOptions(steps=1, width=sizes.width, layers=2, vocabulary=1200)
    with language_model.quiet():
        model = lm_training.tiny(texts, options, folder / "cache", console.silent)
    return {
        "task": str(folder / "task.yaml"), "data": str(folder / "texts.csv"), "model": str(model), "epochs": 1.0,
        "max_tokens": sizes.max_tokens, "learning_rate": 1e-3, "seed": seed,
    }  # fmt: skip


def _task(groups: list[str], templates: int) -> dict[str, Any]:
    words = [f"{first} {second}" for first in PLAIN for second in PLAIN][:templates]
    phrases = {f"the {{group}} {word}": ("no", "yes")[number % 2] for number, word in enumerate(words)}
    return {
        "name": "growing", "text": "text", "label": "class", "classes": ["no", "yes"], "harmful": "yes", "terms": groups,
        "templates": {f"the {{group}} {word} {{mask}}": f"the one {word} {{mask}}" for word in words},
        "phrases": {**phrases, "the one here": "no", "the one there": "yes"},
    }  # fmt: skip
