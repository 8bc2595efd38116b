"""Fine-tuning and prediction with Accelerate: the only file that imports it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from bias_transfer.training import checkpoint
from bias_transfer.training import optimizer
from bias_transfer.training import speedups
from bias_transfer.training import state
from bias_transfer.training import tuning
from bias_transfer.models.batching import Tokens
from bias_transfer.models.batching import length_batches
from bias_transfer.models.batching import pad
from bias_transfer.training.sampling import train_batches
from bias_transfer.training.checkpoint import Place
from bias_transfer.console import Report
from bias_transfer.training.first_token import first_token
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.determinism import seeded
from bias_transfer.spec import Step
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.training.state import Training

RECORD_EVERY = 10
"""Optimiser steps between two points of the curve; also how often the loss is looked at, which waits for the device."""

TRAINING_VALUES = {"cpu": 1_048_576, "cuda": 25_165_824}
"""Values of a hidden layer in one forward pass, when all is differentiated and `micro_batch_size` is not set: tokens, padding
included, times the model's width. On a processor as many as its caches take well (docs/performance.md), on a GPU as its
memory does."""

EVALUATION_VALUES = {"cpu": 524_288, "cuda": 50_331_648}
"""The same, when nothing is differentiated."""


class TrainingDiverged(RuntimeError):
    """The loss is no longer finite."""


def steps(trial: Trial, examples: int) -> int:
    """Optimiser steps for `epochs` passes over the untreated training set of that many examples.

    Arms that add or remove examples take the same number of steps (SCIENCE.md, "Pairing by seed").
    """
    return max(1, math.ceil(trial.epochs * math.ceil(examples / trial.batch_size)))


def finetune(
    model: LanguageModel,
    rows: Tokens,
    labels: Sequence[int],
    names: Sequence[str],
    trial: Trial,
    total: int,
    device: str,
    report: Report,
    place: Place | None = None,
) -> tuple[Step, ...]:
    """Train of the classifier what `tuning` says for `total` optimiser steps, in place; returns the curve.

    rows, labels, names: token ids, label and unique id of each example. With a place it goes on from the checkpoint there
    and keeps one every `place.seconds`. The bits of the result depend on the trial and the examples alone, on one machine,
    and not on how often it was cut off. Raises TrainingDiverged when the loss is not finite.
    """
    with (
        _accelerator(trial, device) as accelerator,
        tuning.trainable(model, trial),
        speedups.tuned(model.classifier, trial, device),
        first_token(model),
        seeded(derive_seed(trial.seed, "dropout")),
    ):
        classifier = model.classifier.train()
        adam = accelerator.prepare(optimizer.build(classifier, trial.learning_rate or 0.0, trial.weight_decay))
        schedule = optimizer.schedule(adam.optimizer, total, trial.warmup)
        now = Training(classifier, adam.optimizer, schedule, accelerator.scaler, accelerator.device)
        if place and (kept := checkpoint.load_state(place)):
            state.restore(now, kept)
            report("fine-tune", now.step, total)
        order = train_batches(names, [*map(len, rows)], trial.batch_size, derive_seed(trial.seed, "order"), skip=now.step)
        last = time.monotonic()
        for batch in islice(order, total - now.step):
            now.losses.append(_backward(accelerator, classifier, model, rows, labels, batch, trial))
            accelerator.clip_grad_norm_(classifier.parameters(), trial.clip)
            rate = float(schedule.get_last_lr()[0])
            adam.step()
            schedule.step()
            adam.zero_grad()
            now.step += 1
            if now.step % RECORD_EVERY == 0 or now.step == total:
                now.curve.append(Step(now.step, _mean(now.losses, now.step), rate))
                now.losses.clear()
                report("fine-tune", now.step, total)
            if place and time.monotonic() - last >= place.seconds:
                checkpoint.save_state(place, state.capture(now))
                last = time.monotonic()
        classifier.eval()
    return tuple(now.curve)


def _backward(
    accelerator: Accelerator, classifier: Any, model: LanguageModel, rows: Tokens, labels: Sequence[int],
    batch: Sequence[int], trial: Trial,
) -> torch.Tensor:  # fmt: skip
    """Accumulate the gradient of the batch's mean loss over its micro-batches; returns that loss, detached."""
    total = torch.zeros((), device=accelerator.device)
    most = _tokens(classifier, TRAINING_VALUES, accelerator.device.type)
    for part in micro_batches(batch, [len(rows[index]) for index in batch], trial.micro_batch_size, most):
        inputs = _to(pad([rows[index] for index in part], model.tokenizer.pad_token_id), accelerator.device)
        target = torch.tensor([labels[index] for index in part], device=accelerator.device)
        with accelerator.autocast():
            logits = classifier(**inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), target, reduction="sum") / len(batch)
        accelerator.backward(loss)
        total += loss.detach()
    return total


