"""python -m benchmarks.performance.cost_growth: how the time of a trial's stages and of planning grows with their sizes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from transformers.utils import logging

from benchmarks import docs_blocks
from benchmarks.performance.growing import Sizes, make
from bias_transfer.config import grid
from bias_transfer.console import application, tell, user_errors
from bias_transfer.pipeline import run_trial
from bias_transfer.resolved import Places
from bias_transfer.spec import parse_trial
from bias_transfer.sweep.plan import Request, make_plan, resolve_all

AXES: dict[str, tuple[str, tuple[Sizes, ...]]] = {
    "max_tokens": (
        "maximum tokens, texts of 300 words",
        tuple(Sizes(words=300, examples=300, max_tokens=size) for size in (32, 64, 128, 256)),
    ),
    "examples": ("texts", tuple(Sizes(examples=size) for size in (250, 500, 1000, 2000))),
    "groups": ("groups", tuple(Sizes(groups=size) for size in (8, 16, 32, 64))),
    "templates": ("templates, and as many phrases", tuple(Sizes(templates=size) for size in (8, 16, 32, 64))),
    "width": ("width of the model", tuple(Sizes(width=size) for size in (32, 64, 128, 256))),
}
"""Field of `Sizes` that grows -> (its description, the sizes)."""

TRIALS = (100, 1_000, 10_000)

GRID = "defaults: {{task: wiki, data: synthetic, model: tiny}}\ngrid:\n  - seed: [{seeds}]\n"


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Trials per size; the fastest time of each stage counts.")] = 2,
    keep: Annotated[bool, typer.Option("--write", help="Write the tables into docs/performance.md.")] = False,
) -> None:
    """Time the stages of a trial at growing sizes and the planning of growing grids, and fit the exponents of growth.

    \b
    python -m benchmarks.performance.cost_growth --write      # takes about three minutes
    """
    logging.disable_progress_bar()
    with user_errors(), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _stages(Sizes(), folder / "first", 0)  # imports, and whatever else a process does only once
        _planned(1, folder)
        tables = []
        for name, (description, sizes) in AXES.items():
            seconds = [_fastest(size, folder / f"{name}-{number}", repeats) for number, size in enumerate(sizes)]
            tables.append(table(description, [int(getattr(size, name)) for size in sizes], seconds))
            tell(tables[-1] + "\n")
        tables.append(table("trials of a grid", TRIALS, [_planned(count, folder) for count in TRIALS]))
        tell(tables[-1])
    head = (
        f"{os.cpu_count()} cores ({platform.machine()}), one thread per trial, empty cache. Written by "
        "`python -m benchmarks.performance.cost_growth --write`."
    )
    if keep:
        docs_blocks.put("cost growth", "\n\n".join([head, *tables]), docs_blocks.PERFORMANCE)


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """b in seconds = a * size^b, fitted by least squares on the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def table(heading: str, sizes: Sequence[int], seconds: Sequence[Mapping[str, float]]) -> str:
    """Seconds with one row per size and one column per stage, and the exponents as the last row (Markdown)."""
    stages = [*seconds[0]]
    rows = [[f"{size:,}", *(f"{of[stage]:.3f}" for stage in stages)] for size, of in zip(sizes, seconds, strict=True)]
    rows.append(["exponent", *(f"{exponent(sizes, [of[stage] for of in seconds]):z.2f}" for stage in stages)])
    lines = [[heading, *stages], ["--:"] * (len(stages) + 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _fastest(sizes: Sizes, folder: Path, repeats: int) -> dict[str, float]:
    trials = [_stages(sizes, folder / str(number), number) for number in range(repeats)]
    return {stage: min(trial[stage] for trial in trials) for stage in trials[0]}


def _stages(sizes: Sizes, folder: Path, seed: int) -> dict[str, float]:
    """Seconds of each stage of one trial, and of all together. Each seed has different texts, so that nothing is cached."""
    fields = make(sizes, folder, seed)
    laps = dict(run_trial(parse_trial(fields), Places(cache=folder / "cache", device="cpu")).seconds)
    return {**laps, "all": sum(laps.values())}


def _planned(count: int, folder: Path) -> dict[str, float]:
    """Seconds to read, resolve and plan a grid of `count` trials, and of the command's dry run."""
    config = folder / f"grid{count}.yaml"
    config.write_text(GRID.format(seeds=", ".join(map(str, range(count)))), encoding="utf-8")
    laps, clock = dict[str, float](), time.perf_counter
    started = clock()
    read = grid.load(config)
    laps["read"] = clock() - started
    started = clock()
    trials = resolve_all(read.trials)
    laps["resolve"] = clock() - started
    started = clock()
    make_plan(Request(config.stem, trials, read.analysis), f"sqlite:///{folder / 'none.db'}")
    laps["plan"] = clock() - started
    command = [sys.executable, "-m", "bias_transfer.sweep", str(config), "--dry-run"]
    started = clock()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    laps["--dry-run, the command"] = clock() - started
    return laps


if __name__ == "__main__":
    application(main)()
