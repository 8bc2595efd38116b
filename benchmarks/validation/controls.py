"""python -m benchmarks.controls: does the platform see transfer where it was planted, and none where none was?

Reads the runs of tune_configs/controls.yaml (and controls_negative.yaml, where it was run) and writes docs/controls.md with a
figure. What is asked of each control stands in the table beside what was found; nothing is tuned to come out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from benchmarks.validation.control_checks import Check
from benchmarks.validation.control_checks import crossed
from benchmarks.validation.control_checks import groups
from benchmarks.validation.control_checks import manipulation
from benchmarks.validation.control_checks import negative
from benchmarks.validation.control_checks import positive
from benchmarks.validation.control_figure import figure
from benchmarks.validation.control_leaks import leaks
from benchmarks.validation.control_negative import why
from bias_transfer.tracking import store
from bias_transfer.tracking import sweeps
from bias_transfer.console import console
from bias_transfer.console import user_errors

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(context_settings={"max_content_width": 110})
def main(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where controls.md and its figure go.")] = Path("docs"),
    tracking_uri: Annotated[str | None, typer.Option(help="The MLflow store, as for the sweep.")] = None,
) -> None:
    """Write docs/controls.md from the runs of the controls.

    \b
    python -m bias_transfer.sweep tune_configs/controls.yaml
    python -m bias_transfer.sweep tune_configs/controls_negative.yaml      # optional, and as long again
    python -m benchmarks.controls
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
        failed = [check for check in checks if not check.holds]
        for check in checks:
            console().print(
                f"{'holds' if check.holds else 'DOES NOT HOLD':14} {check.control}: {check.found}", markup=False
            )
        console().print(f"{len(checks) - len(failed)} of {len(checks)} controls hold. Report: {out / 'controls.md'}")
    raise typer.Exit(int(bool(failed)))


def _if_run(experiment: str, uri: str | None) -> pd.DataFrame | None:
    """None where it was not run, or not to its end."""
    if store.connect(uri).get_experiment_by_name(experiment) is None:
        return None
    found = sweeps.read(experiment, uri=uri)
    return groups(experiment, uri) if len(found.runs) == len(found.trials) else None


def report(rows: pd.DataFrame, checks: Iterable[Check], nothing: pd.DataFrame | None) -> str:
    """docs/controls.md."""
    lines = [
        f"| {one.control} | {one.asked} | {one.found} | {'holds' if one.holds else '**does not hold**'} |"
        for one in checks
    ]
    seeds = rows.groupby("task")["trial"].nunique().to_dict()
    absent = "" if nothing is not None else (
        "\n\nThe negative control was not run, or not to its end: `python -m bias_transfer.sweep "
        "tune_configs/controls_negative.yaml`."
    )  # fmt: skip
    return TEXT.format(table="\n".join(lines), wiki=seeds.get("wiki", 0), bios=seeds.get("bios", 0), absent=absent)


TEXT = """# Controls: the platform sees transfer where it was planted, and none where none was

Written by `python -m benchmarks.controls` from {wiki} trials of WIKI and {bios} of BIOS (`tune_configs/controls.yaml`), on
synthetic data. What is asked was fixed before the runs; a control that does not hold is shown as such.{absent}

Two biases are planted, each evenly spaced over the 50 terms: the share of negative sentences about a term in the text for
pre-training (x), and the share of toxic comments among those that name it (z). Probe templates, the predicates that carry
x, and the comments share no content word but "know"; sentences that name no term tie the predicates to the insults, without
which nothing could carry over. Slopes are of the mean over four pre-trained models on the planted order
(-1 to 1), over groups; intervals are 95 % (OLS, HC3, t).

| control | asked | found | |
| --- | --- | --- | --- |
{table}

![Slopes and groups of the controls](controls.png)

Where the positive controls hold, an association of pre-training that the fine-tuning set never mentions reaches the classifier
on this small model and these settings; where the 2 x 2 holds, it is told apart from one that stands in the fine-tuning set.
They say nothing of how large such effects are in real models, where the tie between associations and the task is unknown.

A first design had one pre-trained model for each dose (three fine-tuning seeds of it) and half the comments in the 2 x 2. Three
of its 20 checks did not hold: the slope at dose 1/2 (+.262, 95 % .109 to .416) was above that at dose 1 (+.194, .124 to .263;
both checks of it), and with both planted on correlated orders the slope on z was +.024 (-.037 to +.086). One pre-trained model
carries over more than the next (the permuted plant, dose 1 too, had +.371), which seeds of fine-tuning do not show; and 12
comments a term are few. So each dose has four pre-trained models now, and each term of the 2 x 2 is named 24 times. With
two models a cell in the 2 x 2 one check of 20 did not hold (x planted, no z: +.052, -.041 to +.146), and so these cells have
four as well. The checks are the same throughout.

Nothing planted is not nothing learned. In the 20 worlds of the negative control the regression on *measured* x rejects more
often than one time in twenty, and the rows "why" part the causes. On the order that was not planted it does not. On the x that
another world's model happened to learn it rejects too often until the number of words of a term is counted: terms of two words
stand out in x and in the outcome alike, whatever is planted. On its own x it still rejects, nearly always with a slope above
0: what a model learned by accident carries over as well. So a slope on measured x says that what this model has carries over,
not why it has it. `python -m analysis` has a fit with the number of words beside B's main one ("x | words").

The same 42 trials were run a second time, on another machine (25 November 2026, in one start, 21 minutes on two cores):
19 of the 20 checks without the negative control held. Equal trials give equal bits on one machine alone, and pre-training
makes other models of other roundings: correlations of planted and measured x were .938, .950, .946, .937, .972, .957,
.959 and .898, and the last does not hold. Its terms of two words score low together (mean residual -1.75 SD; without them
r = .922). The slopes at dose 0, 1/2 and 1 were -.041, +.011 and +.098 logits, +.474 where the plant was permuted, x +.138
(.022 to .255) where x alone was planted.
"""


if __name__ == "__main__":
    app()
