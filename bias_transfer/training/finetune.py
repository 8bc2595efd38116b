"""Fine-tuning and prediction with Accelerate: the only file that imports it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from bias_transfer import rounding
from bias_transfer.console import Report, silent
from bias_transfer.determinism import seeded
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models.batching import Tokens, length_batches, pad
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Options, Step, Trial
from bias_transfer.training import checkpoint, optimizer, speedups, tuning
from bias_transfer.training.checkpoint import Place, Training
from bias_transfer.training.sampling import Untreated, paired_batches
from bias_transfer.training.speedups import first_token

RECORD_EVERY = 10
"""Optimiser steps between two points of the curve. Only then is the loss read, since reading it waits for the device."""

TRAINING_VALUES = {"cpu": 1_048_576, "cuda": 25_165_824}
"""Device -> values of a hidden layer (tokens, padding included, times the model's width) per forward pass of training, if
`micro_batch_size` is not set: on a CPU as many as suit its caches (docs/performance.md), on a GPU as fit its memory."""

EVALUATION_VALUES = {"cpu": 524_288, "cuda": 50_331_648}
"""The same for prediction, which keeps no activations for gradients."""


class TrainingDiverged(RuntimeError):
    """The loss or the logits are no longer finite."""


def steps(trial: Trial, examples: int) -> int:
    """Optimiser steps for `epochs` passes over the untreated training set. examples: its size.

    Arms that add or remove examples take the same number of steps (docs/science.md, "Pairing by seed").
    """
    return max(1, rounding.ceiling(trial.epochs, -(-examples // trial.batch_size)))


@dataclass(frozen=True)
class TrainingData:
    """The treated training set, tokenised, and how long it is trained on."""

    rows: Tokens
    """Token ids of each example, not padded."""
    labels: Sequence[int]
    ids: Sequence[str]
    """Unique; an example that the arm left in the set has its id in the untreated set, and one that it added a new one."""
    steps: int
    """Optimiser steps, as the function `steps` counts them."""
    untreated: Untreated
    """What batches are cut from, so that arms share them."""
    weights: Sequence[float] | None = None
    """What each example's loss is multiplied by, mean 1; None: nothing, and the bits are those without weights."""


@dataclass(frozen=True)
class Settings:
    """How a classifier is trained: a trial's hyper-parameters, and the options of its adaptation."""

    trial: Trial
    tuning: Options
    """Of the type that `tuning.TUNING` has for the trial's adaptation."""


@dataclass(frozen=True)
class Runtime:
    """Where fine-tuning runs and reports to. Except for the kind of device, no bit of the result depends on it."""

    device: str = "cpu"
    report: Report = silent
    checkpoint: Place | None = None
    """Where the state of training is saved every `checkpoint.seconds`, and from where it resumes. None: no checkpoints."""
    keep: Callable[[Mapping[str, torch.Tensor]], None] | None = None
    """Is handed the trained weights (`tuning.trained`) at the end, before adapters are merged. None: they are not kept."""


def finetune(model: LanguageModel, data: TrainingData, settings: Settings, runtime: Runtime) -> tuple[Step, ...]:
    """Train the classifier for `data.steps` optimiser steps, in place; returns the loss curve.

    Which weights train is up to the adaptation (`tuning.trainable`). Training resumes from the checkpoint if there is one. On
    one machine the bits of the result depend on the trial and the examples alone, and not on how often training was
    interrupted. Raises TrainingDiverged if the loss is not finite.
    """
    trial, total, place = settings.trial, data.steps, runtime.checkpoint
    with (
        _accelerator(trial, runtime.device) as accelerator,
        tuning.trainable(model, settings.tuning, trial),
        speedups.tuned(model.classifier, trial, runtime.device),
        first_token(model),
        seeded(derive_seed(trial.seed, "dropout")),
    ):
        classifier = model.classifier.train()
        adam = accelerator.prepare(optimizer.build(classifier, trial.learning_rate or 0.0, trial.weight_decay))
        schedule = optimizer.schedule(adam.optimizer, total, trial.warmup)
        state = Training(classifier, adam.optimizer, schedule, accelerator.scaler, accelerator.device)
        if place and (saved := checkpoint.load_state(place)):
            checkpoint.restore(state, saved)
            runtime.report("fine-tune", state.step, total)
        # The order of examples is a function of the step, so that resuming skips what was seen instead of storing it.
        order_seed = derive_seed(trial.seed, "order")
        order = paired_batches(data.untreated, data.ids, trial.batch_size, order_seed, skip=state.step)
        saved_at = time.monotonic()
        for batch in islice(order, total - state.step):
            state.losses.append(_backward(accelerator, classifier, model, data, batch, trial))
            accelerator.clip_grad_norm_(classifier.parameters(), trial.clip)
            rate = float(schedule.get_last_lr()[0])
            _update(adam, schedule, accelerator.scaler)
            adam.zero_grad()
            state.step += 1
            if state.step % RECORD_EVERY == 0 or state.step == total:
                state.curve.append(Step(state.step, _mean(state.losses, state.step), rate))
                state.losses.clear()
                runtime.report("fine-tune", state.step, total)
            if place and time.monotonic() - saved_at >= place.seconds:
                checkpoint.save_state(place, checkpoint.capture(state))
                saved_at = time.monotonic()
        classifier.eval()
        if runtime.keep:
            runtime.keep(tuning.trained(model, trial))
    return tuple(state.curve)


def _update(adam: Any, schedule: torch.optim.lr_scheduler.LambdaLR, scaler: Any) -> None:
    """One optimiser step. The schedule moves with it, unless fp16's scaler skipped it because a gradient overflowed."""
    # Accelerate's `step_was_skipped` is no help: a fused optimiser is always called, and skips by itself.
    before = scaler.get_scale() if scaler else 0.0
    adam.step()
    if not scaler or scaler.get_scale() >= before:
        schedule.step()


def _backward(
    accelerator: Accelerator, classifier: Any, model: LanguageModel, data: TrainingData, batch: Sequence[int],
    trial: Trial,
) -> torch.Tensor:  # fmt: skip
    """Accumulate the gradient of the batch's mean loss over its micro-batches; returns that loss, detached."""
    total = torch.zeros((), device=accelerator.device)
    budget = _tokens(classifier, TRAINING_VALUES, accelerator.device.type)
    for part in micro_batches(batch, [len(data.rows[index]) for index in batch], trial.micro_batch_size, budget):
        inputs = _to(pad([data.rows[index] for index in part], model.tokenizer.pad_token_id), accelerator.device)
        target = torch.tensor([data.labels[index] for index in part], device=accelerator.device)
        with accelerator.autocast():
            logits = classifier(**inputs).logits
        weights = None if data.weights is None else torch.tensor([data.weights[index] for index in part])
        # A sum over the part divided by the whole batch: the parts' gradients add up to that of the batch's mean.
        loss = _summed_loss(logits.float(), target, weights) / len(batch)
        accelerator.backward(loss)
        total += loss.detach()
    return total


def _summed_loss(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The sum over examples of weight x cross-entropy. logits: (examples, labels); target, weights: (examples,).

    It is divided by the number of examples and not by the sum of their weights: a batch of light examples moves the model
    less, and no batch counts more for having few.
    """
    if weights is None:
        return torch.nn.functional.cross_entropy(logits, target, reduction="sum")
    losses = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return (losses * weights.to(losses.device, losses.dtype)).sum()


def micro_batches(batch: Sequence[int], lengths: Sequence[int], size: int | None, tokens: int) -> list[list[int]]:
    """Split a batch into parts that are differentiated one by one.

    A part has `size` examples. If that is None, it has examples of similar length and at most `tokens` tokens, so that a batch
    of long texts needs no more memory than one of short texts. lengths: tokens of each of the batch's examples.
    """
    if size is None:
        return [[batch[place] for place in part] for part in length_batches(lengths, tokens)]
    return [list(batch[start : start + size]) for start in range(0, len(batch), size)]


def _tokens(classifier: Any, values: Mapping[str, int], device: str) -> int:
    """Tokens per forward pass."""
    return values[device] // int(classifier.config.hidden_size)


def _mean(losses: list[torch.Tensor], step: int) -> float:
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise TrainingDiverged(
            f"the training loss is {mean} at step {step}: lower learning_rate, raise warmup, or use precision=fp32"
        )
    return mean


def predict(model: LanguageModel, rows: Tokens, trial: Trial, device: str) -> np.ndarray:
    """Logits of the classifier, (examples, labels), fp32, in the order of `rows` (token ids of each example)."""
    logits = np.empty((len(rows), model.classifier.config.num_labels), dtype=np.float32)
    with evaluating(model.classifier, trial, device) as tokens, first_token(model):
        for batch in length_batches([*map(len, rows)], tokens):
            inputs = _to(pad([rows[index] for index in batch], model.tokenizer.pad_token_id), model.classifier.device)
            logits[batch] = model.classifier(**inputs).logits.float().cpu().numpy()
    return logits


@contextmanager
def evaluating(model: Any, trial: Trial, device: str) -> Iterator[int]:
    """Without gradients, in the trial's precision and with this project's kernels; gives the tokens per forward pass.

    model: a classifier or a language model, of transformers.
    """
    with (
        torch.no_grad(),
        _accelerator(trial, device) as accelerator,
        speedups.tuned(model.eval(), trial, device),
        accelerator.autocast(),
    ):
        yield _tokens(model, EVALUATION_VALUES, device)


def check_precision(trial: Trial) -> None:
    """Raises UserError if this machine cannot compute in the trial's precision."""
    if trial.precision == "fp16" and not torch.cuda.is_available():
        raise UserError("precision=fp16 needs a GPU, and this machine has none. Allowed without one: fp32, bf16.")


def slow_precision(trial: Trial) -> str | None:
    """A warning if the trial asks for bf16 on a CPU that has no instructions for it, where fp32 is faster; else None."""
    if trial.precision != "bf16" or torch.cuda.is_available():
        return None
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("architecture") != "x86_64" or capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
        return None
    return (
        "this CPU has no instructions for bf16 (AVX512-bf16 or AMX), so precision=bf16 is slower than fp32: tens of times "
        "slower if it lacks AVX-512 too. Use precision=fp32 on this machine."
    )


@contextmanager
def _accelerator(trial: Trial, device: str) -> Iterator[Accelerator]:
    """An Accelerator in the trial's precision."""
    # Its state is process-wide, and the next trial in a warm worker may have another precision.
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
