"""python -m benchmarks.performance.stacked_seeds: train several seeds at once with stacked weights, against one by one."""

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
from benchmarks.performance.finetune_throughput import DTYPES, SIZES, fresh
from bias_transfer.console import application, console, reporting, tell, user_errors
from bias_transfer.determinism import seeded
from bias_transfer.errors import UserError, look_up
from bias_transfer.models.language_model import quiet

RATE, DECAY, CLIP = 1e-3, 0.01, 1.0
"""Learning rate and weight decay of AdamW, and the maximum norm of the gradient, in both implementations."""

Steps = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""For each step: token ids, (seeds, batch, tokens), and labels, (seeds, batch)."""


def main(
    size: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SIZES)}; repeatable (default: tiny).")] = None,
    seeds: Annotated[list[int] | None, typer.Option(min=2, help="Repeatable (default: 4 and 10).")] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=1, help="Repeatable (default: 8 and 32).")] = None,
    tokens: Annotated[int, typer.Option(min=8, max=512, help="Tokens per text; none is padding.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps per seed.")] = 20,
    precision: Annotated[str, typer.Option(help="Precision of both: bf16 or fp32.")] = "fp32",
    keep: Annotated[bool, typer.Option("--write", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Time fine-tuning of several seeds in one process: with stacked weights (torch.func), and one seed after another.

    Token ids are random and the same for both; there is no dropout, so that the final logits can be compared. This needs
    `--seeds` times the memory of one trial.

    \b
    python -m benchmarks.performance.stacked_seeds --write
    python -m benchmarks.performance.stacked_seeds --size tiny --size minilm --precision bf16 --write           # on a GPU
    python -m benchmarks.performance.stacked_seeds --seeds 2 --batch-size 8 --steps 2                           # a quick look
    """
    with user_errors(), reporting() as report:
        if precision not in DTYPES:
            raise UserError(f"--precision {precision} is not possible. Allowed are {', '.join(DTYPES)}.")
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
        tell(f"Wrote the table into {docs_blocks.PERFORMANCE}.")


def _heading(tokens: int, steps: int, precision: str, device: str) -> str:
    device_name = (
        torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU with {os.cpu_count()} cores"
    )
    return (
        f"{device_name}; {steps} steps on texts of {tokens} tokens, {precision}. "
        "Written by `python -m benchmarks.performance.stacked_seeds --write`.\n\n"
        "| model | seeds | batch | separate, ms per step and seed | stacked | speed-up of stacked | difference of logits |\n"
        "| --- | --: | --: | --: | --: | --: | --: |"
    )


def _line(name: str, count: int, batch: int, tokens: int, steps: int, precision: str, device: str) -> str:
    """A row of the table. Both implementations run twice; the first run is a warm-up and the second counts."""
    shape = look_up(SIZES, name, "size")
    with quiet():
        models = [fresh(shape, ["some words"] * 9, seed).classifier.to(device) for seed in range(count)]
    for model in models:
        ready(model)
    batches = random_steps(models[0].config.vocab_size, count, batch, tokens, steps, device)

    def precise() -> AbstractContextManager[Any]:
        return nullcontext() if precision == "fp32" else torch.autocast(device, DTYPES[precision])

    separate_seconds, separate = _timed(lambda: one_after_another(models, batches, precise), device)
    stacked_seconds, together = _timed(lambda: stacked(models, batches, precise), device)
    per_step = 1000 / (steps * count)
    return (
        f"| {name} | {count} | {batch} | {per_step * separate_seconds:.1f} | {per_step * stacked_seconds:.1f} | "
        f"{separate_seconds / stacked_seconds:.2f}x | {difference(models[0], separate, together, batches):.1e} |"
    )


def _timed(train: Callable[[], Any], device: str) -> tuple[float, Any]:
    for _ in range(2):
        start = time.perf_counter()
        trained = train()
        if device == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start, trained


def ready(model: Any) -> None:
    """Put the model into training mode without dropout, with an attention implementation that torch.func can map."""
    model.train()
    model.set_attn_implementation("eager")
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0


def random_steps(vocabulary: int, seeds: int, batch: int, tokens: int, steps: int, device: str) -> Steps:
    """Random token ids and labels."""
    with seeded(0):
        ids = torch.randint(5, vocabulary, (steps, seeds, batch, tokens))
        labels = torch.randint(0, 2, (steps, seeds, batch))
    return [*zip(ids.to(device), labels.to(device), strict=True)]


def one_after_another(
    models: Sequence[Any], batches: Steps, precise: Callable[[], Any] = nullcontext
) -> list[dict[str, Any]]:
    """Train each model on these steps. Returns their weights; the models themselves are unchanged."""
    trained = []
    for number, model in enumerate(map(copy.deepcopy, models)):
        adam = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
        for ids, labels in batches:
            with precise():
                logits = model(input_ids=ids[number], attention_mask=_nothing_masked(ids)).logits
            cross_entropy(logits.float(), labels[number]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            adam.step()
            adam.zero_grad()
        trained.append({name: weight.detach() for name, weight in model.named_parameters()})
    return trained


def stacked(models: Sequence[Any], batches: Steps, precise: Callable[[], Any] = nullcontext) -> dict[str, torch.Tensor]:
    """Train all models at once on these steps. Returns their weights, (seeds, ...) each; the models are unchanged."""
    initial, buffers = stack_module_state([*models])
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in initial.items()}
    base = copy.deepcopy(models[0]).to("meta")
    adam = torch.optim.AdamW([*weights.values()], lr=RATE, weight_decay=DECAY, fused=True)

    def loss(weights: Any, buffers: Any, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        inputs = {"input_ids": ids, "attention_mask": _nothing_masked(ids)}
        return cross_entropy(functional_call(base, (weights, buffers), kwargs=inputs).logits.float(), labels)

    differentiated = vmap(grad_and_value(loss))
    for ids, labels in batches:
        with precise():
            gradients, _ = differentiated(weights, buffers, ids, labels)
        norms = sum(value.flatten(1).square().sum(1) for value in gradients.values()).sqrt()
        scale = (CLIP / (norms + 1e-6)).clamp(max=1.0)
        for name, weight in weights.items():
            weight.grad = gradients[name] * scale.view(-1, *[1] * (weight.ndim - 1))
        adam.step()
    return {name: weight.detach() for name, weight in weights.items()}


def _nothing_masked(ids: torch.Tensor) -> torch.Tensor:
    """A 4-d attention mask of zeros. transformers inspects the values of a 2-d mask, which torch.func forbids."""
    batch, tokens = ids.shape[-2:]
    return torch.zeros(batch, 1, tokens, tokens, device=ids.device)


@torch.no_grad()
def difference(
    base: Any, separate: Sequence[dict[str, torch.Tensor]], together: dict[str, torch.Tensor], batches: Steps
) -> float:
    """The largest difference between the logits of both, over seeds and the texts of the first step.

    Weights are not compared: those without effect on any logit, such as a key's bias, follow the rounding errors.
    """
    ids, _ = batches[0]
    largest = 0.0
    for number, weights in enumerate(separate):
        inputs = {"input_ids": ids[number], "attention_mask": _nothing_masked(ids)}
        other = {name: weight[number] for name, weight in together.items()}
        logits, other_logits = (functional_call(base, each, kwargs=inputs).logits for each in (weights, other))
        largest = max(largest, float((logits - other_logits).abs().max()))
    return largest


if __name__ == "__main__":
    application(main)()
