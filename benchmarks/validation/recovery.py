"""python -m benchmarks.validation.recovery: coverage of the analysis' intervals and error rates of its tests.

Draws tables of measures from known models, applies the analysis' own functions to them, and writes docs/statistics.md with a
figure. The goals were fixed before the runs; nothing is tuned to meet them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bias_transfer.console import application, console, reporting, tell, user_errors
from bias_transfer.errors import UserError

GROUPS = (28, 50)


def main(
    draws: Annotated[int, typer.Option(min=10, help="Tables drawn per model and number of groups.")] = 2000,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The report; its figure is written next to it.")] = Path(
        "docs/statistics.md"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of all draws.")] = 20220522,
) -> None:
    """Measure bias, coverage, size and power of every estimand and method on tables drawn from known models.

    \b
    python -m benchmarks.validation.recovery                                    # takes a quarter of an hour on one core
    python -m benchmarks.validation.recovery --draws 100 --out /tmp/quick.md    # a quick look
    """
    with user_errors():
        if out.suffix != ".md":
            raise UserError(f"--out names the report, whose file name must end in .md (got {out}).")
        out.parent.mkdir(parents=True, exist_ok=True)
        missed = measure(draws, out, seed)
    console().print(f"Report: {out}", markup=False)
    for line in missed or ["Every default's coverage lies within 93 to 97 %."]:
        tell(f"- {line}")


def measure(draws: int, out: Path, seed: int) -> list[str]:
    """Draw the tables, count and write the report. Returns a line for each default that misses the goal."""
    from benchmarks.validation.recovery_methods import Key, Tally, corrections, run
    from benchmarks.validation.recovery_models import WORLDS
    from benchmarks.validation.recovery_nested import discrete
    from benchmarks.validation.recovery_nested import run as run_nested
    from benchmarks.validation.recovery_report import figure, missed, report, summary

    tallies: dict[Key, Tally] = {}
    with reporting() as progress:
        for groups in GROUPS:
            for world in WORLDS:
                tallies |= run(world.sized(groups), draws, seed, progress)
        tallies |= run_nested(draws, seed, progress)
        corrected = {}
        for number, groups in enumerate(GROUPS, start=1):
            corrected[groups] = corrections(groups, draws, seed)
            progress("corrections", number, len(GROUPS))
    frame = summary(tallies)
    out.write_text(report(frame, corrected, discrete(draws, seed), draws, seed, out.stem), encoding="utf-8")
    for kind in ("png", "svg"):
        metadata = {"Date": None} if kind == "svg" else None
        figure(frame).savefig(out.with_suffix(f".{kind}"), dpi=150, metadata=metadata)
    return missed(frame)


if __name__ == "__main__":
    application(main)()
