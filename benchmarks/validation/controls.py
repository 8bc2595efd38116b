"""python -m benchmarks.validation.controls: is transfer found where it was planted, and not found where it was not?

Reads the runs of tune_configs/controls.yaml (and of controls_negative.yaml, if it was run) and writes docs/controls.md with a
figure. Only controls that were fixed before the runs count; rows that were added later are exploratory.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from benchmarks.validation.control_checks import Check, crossed, groups, manipulation, positive
from benchmarks.validation.control_figure import figure
from benchmarks.validation.control_leaks import leaks
from benchmarks.validation.control_negative import negative, why
from bias_transfer.console import application, console, user_errors
from bias_transfer.tracking import store, sweeps


def main(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for controls.md and its figure.")] = Path("docs"),
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store, as for the sweep.")] = None,
) -> None:
    """Evaluate the runs of the controls and write docs/controls.md. The exit status is 1 if one that was fixed before the runs
    does not hold.

    \b
    bias-transfer sweep tune_configs/controls.yaml
    bias-transfer sweep tune_configs/controls_negative.yaml      # optional; takes as long again
    python -m benchmarks.validation.controls
    """
    with user_errors():
        rows = groups("controls", tracking_uri)
        nothing = _if_run("controls_negative", tracking_uri)
        checks = [*manipulation(rows), *crossed(rows), *positive(rows), *leaks(rows), *negative(nothing), *why(nothing)]
        out.mkdir(parents=True, exist_ok=True)
        for kind in ("png", "svg"):
            figure(rows, nothing).savefig(
                out / f"controls.{kind}", dpi=150, metadata={"Date": None} if kind == "svg" else None
            )
        (out / "controls.md").write_text(report(rows, checks, nothing), encoding="utf-8")
        for check in checks:
            verdict = ("holds" if check.holds else "DOES NOT HOLD") if check.fixed else "exploratory"
            console().print(f"{verdict:14} {check.control}: {check.result}", markup=False)
        console().print(f"{summary(checks).replace('**', '')} Report: {out / 'controls.md'}", markup=False)
    raise typer.Exit(int(bool(failed(checks))))


def failed(checks: Iterable[Check]) -> list[Check]:
    """Those that were fixed before the runs and do not hold."""
    return [check for check in checks if check.fixed and not check.holds]


def summary(checks: Sequence[Check]) -> str:
    """How many of the controls that were fixed before the runs hold, and which do not. Exploratory rows do not count."""
    count = sum(check.fixed for check in checks)
    lacking = "; ".join(f"{check.control} ({check.result})" for check in failed(checks))
    holding = f"{count - len(failed(checks))} of the {count} controls that were fixed before the runs hold."
    return f"**What does not hold: {lacking}.** {holding}" if lacking else holding


def _if_run(experiment: str, uri: str | None) -> pd.DataFrame | None:
    """The rows of an experiment; None if it was not run or is not complete."""
    if store.connect(uri).get_experiment_by_name(experiment) is None:
        return None
    sweep = sweeps.read(experiment, uri=uri)
    return groups(experiment, uri) if len(sweep.runs) == len(sweep.trials) else None


def report(rows: pd.DataFrame, checks: Sequence[Check], nothing: pd.DataFrame | None) -> str:
    """The text of docs/controls.md."""
    fixed = [
        f"| {check.control} | {check.criterion} | {check.result} | {'holds' if check.holds else '**does not hold**'} |"
        for check in checks
        if check.fixed
    ]
    later = [f"| {check.control} | {check.criterion} | {check.result} |" for check in checks if not check.fixed]
    exploratory = "\n".join([EXPLORATORY, *later]) if later else ""
    trials = rows.groupby("task")["trial"].nunique().to_dict()
    absent = "" if nothing is not None else (
        "\n\nThe negative control was not run or is not complete: `bias-transfer sweep "
        "tune_configs/controls_negative.yaml`."
    )  # fmt: skip
    return TEXT.format(
        summary=textwrap.fill(summary(checks), 124), table="\n".join(fixed), exploratory=exploratory,
        wiki=trials.get("wiki", 0), bios=trials.get("bios", 0), absent=absent,
    )  # fmt: skip


EXPLORATORY = """
## Exploratory rows

