"""python -m benchmarks.finetune_throughput: `finetune()` beside Hugging Face's Trainer, and beside the machine's limit."""

from __future__ import annotations

import copy
import os
import platform
import time
from dataclasses import dataclass
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
from bias_transfer.training import finetune
from bias_transfer.training import lm_training
from bias_transfer.models.batching import encode
from bias_transfer.console import console
from bias_transfer.console import silent
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.language_model import encoder_parameters
from bias_transfer.models.language_model import quiet
from bias_transfer.determinism import seeded
from bias_transfer.determinism import using_threads
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError
from bias_transfer.errors import look_up
from bias_transfer.pipeline import load_splits
from bias_transfer.pipeline import resolve

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Size:
    """A shape of model, and how much of the data it is timed on."""

    layers: int
    width: int
    vocabulary: int
    learning_rate: float
    examples: int
    predicted: int
    epochs: int = 1
    most_tokens: int = 32 * 512
    """Tokens that Trainer differentiates at once, with padding to the longest: more than it has memory for at `base`."""
    padded_steps: int | None = None
    """Steps that the usual script takes; each costs it the same, so its time is scaled to all. None: all of them."""


SIZES = {
    "tiny": Size(2, 128, 8_000, 1e-3, 1_600, 400, epochs=3),
    "minilm": Size(6, 384, 30_522, 1e-4, 960, 240, padded_steps=3),
    "base": Size(12, 768, 50_265, 5e-5, 320, 80, most_tokens=8 * 512, padded_steps=1),
}
"""Name -> shape: `model: tiny`'s, MiniLM-L6's and RoBERTa-base's."""


DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Figure:
    """One side at one size and length."""

    seconds: float
    """From texts to predictions."""
    auc: float
    """NaN where it was not trained to the end."""


@app.command(context_settings={"max_content_width": 110})
def main(
    data: Annotated[Path, typer.Option(help="A folder of WIKI's comments.")] = Path("../shared/data/wiki"),
    size: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SIZES)}; repeatable (default: all).")] = None,
    max_tokens: Annotated[list[int] | None, typer.Option(help="Repeatable (default: 128 and 512).")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of tiny; the others have one.")] = 3,
    precision: Annotated[str, typer.Option(help="Of finetune() and of Trainer at its best: bf16 or fp32.")] = "bf16",
    threads: Annotated[int, typer.Option(min=1, help="Of torch, for all sides.")] = os.cpu_count() or 1,
    keep: Annotated[bool, typer.Option("--write", help="Put the table into docs/performance.md.")] = False,
) -> None:
    """Real tokens a second, from loaded texts to predictions, of: finetune(); the usual Trainer script (a: padded to the
    maximum length, fp32, bf16 on a GPU); Trainer at its best (b: grouped by length, fused AdamW, large evaluation
    batches); and the matrix products alone at the machine's measured rate (c). finetune(), (b) and (c) are in bf16; in fp32,
    as trials are there, on a processor that has no products in bf16.

    \b
    python -m benchmarks.finetune_throughput --data FOLDER --write
    python -m benchmarks.finetune_throughput --data FOLDER --precision fp32 --write        # a table of its own
    python -m benchmarks.finetune_throughput --data FOLDER --size tiny --max-tokens 128 --seeds 1
    """
    with user_errors(), using_threads(threads), quiet():
        disable_progress_bar()
        if precision not in DTYPES:
            raise UserError(f"--precision {precision}: allowed are {' and '.join(DTYPES)}")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        peak, lines = measured_peak(device, DTYPES[precision]), []
        for name in size or SIZES:
            own = look_up(SIZES, name, "size")
            for tokens in max_tokens or (128, 512):
                trial = Trial(task="wiki", data=str(data), max_tokens=tokens, learning_rate=own.learning_rate)
                trial = trial.with_fields(precision=precision)
                lines.append(line(name, own, trial, seeds if name == "tiny" else 1, device, peak))
                console().print(lines[-1])
        what = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} processor"
        text = "\n".join([heading(what, threads, precision, peak), *lines])
        console().print(text)
        if keep:
            docs_blocks.put(f"throughput in {precision}", text, docs_blocks.PERFORMANCE)
            tell("Written into docs/performance.md.")


