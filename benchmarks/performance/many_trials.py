"""python -m benchmarks.performance.many_trials: several small trials at once on one device, against one at a time."""

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
from benchmarks.performance.finetune_throughput import SIZES, Size, first, fresh
from bias_transfer.console import application, console, reporting, tell, user_errors
from bias_transfer.errors import UserError, look_up
from bias_transfer.memory import load_splits
from bias_transfer.models.batching import encode
from bias_transfer.models.language_model import quiet
from bias_transfer.resolved import resolve
from bias_transfer.spec import Options, Trial
from bias_transfer.training import finetune
from bias_transfer.training.sampling import Untreated

WAIT = 600.0
"""Seconds that the processes wait for each other before they start."""


@dataclass(frozen=True)
class Work:
    """What a process did. Times are seconds on the machine's monotonic clock."""

    began: float
    ended: float
    megabytes: float
    """Peak memory: of the device on a GPU, of the process on a CPU."""
    bits: dict[int, str]
    """Seed -> SHA-256 of the logits."""


def main(
    data: Annotated[Path, typer.Option(help="Folder with WIKI's comments.")] = Path("../shared/data/wiki"),
    size: Annotated[list[str] | None, typer.Option(help=f"{', '.join(SIZES)}; repeatable (default: all).")] = None,
    at_once: Annotated[list[int] | None, typer.Option(help="Repeatable (default: 1, 4 and 10).")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials per row of the table.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per step.")] = 32,
    precision: Annotated[str, typer.Option(help="Precision of all trials: bf16 or fp32.")] = "bf16",
    examples: Annotated[int | None, typer.Option(min=1, help="Examples (default: those of the size).")] = None,
    keep: Annotated[bool, typer.Option("--write", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Measure trials per minute when 1, 4 and 10 processes share the device, as they do with `--gpus-per-trial 0.1`.

    A trial is fine-tuning and prediction; each process is warm and has one thread. The logits of each trial are compared
    bit for bit with those of the first row.

    \b
    python -m benchmarks.performance.many_trials --write
    python -m benchmarks.performance.many_trials --size tiny --at-once 1 --at-once 2 --trials 4 --examples 320  # a quick look
    """
    with user_errors(), reporting() as report:
        counts = at_once or [1, 4, 10]
        for count in counts:
            if trials % count:
                raise UserError(f"--trials {trials} cannot be divided equally among {count} processes.")
        lines = list[str]()
        todo = [(name, count) for name in (size or SIZES) for count in counts]
        first_row: dict[str, tuple[float, dict[int, str]]] = {}
        for number, (name, count) in enumerate(todo):
            report("sizes and numbers at once", number, len(todo))
            rate = look_up(SIZES, name, "size").learning_rate
            trial = Trial(task="wiki", data=str(data), batch_size=batch_size, learning_rate=rate)
            trial = trial.with_fields(precision=precision)
            done = shared(trial, name, count, trials, examples)
            seconds = max(work.ended for work in done) - min(work.began for work in done)
            bits = {seed: digest for work in done for seed, digest in work.bits.items()}
            first_row.setdefault(name, (seconds, bits))
            lines.append(
                line(name, count, trials, seconds, max(work.megabytes for work in done), bits, *first_row[name])
            )
        report("sizes and numbers at once", len(todo), len(todo))
    text = "\n".join([heading(batch_size, precision), *lines])
    console().print(text)
    if keep:
        docs_blocks.put("many trials", text, docs_blocks.PERFORMANCE)
        tell("Written into docs/performance.md.")


def heading(batch_size: int, precision: str) -> str:
    """The lines above the table's rows: device and settings, and the header."""
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU with {os.cpu_count()} cores"
    return (
        f"{device}; batches of {batch_size}, {precision}. Written by "
        "`python -m benchmarks.performance.many_trials --write`.\n\n"
        "| model | at once | trials | total, s | trials per minute | speed-up over the first row | peak per process, MB "
        "| same bits |\n"
        "| --- | --: | --: | --: | --: | --: | --: | --: |"
    )


def line(
    name: str, count: int, trials: int, seconds: float, megabytes: float, bits: dict[int, str],
    first_seconds: float, expected: dict[int, str],
) -> str:  # fmt: skip
    """A row of the table. first_seconds, expected: the seconds and bits of the first row of this size."""
    same = sum(expected[seed] == digest for seed, digest in bits.items())
    return (
        f"| {name} | {count} | {trials} | {seconds:.1f} | {60 * trials / seconds:.1f} | {first_seconds / seconds:.2f}x | "
        f"{megabytes:,.0f} | {same} of {trials} |"
    )


def shared(trial: Trial, name: str, count: int, trials: int, examples: int | None) -> list[Work]:
    """Run `trials` seeds in `count` new processes, which start together. Raises UserError if one fails."""
    context = multiprocessing.get_context("spawn")
    barrier, processes, working = context.Barrier(count), list[Any](), list[Any]()
    done, failed = list[Work](), list[str]()
    for number in range(count):
        receiver, sender = context.Pipe(duplex=False)
        args = (trial, name, range(trials)[number::count], examples, barrier, sender)
        processes.append(context.Process(target=_process, args=args, daemon=True))
        processes[-1].start()
        sender.close()  # so that reading ends when the process does
        working.append(receiver)
    while working:
        ready: list[Any] = connection.wait(working)
        for receiver in ready:
            working.remove(receiver)
            try:
                message = receiver.recv()
            except EOFError:
                message = "it was killed"
            if isinstance(message, Work):
                done.append(message)
            else:
                barrier.abort()  # otherwise the others would wait for it
                failed.append(message)
    for process in processes:
        process.join()
    if failed:
        raise UserError(f"{len(failed)} of {count} processes failed, first: {failed[0]}")
    return done


def _process(trial: Trial, name: str, seeds: Sequence[int], examples: int | None, barrier: Any, sender: Any) -> None:
    try:
        sender.send(work(trial, SIZES[name], seeds, examples, barrier))
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def work(trial: Trial, size: Size, seeds: Sequence[int], examples: int | None, barrier: Any) -> Work:
    """One process: load the data, warm up with a short trial, wait for the other processes, then run one trial per seed."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    splits = load_splits(resolve(trial))
    train, predicted = (
        first(part, min(number, examples or number))
        for part, number in ((splits.train, size.examples), (splits.test, size.predicted))
    )
    steps, bits = finetune.steps(trial.with_fields(epochs=size.epochs), len(train)), dict[int, str]()
    with quiet():
        _run(trial, size, train, predicted, device, 2)
        barrier.wait(WAIT)
        began = time.monotonic()
        for seed in seeds:
            bits[seed] = _run(trial.with_fields(seed=seed), size, train, predicted, device, steps)
        ended = time.monotonic()
    peak = torch.cuda.max_memory_reserved() / 1e6 if device == "cuda" else _peak_of_process()
    return Work(began, ended, peak, bits)


def _peak_of_process() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _run(trial: Trial, size: Size, train: Any, predicted: Any, device: str, steps: int) -> str:
    model = fresh(size, train["text"][:], trial.seed).to(device)
    rows = encode(model.tokenizer, train["text"][:], trial.max_tokens)
    data = finetune.TrainingData(
        rows, train["label"][:], train["id"][:], steps, Untreated(train["id"][:], [*map(len, rows)])
    )
    finetune.finetune(model, data, finetune.Settings(trial, Options()), finetune.Runtime(device))
    rows = encode(model.tokenizer, predicted["text"][:], trial.max_tokens)
    return hashlib.sha256(finetune.predict(model, rows, trial, device).tobytes()).hexdigest()


if __name__ == "__main__":
    application(main)()