These were added after results had been seen. They separate the causes of a result; they count neither as passed nor as failed,
and their criteria are only named for orientation.

| row | criterion | result |
| --- | --- | --- |"""


TEXT = """# Controls: transfer is found where it was planted, and not where it was not

Written by `python -m benchmarks.validation.controls` from {wiki} trials of WIKI and {bios} of BIOS
(`tune_configs/controls.yaml`), on synthetic data.

{summary}{absent}

Two biases are planted, each evenly spaced over the 50 terms: the share of negative sentences about a term in the pre-training
text (x), and the share of toxic comments among those that mention the term (z). Probe templates, the predicates that carry x,
and the comments share no content word except "know". Sentences that mention no term link the predicates to the insults;
without this link nothing could transfer. Slopes are regressions over groups of the mean over four pre-trained models on the
planted order (-1 to 1). Intervals are 95 % intervals (OLS, HC3, t).

## Controls that were fixed before the runs

| control | criterion | result | |
| --- | --- | --- | --- |
{table}
{exploratory}

## What they show

![Slopes and groups of the controls](controls.png)

Where the positive controls hold, an association from pre-training that the fine-tuning set never mentions reaches the
classifier, for this small model and these settings. Where the 2 x 2 holds, such an association is distinguished from one in the
fine-tuning set. The controls say nothing about the size of such effects in real models, in which the link between associations
and the task is unknown.

The first design had one pre-trained model per dose (with three fine-tuning seeds) and half as many comments in the 2 x 2.
Three of its 20 checks did not hold: the slope at dose 1/2 (+.262, 95 % .109 to .416) was larger than at dose 1 (+.194, .124 to
.263; this concerns two checks), and with both biases planted on correlated orders the slope on z was +.024 (-.037 to +.086).
Pre-trained models differ in how much they transfer (the permuted plant, also at dose 1, had +.371), which fine-tuning seeds do
not show; and 12 comments per term are few. Each dose therefore has four pre-trained models now, and each term of the 2 x 2 is
mentioned 24 times. With two models per cell of the 2 x 2, one check of 20 did not hold (x planted, no z: +.052, -.041 to
+.146), so these cells have four as well. The checks were the same throughout.

Models learn associations even if none is planted, and carry them over. A slope on a world's *own* x is therefore no false
positive, although the criterion of the first runs took it for one (near 5 % of 20 worlds; 9 and 10 rejected). The control is
judged on a placebo instead: a slope on the x of another world, which no classifier of this world has seen, with the number of
words of a term held fixed. That criterion was written after the first runs and before those of this page. Pairs share worlds
in both roles, so intervals are a jackknife that deletes a world in both. Without the number of words the placebo fails: terms
of two words stand out in x as well as in the outcome, whatever is planted. A slope on measured x says that this model's
associations transfer, never where they come from. `bias-transfer analyse` holds the number of words, the sub-tokens and the
frequency of a group's name fixed in B's main fit, and shows a placebo of its own wherever several pre-training seeds are at
hand.

The same 42 trials were repeated on another machine (25 November 2026, in one start, 21 minutes on two cores): 19 of the 20
checks without the negative control held. Equal trials give equal bits only on the same kind of machine, since pre-training with
different rounding gives different models. The correlations of planted and measured x were .938, .950, .946, .937, .972, .957,
.959 and .898, of which the last does not meet the criterion: that model's terms of two words all score low (mean residual -1.75
SD; without them r = .922). The slopes at dose 0, 1/2 and 1 were -.041, +.011 and +.098 logits, +.474 with the permuted plant,
and +.138 on x (.022 to .255) where only x was planted.
"""


if __name__ == "__main__":
    application(main)()
