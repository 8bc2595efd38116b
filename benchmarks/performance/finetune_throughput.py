"""python -m benchmarks.performance.finetune_throughput: `finetune()` against Hugging Face's Trainer and the machine's limit."""

from __future__ import annotations

import copy
import os
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, RobertaConfig

from benchmarks import docs_blocks
from benchmarks.performance import trainer
from bias_transfer import pipeline
from bias_transfer.console import application, console, tell, user_errors
from bias_transfer.determinism import seeded, using_threads
from bias_transfer.errors import UserError, look_up
from bias_transfer.memory import load_splits
from bias_transfer.models import language_model
from bias_transfer.models.batching import encode
from bias_transfer.models.language_model import LanguageModel, encoder_parameters, quiet
from bias_transfer.resolved import Places, ResolvedTrial, resolve
from bias_transfer.spec import Trial
from bias_transfer.training import finetune, lm_training, tuning
from bias_transfer.training.sampling import Untreated


@dataclass(frozen=True)
class Size:
    """The shape of a model, and the amount of data that it is timed on."""

    layers: int
    width: int
    vocabulary: int
    learning_rate: float
    examples: int
    predicted: int
    epochs: int = 1
    most_tokens: int = 32 * 512
    """Tokens, with padding, that Trainer differentiates at once. At `base` it lacks the memory for a whole batch."""
    padded_steps: int | None = None
    """Steps of the usual script that are timed. All cost the same, so its time is scaled to all steps. None: all are timed."""
    model: str | None = None
    """The model whose weights are trained, as a trial names it. None: random weights of this shape."""
    tuning: str | None = None
    """The adaptation, as a trial names it; Trainer's is peft's."""


SMOLLM2 = Size(30, 576, 49_152, 1e-4, 320, 80, most_tokens=8 * 512, padded_steps=1, model="smollm2")
SIZES = {
    "tiny": Size(2, 128, 8_000, 1e-3, 1_600, 400, epochs=3),
    "minilm": Size(6, 384, 30_522, 1e-4, 960, 240, padded_steps=3),
    "base": Size(12, 768, 50_265, 5e-5, 320, 80, most_tokens=8 * 512, padded_steps=1),
    "smollm2": SMOLLM2,
    "smollm2-lora": replace(SMOLLM2, learning_rate=1e-3, tuning="lora"),
}
"""Name -> shape: those of `model: tiny`, MiniLM-L6, RoBERTa-base, and SmolLM2-135M, which is trained in full or by LoRA."""


DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Figure:
    """The result of one implementation at one size and length."""

    seconds: float
    """Time from texts to predictions."""
    auc: float
    """ROC AUC; NaN if training was not completed."""
    memory: float
    """Peak memory of the process on a CPU, or of torch on a GPU, in bytes; NaN where the system does not tell."""


