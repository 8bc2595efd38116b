"""One trial the usual way, as a script: tokenise, load, measure upstream bias, train with Trainer, evaluate.

python -m benchmarks.performance.usual_trial LAUNCHED TRIAL.json RESULT.json PRECISION

`benchmarks.performance.sweep_walltime` starts it. Arms and measures are this project's functions, so that the table of
measures is the same; training and prediction are Trainer's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer

from benchmarks.performance.trainer import arguments
from bias_transfer import pipeline
from bias_transfer.memory import load_splits
from bias_transfer.models.batching import encode
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import Trial, parse_trial
from bias_transfer.tasks.base import Predicted
from bias_transfer.training import finetune


def main(launched: float, given: Path, result: Path, precision: str) -> None:
    """Run the trial in the file `given`; write its measures and the seconds of each stage into the file `result`.

    launched: the time at which the process was started, in seconds since 1970.
    """
    seconds = {"start-up": time.time() - launched}
    resolved, clock = resolve(parse_trial(json.loads(given.read_text()))), pipeline.Clock()
    trial, places = resolved.trial, Places(device="cpu")
    torch.set_num_threads(trial.threads)
    splits = load_splits(resolved)
    train = pipeline.treat_data(resolved, splits.train)
    measures = pipeline.measure_dataset(resolved, train)
    model = pipeline.load_model(resolved, pipeline.find_pretrained(resolved, splits, places), places)
    sets = {"dev": splits.dev, "test": splits.test, **resolved.task.probes(splits, resolved.options.metric)}
    tokens = {name: rows(model, examples, trial) for name, examples in {"train": train, **sets}.items()}
    clock.lap("data")
    measures += pipeline.treat_and_measure(resolved, model, splits)
    clock.lap("upstream")
    trainer = trained(trial, model, tokens["train"], finetune.steps(trial, len(splits.train)), precision)
    clock.lap("finetune")
    predicted = {name: Predicted(examples, logits(trainer, tokens[name])) for name, examples in sets.items()}
    measures += pipeline.measure_downstream(resolved, model, splits, predicted)
    clock.lap("evaluate")
    content = {"id": trial.id, "measures": [asdict(row) for row in (*measures, *splits.known)]}
    result.write_text(json.dumps(content | {"seconds": seconds | clock.laps}))


def rows(model: LanguageModel, examples: Dataset, trial: Trial) -> list[dict[str, Any]]:
    """Examples as Trainer reads them: tokenised at once, without padding."""
    ids = encode(model.tokenizer, examples["text"][:], trial.max_tokens)
    return [{"input_ids": row, "labels": label} for row, label in zip(ids, examples["label"][:], strict=True)]


def trained(trial: Trial, model: LanguageModel, train: Sequence[dict[str, Any]], total: int, precision: str) -> Trainer:
    """Train with a tuned Trainer: batches grouped by length, fused AdamW, and the trial's number of steps and schedule."""
    collator = DataCollatorWithPadding(model.tokenizer)
    settings = arguments(trial, total, tempfile.gettempdir(), best=True, bf16=precision == "bf16")
    trainer = Trainer(model=model.classifier, args=settings, train_dataset=train, data_collator=collator)
    trainer.train()
    return trainer


def logits(trainer: Trainer, given: Sequence[dict[str, Any]]) -> np.ndarray:
    """Logits in fp32 and in the order of `given`: (examples, labels).

    Trainer gets the examples sorted by length, which needs less padding.
    """
    order = sorted(range(len(given)), key=lambda index: len(given[index]["input_ids"]))
    trainer.args.train_sampling_strategy = "random"  # Trainer returns predictions in the order in which it grouped them
    output = trainer.predict([given[index] for index in order])  # type: ignore[arg-type]
    predicted, labels = np.asarray(output.predictions, dtype=np.float32), np.asarray(output.label_ids).tolist()
    if labels != [given[index]["labels"] for index in order]:
        raise ValueError("Trainer returned its predictions in a different order")
    unsorted = np.empty_like(predicted)
    unsorted[order] = predicted
    return unsorted


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
