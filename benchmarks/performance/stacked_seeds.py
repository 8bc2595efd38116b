"""python -m benchmarks.stacked_seeds: seeds of one cell in one process with stacked weights, against one after another."""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import torch
import typer
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from benchmarks import docs_blocks
from benchmarks.performance.finetune_throughput import DTYPES
from benchmarks.performance.finetune_throughput import SIZES
from benchmarks.performance.finetune_throughput import fresh
from bias_transfer.console import console
from bias_transfer.console import reporting
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.models.language_model import quiet
from bias_transfer.determinism import seeded
from bias_transfer.errors import UserError
from bias_transfer.errors import look_up

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

RATE, DECAY, CLIP = 1e-3, 0.01, 1.0
"""Of AdamW, and of the gradient's norm, on both sides."""

Steps = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Of each step: token ids, (seeds, batch, tokens), and labels, (seeds, batch)."""


@app.command(context_settings={"max_content_width": 110})
def main(
    size: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SIZES)}; repeatable (default: tiny).")] = None,
    seeds: Annotated[list[int] | None, typer.Option(min=2, help="Repeatable (default: 4 and 10).")] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=1, help="Repeatable (default: 8 and 32).")] = None,
    tokens: Annotated[int, typer.Option(min=8, max=512, help="Of each text: none is padded.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each seed.")] = 20,
    precision: Annotated[str, typer.Option(help="Of both sides: bf16 or fp32.")] = "fp32",
    keep: Annotated[bool, typer.Option("--write", help="Put the table into docs/performance.md.")] = False,
) -> None:
    """Milliseconds a step and seed of fine-tuning several seeds in one process: their weights stacked (torch.func), and one
    seed after another. Made-up token ids, the same for both sides; no dropout, so that their logits can be
    compared afterwards. `--seeds` times the memory of one trial is needed.

    \b
    python -m benchmarks.stacked_seeds --write
    python -m benchmarks.stacked_seeds --size tiny --size minilm --precision bf16 --write           # on a GPU
    python -m benchmarks.stacked_seeds --seeds 2 --batch-size 8 --steps 2                           # a quick look
    """
    with user_errors(), reporting() as report:
        if precision not in DTYPES:
            raise UserError(f"--precision {precision}: allowed are {', '.join(DTYPES)}")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        cells = [
            (name, count, batch)
            for name in size or ["tiny"]
            for count in seeds or [4, 10]
            for batch in batch_size or [8, 32]
        ]
        lines = list[str]()
        for number, (name, count, batch) in enumerate(cells):
            report("sizes, seeds and batches", number, len(cells))
            lines.append(_line(name, count, batch, tokens, steps, precision, device))
        report("sizes, seeds and batches", len(cells), len(cells))
    text = "\n".join([_heading(tokens, steps, precision, device), *lines])
    console().print(text)
    if keep:
        docs_blocks.put("stacked seeds", text, docs_blocks.PERFORMANCE)
        tell(f"Written: {docs_blocks.PERFORMANCE}")


def _heading(tokens: int, steps: int, precision: str, device: str) -> str:
    what = (
        torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} processor, {os.cpu_count()} cores"
    )
    return (
        f"{what}; {steps} steps of texts of {tokens} tokens, {precision}. "
        "Written by `python -m benchmarks.stacked_seeds --write`.\n\n"
        "| model | seeds | batch | separate, ms a step and seed | stacked | stacked is faster by | logits differ by |\n"
        "| --- | --: | --: | --: | --: | --: | --: |"
    )


def _line(name: str, count: int, batch: int, tokens: int, steps: int, precision: str, device: str) -> str:
    """A row of the table. Each side runs twice, and the second time counts; the first makes it warm."""
    shape = look_up(SIZES, name, "size")
    with quiet():
        models = [fresh(shape, ["some words"] * 9, seed).classifier.to(device) for seed in range(count)]
    for model in models:
        ready(model)
    given = made_up(models[0].config.vocab_size, count, batch, tokens, steps, device)

    def precise() -> AbstractContextManager[Any]:
        return nullcontext() if precision == "fp32" else torch.autocast(device, DTYPES[precision])

    alone, own = _timed(lambda: one_after_another(models, given, precise), device)
    at_once, weights = _timed(lambda: stacked(models, given, precise), device)
    per = 1000 / (steps * count)
    return (
        f"| {name} | {count} | {batch} | {per * alone:.1f} | {per * at_once:.1f} | {alone / at_once:.2f}x | "
        f"{difference(models[0], own, weights, given):.1e} |"
    )


def _timed(train: Callable[[], Any], device: str) -> tuple[float, Any]:
    for _ in range(2):
        start = time.perf_counter()
        found = train()
        if device == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start, found


def ready(model: Any) -> None:
    """In training mode without dropout, with attention that torch.func can map."""
    model.train()
    model.set_attn_implementation("eager")
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0


def made_up(vocabulary: int, seeds: int, batch: int, tokens: int, steps: int, device: str) -> Steps:
    """Token ids and labels by chance."""
    with seeded(0):
        ids = torch.randint(5, vocabulary, (steps, seeds, batch, tokens))
        labels = torch.randint(0, 2, (steps, seeds, batch))
    return [*zip(ids.to(device), labels.to(device), strict=True)]


def one_after_another(
    models: Sequence[Any], given: Steps, precise: Callable[[], Any] = nullcontext
) -> list[dict[str, Any]]:
    """The weights of each model after these steps. The models themselves stay as they are."""
    trained = []
    for number, model in enumerate(map(copy.deepcopy, models)):
        adam = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
        for ids, labels in given:
            with precise():
                logits = model(input_ids=ids[number], attention_mask=_nothing_masked(ids)).logits
            cross_entropy(logits.float(), labels[number]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            adam.step()
            adam.zero_grad()
        trained.append({name: weight.detach() for name, weight in model.named_parameters()})
    return trained


def stacked(models: Sequence[Any], given: Steps, precise: Callable[[], Any] = nullcontext) -> dict[str, torch.Tensor]:
    """The same steps of all models at once. Returns their weights, (seeds, ...) each. The models stay as they are."""
    found, buffers = stack_module_state([*models])
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in found.items()}
    base = copy.deepcopy(models[0]).to("meta")
    adam = torch.optim.AdamW([*weights.values()], lr=RATE, weight_decay=DECAY, fused=True)

    def loss(own: Any, kept: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        words = {"input_ids": ids, "attention_mask": _nothing_masked(ids)}
        return cross_entropy(functional_call(base, (own, kept), kwargs=words).logits.float(), labels)

    differentiated = vmap(grad_and_value(loss))
    for ids, labels in given:
        with precise():
            gradients, _ = differentiated(weights, buffers, ids, labels)
        norms = sum(value.flatten(1).square().sum(1) for value in gradients.values()).sqrt()
        scale = (CLIP / (norms + 1e-6)).clamp(max=1.0)
        for name, weight in weights.items():
            weight.grad = gradients[name] * scale.view(-1, *[1] * (weight.ndim - 1))
        adam.step()
    return {name: weight.detach() for name, weight in weights.items()}


def _nothing_masked(ids: torch.Tensor) -> torch.Tensor:
    """What attention adds to its scores: of every shape but 2-d transformers asks for the values, which torch.func forbids."""
    batch, tokens = ids.shape[-2:]
    return torch.zeros(batch, 1, tokens, tokens, device=ids.device)


@torch.no_grad()
def difference(
    base: Any, separate: Sequence[dict[str, torch.Tensor]], together: dict[str, torch.Tensor], given: Steps
) -> float:
    """The largest of a logit's two values, over seeds and the first step's texts. (Weights say less: those that change no
    logit, as a key's bias, go where rounding sends them.)"""
    ids, _ = given[0]
    largest = 0.0
    for number, weights in enumerate(separate):
        words = {"input_ids": ids[number], "attention_mask": _nothing_masked(ids)}
        other = {name: weight[number] for name, weight in together.items()}
        one, two = (functional_call(base, own, kwargs=words).logits for own in (weights, other))
        largest = max(largest, float((one - two).abs().max()))
    return largest


if __name__ == "__main__":
    app()
