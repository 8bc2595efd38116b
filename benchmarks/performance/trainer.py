"""The comparison: a script with Hugging Face's Trainer, as usually written, and tuned."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Trial
from bias_transfer.training.tuning import PROJECTIONS, LoraOptions

EVALUATION_BATCH = 256
"""Evaluation batch size of the tuned Trainer; the usual script has Trainer's default."""


@dataclass(frozen=True)
class Trained:
    """Times and predictions of one run."""

    train_seconds: float
    predict_seconds: float
    logits: np.ndarray
    """(predicted examples, labels), in Trainer's order: by length if it groups by length."""
    labels: np.ndarray
    """Labels of the predicted examples, in the same order."""


def stock(model: LanguageModel, trial: Trial) -> Any:
    """The classifier as a script with Trainer has it: transformers' own pooling, and peft's adapters for `tuning: lora`."""
    classifier = model.classifier
    classifier.__dict__.pop("forward", None)
    classifier.config.pad_token_id = model.tokenizer.pad_token_id
    if trial.tuning is None:
        return classifier
    import peft

    options = LoraOptions()
    return peft.get_peft_model(classifier, peft.LoraConfig(
        task_type="SEQ_CLS", r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout,
        target_modules=list(PROJECTIONS[model.family]),
    ))  # fmt: skip


def run(
    classifier: Any, tokenizer: Any, train: Dataset, predicted: Dataset, trial: Trial, steps: int, best: bool
) -> Trained:
    """Tokenise, train the classifier in place for `steps` optimizer steps, and predict.

    train, predicted: data sets with `text` and `label`. A step has `batch_size` examples, `micro_batch_size` at a time if
    that is set. best: use the trial's precision, batches grouped by length, fused AdamW and large evaluation batches;
    otherwise pad to the maximum length, with the default optimizer and fp32 (bf16 on a GPU), as the usual script does.
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
        output = trainer.predict(encoded(tokenizer, predicted, trial.max_tokens, best))
    end = time.perf_counter()
    return Trained(
        middle - start, end - middle, np.asarray(output.predictions, np.float32), np.asarray(output.label_ids)
    )


def arguments(trial: Trial, steps: int, folder: str, best: bool, bf16: bool) -> TrainingArguments:
    """Trainer's settings for a resolved trial: tuned if `best`, else Trainer's defaults.

    Hyperparameters of the optimizer are the trial's in both cases.
    """
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
    """Replace the text by input_ids and attention_mask, padded to `max_tokens` unless `best`."""
    padding = False if best else "max_length"

    def encode(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["text"], truncation=True, max_length=max_tokens, padding=padding)

    return examples.map(
        encode, batched=True, remove_columns=[name for name in examples.column_names if name != "label"]
    )
