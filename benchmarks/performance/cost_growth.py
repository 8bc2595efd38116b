"""python -m benchmarks.cost_growth: how the cost of a trial and of a plan grows, with the exponent of each stage."""

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
from benchmarks.performance.growing import Sizes
from benchmarks.performance.growing import make
from bias_transfer.config import grid
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.spec import parse_trial
from bias_transfer.sweep.plan import Wanted
from bias_transfer.sweep.plan import make_plan
from bias_transfer.sweep.plan import resolve_all
from bias_transfer.pipeline import Places
from bias_transfer.pipeline import run_trial

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


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
"""Field of `Sizes` that grows -> (what it is, the sizes)."""

TRIALS = (100, 1_000, 10_000)

GRID = "defaults: {{task: wiki, data: synthetic, model: tiny}}\ngrid:\n  - seed: [{seeds}]\n"


@app.command(context_settings={"max_content_width": 110})
def main(
    repeats: Annotated[int, typer.Option(min=1, help="Trials of each size; the fastest of each stage counts.")] = 2,
    keep: Annotated[bool, typer.Option("--write", help="Put the tables into docs/performance.md.")] = False,
) -> None:
    """One trial at growing sizes, a stage a column, and the plan of growing grids; seconds, and the exponent of growth.

    \b
    python -m benchmarks.cost_growth --write      # about three minutes
    """
    logging.disable_progress_bar()
    with user_errors(), tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        _stages(Sizes(), folder / "first", 0)  # imports, and what a process does once
        _planned(1, folder)
        tables = []
        for name, (what, sizes) in AXES.items():
            found = [_fastest(one, folder / f"{name}-{number}", repeats) for number, one in enumerate(sizes)]
            tables.append(table(what, [int(getattr(one, name)) for one in sizes], found))
            tell(tables[-1] + "\n")
        tables.append(table("trials of a grid", TRIALS, [_planned(count, folder) for count in TRIALS]))
        tell(tables[-1])
    head = (
        f"{os.cpu_count()} cores ({platform.machine()}), one thread a trial, its cache empty. Written by "
        "`python -m benchmarks.cost_growth --write`."
    )
    if keep:
        docs_blocks.put("cost growth", "\n\n".join([head, *tables]), docs_blocks.PERFORMANCE)


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """b of seconds = a * size^b, by least squares on the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def table(what: str, sizes: Sequence[int], found: Sequence[Mapping[str, float]]) -> str:
    """A row a size, a column a stage, seconds; then the exponents."""
    stages = [*found[0]]
    rows = [[f"{size:,}", *(f"{one[stage]:.3f}" for stage in stages)] for size, one in zip(sizes, found, strict=True)]
    rows.append(["exponent", *(f"{exponent(sizes, [one[stage] for one in found]):z.2f}" for stage in stages)])
    lines = [[what, *stages], ["--:"] * (len(stages) + 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _fastest(sizes: Sizes, folder: Path, repeats: int) -> dict[str, float]:
    found = [_stages(sizes, folder / str(number), number) for number in range(repeats)]
    return {stage: min(one[stage] for one in found) for stage in found[0]}


def _stages(sizes: Sizes, folder: Path, seed: int) -> dict[str, float]:
    """Seconds of each stage of one trial, and of all. Each seed has texts of its own, so that nothing is found in memory."""
    fields = make(sizes, folder, seed)
    laps = dict(run_trial(parse_trial(fields), Places(cache=folder / "cache", device="cpu")).seconds)
    return {**laps, "all": sum(laps.values())}


def _planned(count: int, folder: Path) -> dict[str, float]:
    """Seconds to read, resolve and plan a grid of so many trials, and of a dry run as a command."""
    config = folder / f"grid{count}.yaml"
    config.write_text(GRID.format(seeds=", ".join(map(str, range(count)))), encoding="utf-8")
    laps, clock = dict[str, float](), time.perf_counter
    begun = clock()
    read = grid.load(config)
    laps["read"] = clock() - begun
    begun = clock()
    trials = resolve_all(read.trials)
    laps["resolve"] = clock() - begun
    begun = clock()
    make_plan(Wanted(config.stem, trials, read.analysis), f"sqlite:///{folder / 'none.db'}")
    laps["plan"] = clock() - begun
    command = [sys.executable, "-m", "bias_transfer.sweep", str(config), "--dry-run"]
    begun = clock()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    laps["--dry-run, the command"] = clock() - begun
    return laps


if __name__ == "__main__":
    app()
