"""The peer: a Hugging Face Trainer script, as it is usually written, and at its best."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from bias_transfer.spec import Trial

EVALUATION_BATCH = 256
"""Of Trainer at its best; the usual script has its default."""


@dataclass(frozen=True)
class Trained:
    """What a side did."""

    train_seconds: float
    predict_seconds: float
    logits: np.ndarray
    """(predicted examples, labels), in the order in which Trainer took them: by length where it groups."""
    labels: np.ndarray
    """Of the predicted examples, in the same order."""


def run(
    classifier: Any, tokenizer: Any, train: Dataset, predicted: Dataset, trial: Trial, steps: int, best: bool
) -> Trained:
    """Tokenise, train in place for that many optimiser steps, and predict. train, predicted: with `text` and `label`. A step
    is of `batch_size` examples, `micro_batch_size` at a time where that is set.

    best: the trial's precision, batches grouped by length, fused AdamW and large evaluation batches; else what the usual
    script has: padding to the maximum length, the default optimiser, and fp32 (bf16 on a GPU).
    """
    start = time.perf_counter()
    bf16 = trial.precision == "bf16" if best else torch.cuda.is_available()
    coded = encoded(tokenizer, train, trial.max_tokens, best)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            classifier, arguments(trial, steps, folder, best, bf16), train_dataset=coded,
            processing_class=tokenizer, data_collator=DataCollatorWithPadding(tokenizer) if best else None,
        )  # fmt: skip
        trainer.train()
        middle = time.perf_counter()
        told = trainer.predict(encoded(tokenizer, predicted, trial.max_tokens, best))
    end = time.perf_counter()
    return Trained(middle - start, end - middle, np.asarray(told.predictions, np.float32), np.asarray(told.label_ids))


def arguments(trial: Trial, steps: int, folder: str, best: bool, bf16: bool) -> TrainingArguments:
    """Trainer's settings for a resolved trial: at its `best`, or as scripts leave them. The optimiser's own numbers are the
    trial's in both."""
    rows = trial.micro_batch_size or trial.batch_size
    return TrainingArguments(
        folder, max_steps=steps, learning_rate=trial.learning_rate or 0.0, lr_scheduler_type="linear",
        warmup_steps=round(trial.warmup * steps), weight_decay=trial.weight_decay, adam_beta2=0.98, adam_epsilon=1e-6,
        max_grad_norm=trial.clip, per_device_train_batch_size=rows, seed=trial.seed, bf16=bf16,
        gradient_accumulation_steps=trial.batch_size // rows,
        use_cpu=not torch.cuda.is_available(), report_to="none", save_strategy="no", disable_tqdm=True,
        logging_strategy="no", dataloader_pin_memory=torch.cuda.is_available(), **(BEST if best else {}),
    )  # fmt: skip


BEST: dict[str, Any] = {
    "train_sampling_strategy": "group_by_length",
    "optim": "adamw_torch_fused",
    "per_device_eval_batch_size": EVALUATION_BATCH,
}


def encoded(tokenizer: Any, examples: Dataset, max_tokens: int, best: bool) -> Dataset:
    """With input_ids and attention_mask, padded to the maximum unless `best`, and no text."""
    padding = False if best else "max_length"

    def encode(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["text"], truncation=True, max_length=max_tokens, padding=padding)

    return examples.map(
        encode, batched=True, remove_columns=[name for name in examples.column_names if name != "label"]
    )
