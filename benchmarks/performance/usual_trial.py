"""One trial the usual way, as a script of its own: tokenise, load, measure upstream bias, train with Trainer, evaluate.

python -m benchmarks.usual_trial LAUNCHED TRIAL.json RESULT.json PRECISION: `benchmarks.sweep_walltime` starts it. The arms and
the measures are this project's functions, so that the same table comes out; training and prediction are Trainer's.
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
from bias_transfer.training import finetune
from bias_transfer import pipeline
from bias_transfer.models.batching import encode
from bias_transfer.metrics import manipulation_check
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.spec import Trial
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.registry import task_of
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.base import Splits


def main(launched: float, given: Path, result: Path, precision: str) -> None:
    """Run the trial of `given`, and write its measures and the seconds of each stage. launched: when, since 1970."""
    seconds = {"start-up": time.time() - launched}
    own = pipeline.resolve(parse_trial(json.loads(given.read_text())))
    places, task, clock = pipeline.Places(device="cpu"), task_of(own.task, own.data), pipeline._Clock()
    torch.set_num_threads(own.threads)
    splits = pipeline.load_splits(own)
    train = pipeline.treat_data(own, splits.train)
    measures = [row for measure in task.dataset for row in measure(train)]
    model = pipeline.load_model(own, splits, places)
    sets = {"dev": splits.dev, "test": splits.test, **task.probes(splits)}
    tokens = {name: rows(model, examples, own) for name, examples in {"train": train, **sets}.items()}
    clock.lap("data")
    measures += upstream(own, model, splits)
    clock.lap("upstream")
    trainer = trained(own, model, tokens["train"], finetune.steps(own, len(splits.train)), precision)
    clock.lap("finetune")
    predicted = {name: Predicted(examples, logits(trainer, tokens[name])) for name, examples in sets.items()}
    measures += [row for measure in task.downstream for row in measure(predicted)]
    metric = pipeline._options(own, "metric")
    measures += [row for measure in task.encoder for row in measure(model, splits, metric, "downstream")]
    clock.lap("evaluate")
    content = {"id": own.id, "measures": [asdict(row) for row in (*measures, *splits.known)]}
    result.write_text(json.dumps(content | {"seconds": seconds | clock.laps}))


def upstream(own: Trial, model: LanguageModel, splits: Splits) -> list[Measure]:
    """Apply the upstream arm, and measure as a trial does."""
    task, metric = task_of(own.task, own.data), pipeline._options(own, "metric")
    untreated = pipeline.look(own, model, splits) if own.upstream != "none" else None
    with tempfile.TemporaryDirectory() as nothing_kept:
        pipeline.treat_model(own, model, splits, pipeline.Places(cache=Path(nothing_kept), device="cpu"))
    measures = [row for measure in task.upstream for row in measure(model, splits, metric)]
    measures += manipulation_check.compare(untreated, pipeline.look(own, model, splits)) if untreated else []
    return measures + [row for measure in task.encoder for row in measure(model, splits, metric, "upstream")]


def rows(model: LanguageModel, examples: Dataset, own: Trial) -> list[dict[str, Any]]:
    """What Trainer reads: one tokeniser call, no padding."""
    ids = encode(model.tokenizer, examples["text"][:], own.max_tokens)
    return [{"input_ids": row, "labels": label} for row, label in zip(ids, examples["label"][:], strict=True)]


def trained(own: Trial, model: LanguageModel, train: Sequence[dict[str, Any]], total: int, precision: str) -> Trainer:
    """Trainer at its best: batches of similar length, fused AdamW, as many steps as the trial's, the same schedule."""
    collator = DataCollatorWithPadding(model.tokenizer)
    settings = arguments(own, total, tempfile.gettempdir(), best=True, bf16=precision == "bf16")
    trainer = Trainer(model=model.classifier, args=settings, train_dataset=train, data_collator=collator)
    trainer.train()
    return trainer


def logits(trainer: Trainer, given: Sequence[dict[str, Any]]) -> np.ndarray:
    """(examples, labels), fp32, in the order of `given`: Trainer gets them by length, or it would pad more, or reorder them."""
    order = sorted(range(len(given)), key=lambda index: len(given[index]["input_ids"]))
    trainer.args.train_sampling_strategy = "random"  # what it groups by length, it returns in that order
    told = trainer.predict([given[index] for index in order])  # type: ignore[arg-type]
    predicted, labels = np.asarray(told.predictions, dtype=np.float32), np.asarray(told.label_ids).tolist()
    if labels != [given[index]["labels"] for index in order]:
        raise ValueError("Trainer's predictions are in another order")
    found = np.empty_like(predicted)
    found[order] = predicted
    return found


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