def micro_batches(batch: Sequence[int], lengths: Sequence[int], size: int | None, most: int) -> list[list[int]]:
    """The batch in parts that are differentiated one by one: of `size` examples, or else of similar length and at most `most`
    tokens, so that a batch of long texts needs no more memory than one of short ones. lengths: of the batch's examples."""
    if size is None:
        return [[batch[at] for at in part] for part in length_batches(lengths, most)]
    return [list(batch[start : start + size]) for start in range(0, len(batch), size)]


def _tokens(classifier: Any, values: Mapping[str, int], device: str) -> int:
    return values[device] // int(classifier.config.hidden_size)


def _mean(losses: list[torch.Tensor], step: int) -> float:
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise TrainingDiverged(
            f"the training loss is {mean} at step {step}: lower learning_rate, raise warmup, or use precision=fp32"
        )
    return mean


@torch.no_grad()
def predict(model: LanguageModel, rows: Tokens, trial: Trial, device: str) -> np.ndarray:
    """Logits of the classifier, fp32, (examples, labels), in the order of `rows`."""
    logits = np.empty((len(rows), model.classifier.config.num_labels), dtype=np.float32)
    classifier = model.classifier.eval()
    with (
        _accelerator(trial, device) as accelerator,
        speedups.tuned(classifier, trial, device),
        first_token(model),
        accelerator.autocast(),
    ):
        for batch in length_batches([*map(len, rows)], _tokens(classifier, EVALUATION_VALUES, device)):
            inputs = _to(pad([rows[index] for index in batch], model.tokenizer.pad_token_id), accelerator.device)
            logits[batch] = classifier(**inputs).logits.float().cpu().numpy()
    return logits


def check_precision(trial: Trial) -> None:
    """Raises UserError where this machine cannot compute in the trial's precision."""
    if trial.precision == "fp16" and not torch.cuda.is_available():
        raise UserError("precision=fp16 needs a GPU, and there is none here. Allowed without one: fp32, bf16.")


def slow_precision(trial: Trial) -> str | None:
    """What to tell who asks for bf16 on a processor that has no products in it, and so takes longer than in fp32."""
    if trial.precision != "bf16" or torch.cuda.is_available():
        return None
    able = torch.cpu.get_capabilities()
    if able.get("architecture") != "x86_64" or able.get("avx512_bf16") or able.get("amx_bf16"):
        return None
    return (
        "this processor has no products in bf16 (AVX512-bf16 or AMX): precision=bf16 takes longer than fp32 here, tens of "
        "times where AVX-512 is missing too. On this machine, precision=fp32 is the faster one."
    )


@contextmanager
def _accelerator(trial: Trial, device: str) -> Iterator[Accelerator]:
    """An Accelerator of the trial's precision. Its state is process-wide, so it is reset before and after: a warm worker's
    next trial may have another precision."""
    _reset()
    try:
        yield Accelerator(cpu=device == "cpu", mixed_precision="no" if trial.precision == "fp32" else trial.precision)
    finally:
        _reset()


def _reset() -> None:
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()


def _to(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