def heading(what: str, threads: int, precision: str, peak: float) -> str:
    """Says what was measured on what."""
    return (
        f"{what}, {threads} threads; {precision} matrix product of 4096: {peak / 1e9:,.0f} GFLOP/s. Real tokens a second, "
        f"from texts to predictions; in brackets ROC AUC, mean over seeds. Written by `python -m "
        f"benchmarks.finetune_throughput --precision {precision} --write`.\n\n"
        "| model | longest | examples | seeds | finetune() | (a) usual Trainer | (b) Trainer at its best | (c) limit "
        "| over (a) | over (b) | of (c) |\n| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    )


def line(name: str, size: Size, trial: Trial, seeds: int, device: str, peak: float) -> str:
    """A row of the table: the sides in turn, seed by seed."""
    splits = load_splits(resolve(trial))
    train, predicted = first(splits.train, size.examples), first(splits.test, size.predicted)
    steps = size.epochs * -(-len(train) // trial.batch_size)
    figures: dict[str, list[Figure]] = {"ours": [], "usual": [], "best": []}
    tokens, limit = 0, 0.0
    for seed in range(seeds):
        model = fresh(size, train["text"], seed)
        own = trial.with_fields(seed=seed)
        rows = {
            part: encode(model.tokenizer, part_["text"], trial.max_tokens)
            for part, part_ in (("t", train), ("p", predicted))
        }
        tokens = size.epochs * sum(map(len, rows["t"])) + sum(map(len, rows["p"]))
        limit = operations(model, size, rows["t"], rows["p"]) / peak
        figures["ours"].append(ours(copy.deepcopy(model).to(device), train, predicted, own, steps, device))
        for side, best in (("usual", False), ("best", True)):
            figures[side].append(peer(copy.deepcopy(model).to(device), train, predicted, own, steps, size, best))
    seconds = {side: float(np.mean([figure.seconds for figure in own])) for side, own in figures.items()}
    shown = {
        side: f"{tokens / seconds[side]:,.0f} ({np.mean([figure.auc for figure in own]):.3f})".replace(" (nan)", "")
        for side, own in figures.items()
    }
    return (
        f"| {name} ({size.layers} x {size.width}) | {trial.max_tokens} | {len(train)} + {len(predicted)} | {seeds} | "
        f"{shown['ours']} | {shown['usual']} | {shown['best']} | {tokens / limit:,.0f} | "
        f"{seconds['usual'] / seconds['ours']:.1f}x | {seconds['best'] / seconds['ours']:.2f}x | "
        f"{limit / seconds['ours']:.0%} |"
    )


def first(examples: Dataset, count: int) -> Dataset:
    """Raises UserError where there are fewer."""
    if len(examples) < count:
        raise UserError(
            f"the data have {len(examples)} examples, and {count} are needed for the figures to mean something"
        )
    return examples.select(range(count))


def fresh(size: Size, texts: list[str], seed: int) -> LanguageModel:
    """A model of that shape with random weights, and a tokenizer of these texts (equal for all sides)."""
    tokenizer = lm_training.train_tokenizer(texts, size.vocabulary)
    if size.width == lm_training.TinyOptions().width:
        config: Any = lm_training.tiny_config(size.vocabulary, lm_training.TinyOptions())
    else:
        config = RobertaConfig(
            vocab_size=size.vocabulary, hidden_size=size.width, num_hidden_layers=size.layers, num_attention_heads=12,
            intermediate_size=4 * size.width, max_position_embeddings=514, type_vocab_size=1,
        )  # fmt: skip
    with seeded(seed):
        masked_lm = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
        classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    setattr(classifier, classifier.base_model_prefix, masked_lm.base_model)
    return LanguageModel(tokenizer, masked_lm, classifier)


def ours(model: LanguageModel, train: Dataset, predicted: Dataset, trial: Trial, steps: int, device: str) -> Figure:
    """finetune() and predict(), tokenising included."""
    start = time.perf_counter()
    rows = encode(model.tokenizer, train["text"], trial.max_tokens)
    finetune.finetune(model, rows, train["label"], train["id"], trial, steps, device, silent)
    logits = finetune.predict(model, encode(model.tokenizer, predicted["text"], trial.max_tokens), trial, device)
    return Figure(time.perf_counter() - start, auc(predicted["label"], logits))


def peer(
    model: LanguageModel, train: Dataset, predicted: Dataset, trial: Trial, steps: int, size: Size, best: bool
) -> Figure:
    """Trainer, in passes of `most_tokens`; the usual script on `padded_steps` of the steps and as many predictions, its time
    scaled to all."""
    trial = trial.with_fields(micro_batch_size=min(trial.batch_size, size.most_tokens // trial.max_tokens))
    if best or size.padded_steps is None:
        own = trainer.run(model.classifier, model.tokenizer, train, predicted, trial, steps, best)
        return Figure(own.train_seconds + own.predict_seconds, auc(own.labels, own.logits))
    few = predicted.select(range(size.padded_steps * 8))
    own = trainer.run(model.classifier, model.tokenizer, train, few, trial, size.padded_steps, best)
    scaled = own.train_seconds * steps / size.padded_steps + own.predict_seconds * len(predicted) / len(few)
    return Figure(scaled, float("nan"))


def auc(labels: Any, logits: np.ndarray) -> float:
    """Of the second label's margin."""
    return float(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))


def operations(model: LanguageModel, size: Size, trained: list[list[int]], predicted: list[list[int]]) -> float:
    """Floating-point operations of the matrix products that the work needs: 2 a weight outside the embeddings and token
    forward, and 4 x width x layers x length of attention; three times that where it is differentiated."""
    weights = sum(
        weight.numel()
        for name, weight in encoder_parameters(model).items()
        if "embeddings" not in name and weight.ndim > 1
    )

    def forward(rows: list[list[int]]) -> float:
        lengths = np.array([len(row) for row in rows], dtype=float)
        return float((2 * weights * lengths + 4 * size.width * size.layers * lengths**2).sum())

    return 3 * size.epochs * forward(trained) + forward(predicted)


def measured_peak(device: str, dtype: torch.dtype, width: int = 4096) -> float:
    """Floating-point operations a second of a matrix product, the best of ten."""
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
    app()