def main(
    data: Annotated[Path, typer.Option(help="Folder with WIKI's comments.")] = Path("../shared/data/wiki"),
    size: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SIZES)}; repeatable (default: all).")] = None,
    max_tokens: Annotated[list[int] | None, typer.Option(help="Repeatable (default: 128 and 512).")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds for tiny; the other sizes have one.")] = 3,
    precision: Annotated[
        str, typer.Option(help="Precision of finetune() and of the tuned Trainer: bf16 or fp32.")
    ] = "bf16",
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch, for all implementations.")] = os.cpu_count()
    or 1,
    keep: Annotated[bool, typer.Option("--write", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Measure tokens (without padding) per second, from loaded texts to predictions.

    Compared are finetune(); (a) the usual Trainer script: padding to the maximum length, fp32 (bf16 on a GPU); (b) a tuned
    Trainer: batches grouped by length, fused AdamW, large evaluation batches; and (c) the matrix products alone at the
    machine's measured rate. finetune(), (b) and (c) are in bf16, or with --precision fp32 in fp32, which trials use on CPUs
    without bf16 products.

    \b
    python -m benchmarks.performance.finetune_throughput --data FOLDER --write
    python -m benchmarks.performance.finetune_throughput --data FOLDER --precision fp32 --write        # a separate table
    python -m benchmarks.performance.finetune_throughput --data FOLDER --size tiny --max-tokens 128 --seeds 1
    """
    with user_errors(), using_threads(threads), quiet():
        disable_progress_bar()
        if precision not in DTYPES:
            raise UserError(f"--precision {precision} is not possible. Allowed are {' and '.join(DTYPES)}.")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        peak, lines = measured_peak(device, DTYPES[precision]), []
        for name in size or SIZES:
            shape = look_up(SIZES, name, "size")
            for tokens in max_tokens or (128, 512):
                trial = Trial(task="wiki", data=str(data), max_tokens=tokens, learning_rate=shape.learning_rate)
                trial = trial.with_fields(precision=precision, model=shape.model or "tiny", tuning=shape.tuning)
                lines.append(line(name, shape, trial, seeds if name == "tiny" else 1, device, peak))
                console().print(lines[-1])
        device_name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
        text = "\n".join([heading(device_name, threads, precision, peak), *lines])
        console().print(text)
        if keep:
            docs_blocks.put(f"throughput in {precision}", text, docs_blocks.PERFORMANCE)
            tell("Written into docs/performance.md.")


def heading(device_name: str, threads: int, precision: str, peak: float) -> str:
    """The lines above the table's rows: device and settings, and the header."""
    return (
        f"{device_name}, {threads} threads; {precision} matrix product of 4096: {peak / 1e9:,.0f} GFLOP/s. Tokens (without "
        f"padding) per second, from texts to predictions; in parentheses ROC AUC, mean over seeds. Written by `python -m "
        f"benchmarks.performance.finetune_throughput --precision {precision} --write`.\n\n"
        "| model | max. tokens | examples | seeds | finetune() | (a) usual Trainer | (b) tuned Trainer | (c) limit "
        "| over (a) | over (b) | of (c) | memory, (b) |\n"
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    )


def line(name: str, size: Size, trial: Trial, seeds: int, device: str, peak: float) -> str:
    """A row of the table. The implementations run in turn, seed by seed."""
    resolved = resolve(trial)
    splits = load_splits(resolved)
    train, predicted = first(splits.train, size.examples), first(splits.test, size.predicted)
    steps = size.epochs * -(-len(train) // trial.batch_size)
    figures: dict[str, list[Figure]] = {"ours": [], "usual": [], "best": []}
    tokens, limit = 0, 0.0
    for seed in range(seeds):
        model = loaded(resolved, seed) if size.model else fresh(size, train["text"], seed)
        seeded_trial = trial.with_fields(seed=seed)
        trained_rows = encode(model.tokenizer, train["text"], trial.max_tokens)
        predicted_rows = encode(model.tokenizer, predicted["text"], trial.max_tokens)
        tokens = size.epochs * sum(map(len, trained_rows)) + sum(map(len, predicted_rows))
        limit = operations(model, size, trained_rows, predicted_rows) / peak
        figures["ours"].append(ours(copy.deepcopy(model).to(device), train, predicted, seeded_trial, steps, device))
        for side, best in (("usual", False), ("best", True)):
            figures[side].append(
                peer(copy.deepcopy(model).to(device), train, predicted, seeded_trial, steps, size, best)
            )
    seconds = {side: float(np.mean([figure.seconds for figure in of_side])) for side, of_side in figures.items()}
    memory = {side: max(figure.memory for figure in of_side) / 1e9 for side, of_side in figures.items()}
    shown = {
        side: f"{tokens / seconds[side]:,.0f} ({np.mean([figure.auc for figure in of_side]):.3f})".replace(" (nan)", "")
        for side, of_side in figures.items()
    }
    return (
        f"| {name} ({size.layers} x {size.width}) | {trial.max_tokens} | {len(train)} + {len(predicted)} | {seeds} | "
        f"{shown['ours']} | {shown['usual']} | {shown['best']} | {tokens / limit:,.0f} | "
        f"{seconds['usual'] / seconds['ours']:.1f}x | {seconds['best'] / seconds['ours']:.2f}x | "
        f"{limit / seconds['ours']:.0%} | {memory['ours']:.1f}, {memory['best']:.1f} GB |"
    )


def first(examples: Dataset, count: int) -> Dataset:
    """The first `count` examples. Raises UserError if there are fewer."""
    if len(examples) < count:
        raise UserError(f"the data have {len(examples)} examples, and {count} are needed for meaningful figures")
    return examples.select(range(count))


def loaded(resolved: ResolvedTrial, seed: int) -> LanguageModel:
    """The trial's model, with a classification head for this seed."""
    folder, revision = pipeline.checkpoint_of(resolved.trial, Places().cache)
    return language_model.load(folder, revision, labels=2, seed=seed)


def fresh(size: Size, texts: list[str], seed: int) -> LanguageModel:
    """A model of this shape with random weights, and a tokenizer trained on these texts (the same for all implementations)."""
    tokenizer = lm_training.train_tokenizer(texts, size.vocabulary)
    if size.width == lm_training.TinyOptions().width:
        config: Any = lm_training.tiny_config(size.vocabulary, lm_training.TinyOptions())
    else:
        config = RobertaConfig(
            vocab_size=size.vocabulary, hidden_size=size.width, num_hidden_layers=size.layers, num_attention_heads=12,
            intermediate_size=4 * size.width, max_position_embeddings=514, type_vocab_size=1,
        )  # fmt: skip
    with seeded(seed):
        lm = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
        classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    setattr(classifier, classifier.base_model_prefix, lm.base_model)
    return LanguageModel(tokenizer, lm, classifier)


def ours(model: LanguageModel, train: Dataset, predicted: Dataset, trial: Trial, steps: int, device: str) -> Figure:
    """Time finetune() and predict(), including tokenisation."""
    forget_peak(device)
    start = time.perf_counter()
    rows = encode(model.tokenizer, train["text"], trial.max_tokens)
    data = finetune.TrainingData(rows, train["label"], train["id"], steps, Untreated(train["id"], [*map(len, rows)]))
    finetune.finetune(
        model, data, finetune.Settings(trial, tuning.TUNING[trial.tuning or "full"]()), finetune.Runtime(device)
    )
    logits = finetune.predict(model, encode(model.tokenizer, predicted["text"], trial.max_tokens), trial, device)
    return Figure(time.perf_counter() - start, auc(predicted["label"], logits), peak_memory(device))


def peer(
    model: LanguageModel, train: Dataset, predicted: Dataset, trial: Trial, steps: int, size: Size, best: bool
) -> Figure:
    """Time Trainer, in passes of at most `most_tokens`.

    The usual script runs `padded_steps` of the steps and as many predictions; its time is scaled to all.
    """
    trial = trial.with_fields(micro_batch_size=min(trial.batch_size, size.most_tokens // trial.max_tokens))
    device = model.classifier.device.type
    forget_peak(device)
    classifier = trainer.stock(model, trial)
    if best or size.padded_steps is None:
        done = trainer.run(classifier, model.tokenizer, train, predicted, trial, steps, best)
        return Figure(done.train_seconds + done.predict_seconds, auc(done.labels, done.logits), peak_memory(device))
    few = predicted.select(range(size.padded_steps * 8))
    done = trainer.run(classifier, model.tokenizer, train, few, trial, size.padded_steps, best)
    scaled = done.train_seconds * steps / size.padded_steps + done.predict_seconds * len(predicted) / len(few)
    return Figure(scaled, float("nan"), peak_memory(device))


PROCESS = Path("/proc/self")
"""Where Linux tells of a process."""


def forget_peak(device: str) -> None:
    """Let the peak of memory start from what is in use."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif PROCESS.exists():
        (PROCESS / "clear_refs").write_text("5")  # man 5 proc: resets the peak resident set size


def peak_memory(device: str) -> float:
    """Peak of memory since `forget_peak`, in bytes."""
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    if not PROCESS.exists():
        return float("nan")
    lines = (PROCESS / "status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def auc(labels: Any, logits: np.ndarray) -> float:
    """ROC AUC of the second label's margin."""
    return float(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))


def operations(model: LanguageModel, size: Size, trained: list[list[int]], predicted: list[list[int]]) -> float:
    """Floating-point operations of the matrix products that training and prediction require.

    A forward pass takes 2 operations per token and weight outside the embeddings, and 4 x width x layers x length per token
    for attention; a training step takes three times as many, or twice where the weights are frozen (lora).
    """
    weights = sum(
        weight.numel() for name, weight in encoder_parameters(model).items() if "embed" not in name and weight.ndim > 1
    )

    def forward(rows: list[list[int]]) -> float:
        lengths = np.array([len(row) for row in rows], dtype=float)
        return float((2 * weights * lengths + 4 * size.width * size.layers * lengths**2).sum())

    return (2 if size.tuning else 3) * size.epochs * forward(trained) + forward(predicted)


def measured_peak(device: str, dtype: torch.dtype, width: int = 4096) -> float:
    """Floating-point operations per second of a matrix product, the best of ten."""
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * width**3 / best


if __name__ == "__main__":
    application(main)()
