"""python -m benchmarks.many_trials: several small trials at once on one device, against one after the other."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks import docs_blocks
from benchmarks.performance.finetune_throughput import SIZES
from benchmarks.performance.finetune_throughput import Size
from benchmarks.performance.finetune_throughput import first
from benchmarks.performance.finetune_throughput import fresh
from bias_transfer.training import finetune
from bias_transfer.models.batching import encode
from bias_transfer.console import console
from bias_transfer.console import reporting
from bias_transfer.console import silent
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.models.language_model import quiet
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError
from bias_transfer.errors import look_up
from bias_transfer.pipeline import load_splits
from bias_transfer.pipeline import resolve

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

WAIT = 600.0
"""Seconds that the processes wait for each other before they begin."""


@dataclass(frozen=True)
class Did:
    """What a process did. Times in seconds on the machine's one monotonic clock."""

    began: float
    ended: float
    megabytes: float
    """Its peak: of the device's memory on a GPU, else of its own."""
    bits: dict[int, str]
    """Seed -> digest of the logits."""


@app.command(context_settings={"max_content_width": 110})
def main(
    data: Annotated[Path, typer.Option(help="A folder of WIKI's comments.")] = Path("../shared/data/wiki"),
    size: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SIZES)}; repeatable (default: all).")] = None,
    at_once: Annotated[list[int] | None, typer.Option(help="Repeatable (default: 1, 4 and 10).")] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many in all, for each line.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 32,
    precision: Annotated[str, typer.Option(help="Of all trials.")] = "bf16",
    examples: Annotated[int | None, typer.Option(min=1, help="Fewer than the size's own, for a quick look.")] = None,
    keep: Annotated[bool, typer.Option("--write", help="Put the table into docs/performance.md.")] = False,
) -> None:
    """Trials a minute when 1, 4 and 10 processes share the device, as `--gpus-per-trial 0.1` lets them: fine-tuning and
    prediction, each process warm, one thread each. Each trial's logits are compared, bit for bit, with those of the first
    line.

    \b
    python -m benchmarks.many_trials --write
    python -m benchmarks.many_trials --size tiny --at-once 1 --at-once 2 --trials 4 --examples 320       # a quick look
    """
    with user_errors(), reporting() as report:
        counts = at_once or [1, 4, 10]
        for count in counts:
            if trials % count:
                raise UserError(f"--trials {trials} cannot be shared equally among {count} processes")
        lines = list[str]()
        todo = [(name, count) for name in (size or SIZES) for count in counts]
        alone: dict[str, tuple[float, dict[int, str]]] = {}
        for number, (name, count) in enumerate(todo):
            report("sizes and numbers at once", number, len(todo))
            rate = look_up(SIZES, name, "size").learning_rate
            own = Trial(task="wiki", data=str(data), batch_size=batch_size, learning_rate=rate)
            own = own.with_fields(precision=precision)
            did = shared(own, name, count, trials, examples)
            seconds = max(one.ended for one in did) - min(one.began for one in did)
            bits = {seed: digest for one in did for seed, digest in one.bits.items()}
            alone.setdefault(name, (seconds, bits))
            lines.append(line(name, count, trials, seconds, max(one.megabytes for one in did), bits, *alone[name]))
        report("sizes and numbers at once", len(todo), len(todo))
    text = "\n".join([heading(batch_size, precision), *lines])
    console().print(text)
    if keep:
        docs_blocks.put("many trials", text, docs_blocks.PERFORMANCE)
        tell("Written into docs/performance.md.")


def heading(batch_size: int, precision: str) -> str:
    """Says what was measured on what."""
    cuda = torch.cuda.is_available()
    what = torch.cuda.get_device_name() if cuda else f"{platform.machine()} processor of {os.cpu_count()} cores"
    return (
        f"{what}; batches of {batch_size}, {precision}. Written by `python -m benchmarks.many_trials --write`.\n\n"
        "| model | at once | trials | s in all | trials a minute | over the first line | peak a process, MB | same bits |\n"
        "| --- | --: | --: | --: | --: | --: | --: | --: |"
    )


def line(
    name: str, count: int, trials: int, seconds: float, megabytes: float, bits: dict[int, str],
    alone: float, expected: dict[int, str],
) -> str:  # fmt: skip
    """A row of the table. alone, expected: the seconds and bits of the first line of this size."""
    same = sum(expected[seed] == digest for seed, digest in bits.items())
    return (
        f"| {name} | {count} | {trials} | {seconds:.1f} | {60 * trials / seconds:.1f} | {alone / seconds:.2f}x | "
        f"{megabytes:,.0f} | {same} of {trials} |"
    )


def shared(trial: Trial, name: str, count: int, trials: int, examples: int | None) -> list[Did]:
    """Run `trials` seeds in `count` fresh processes, which begin together. Raises UserError where one fails."""
    context = multiprocessing.get_context("spawn")
    begin, processes, working = context.Barrier(count), list[Any](), list[Any]()
    did, failed = list[Did](), list[str]()
    for number in range(count):
        here, there = context.Pipe(duplex=False)
        own = range(trials)[number::count]
        args = (trial, name, own, examples, begin, there)
        processes.append(context.Process(target=_process, args=args, daemon=True))
        processes[-1].start()
        there.close()
        working.append(here)
    while working:
        ready: list[Any] = connection.wait(working)
        for one in ready:
            working.remove(one)
            try:
                told = one.recv()
            except EOFError:
                told = "it was killed"
            if isinstance(told, Did):
                did.append(told)
            else:
                begin.abort()  # or the others would wait for it
                failed.append(told)
    for process in processes:
        process.join()
    if failed:
        raise UserError(f"{len(failed)} of {count} processes failed, first: {failed[0]}")
    return did


def _process(trial: Trial, name: str, seeds: Sequence[int], examples: int | None, begin: Any, told: Any) -> None:
    try:
        told.send(work(trial, SIZES[name], seeds, examples, begin))
    except Exception as error:
        told.send(f"{type(error).__name__}: {error}")


def work(trial: Trial, size: Size, seeds: Sequence[int], examples: int | None, begin: Any) -> Did:
    """One process: load, one short trial to be warm, wait for the others, then a trial a seed."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    splits = load_splits(resolve(trial))
    train, predicted = (
        first(part, min(number, examples or number))
        for part, number in ((splits.train, size.examples), (splits.test, size.predicted))
    )
    steps, bits = finetune.steps(trial.with_fields(epochs=size.epochs), len(train)), dict[int, str]()
    with quiet():
        _one(trial, size, train, predicted, device, 2)
        begin.wait(WAIT)
        began = time.monotonic()
        for seed in seeds:
            bits[seed] = _one(trial.with_fields(seed=seed), size, train, predicted, device, steps)
        ended = time.monotonic()
    peak = torch.cuda.max_memory_reserved() / 1e6 if device == "cuda" else _own_peak()
    return Did(began, ended, peak, bits)


def _own_peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _one(trial: Trial, size: Size, train: Any, predicted: Any, device: str, steps: int) -> str:
    model = fresh(size, train["text"][:], trial.seed).to(device)
    rows = encode(model.tokenizer, train["text"][:], trial.max_tokens)
    finetune.finetune(model, rows, train["label"][:], train["id"][:], trial, steps, device, silent)
    rows = encode(model.tokenizer, predicted["text"][:], trial.max_tokens)
    return hashlib.sha256(finetune.predict(model, rows, trial, device).tobytes()).hexdigest()


if __name__ == "__main__":
    app()
