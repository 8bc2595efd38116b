"""python -m benchmarks.recovery: do the analysis' intervals cover what is true, and its tests err as often as they say?

Draws measure tables from known models and applies the analysis' own functions to them. Writes docs/statistics.md with a figure.
What is asked was fixed before the runs; nothing is tuned to come out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bias_transfer.console import console
from bias_transfer.console import reporting
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.errors import UserError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

GROUPS = (28, 50)


@app.command(context_settings={"max_content_width": 110})
def main(
    draws: Annotated[int, typer.Option(min=10, help="Tables drawn from each model and number of groups.")] = 2000,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The report; its figure goes beside it.")] = Path(
        "docs/statistics.md"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 20220522,
) -> None:
    """Bias, coverage, size and power of every estimand and method, on tables drawn from known models.

    \b
    python -m benchmarks.recovery                                    # a quarter of an hour on one core
    python -m benchmarks.recovery --draws 100 --out /tmp/quick.md    # a look
    """
    with user_errors():
        if out.suffix != ".md":
            raise UserError(f"--out names the report, a file that ends in .md (got {out})")
        out.parent.mkdir(parents=True, exist_ok=True)
        missed = measure(draws, out, seed)
    console().print(f"Report: {out}", markup=False)
    for line in missed or ["Every default's coverage lies within 93 to 97 %."]:
        tell(f"- {line}")


def measure(draws: int, out: Path, seed: int) -> list[str]:
    """Draw, count and write. Returns the defaults that miss the goal, in words."""
    from benchmarks.validation.recovery_methods import Key
    from benchmarks.validation.recovery_methods import Tally
    from benchmarks.validation.recovery_methods import corrections
    from benchmarks.validation.recovery_methods import run
    from benchmarks.validation.recovery_models import WORLDS
    from benchmarks.validation.recovery_report import figure
    from benchmarks.validation.recovery_report import missed
    from benchmarks.validation.recovery_report import report
    from benchmarks.validation.recovery_report import summary

    tallies: dict[Key, Tally] = {}
    with reporting() as tell:
        for groups in GROUPS:
            for world in WORLDS:
                tallies |= run(world.sized(groups), draws, seed, tell)
        corrected = {}
        for number, groups in enumerate(GROUPS, start=1):
            corrected[groups] = corrections(groups, draws, seed)
            tell("corrections", number, len(GROUPS))
    frame = summary(tallies)
    out.write_text(report(frame, corrected, draws, seed, out.stem), encoding="utf-8")
    for kind in ("png", "svg"):
        metadata = {"Date": None} if kind == "svg" else None
        figure(frame).savefig(out.with_suffix(f".{kind}"), dpi=150, metadata=metadata)
    return missed(frame)


if __name__ == "__main__":
    app()
