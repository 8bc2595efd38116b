"""bias-transfer analyse EXPERIMENT: analyse the runs of a sweep, and write tables, figures and a report of the findings."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bias_transfer.console import application, console, tell, user_errors
from bias_transfer.errors import UserError
from bias_transfer.spec import MARGINS_FORM, AnalysisPlan, Margins, parse

if (
    TYPE_CHECKING
):  # pandas, statsmodels, matplotlib and MLflow are imported late, so that --help and errors are immediate
    from analysis.findings import Findings

UNITS = (
    "Coefficients are in the unit of the outcome (ln FPR for fpr). B and W: x and z per SD of the untouched model, z_level "
    "per unit of share, z_log per log share. Clusters: groups (B, W), models or, with one, seeds (A, size)."
)
PRINTED_FINDINGS = 12
"""Findings that are printed; the report contains all."""


def main(
    experiments: Annotated[
        list[str],
        typer.Argument(metavar="EXPERIMENT", help="Name of an experiment: that of its config file, without .yaml."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Output folder (default: results/EXPERIMENT).")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="RUN", help="Parent run of the sweep, by id or name (default: the latest).")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="The MLflow store (default: the variable MLFLOW_TRACKING_URI, or else mlflow.db in this folder).",
        ),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Analyse a sweep although trials are unfinished.")
    ] = False,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK.OUTCOME.NAME=SD",
            help="Equivalence margin, in SD of the untouched arm's outcome over groups. NAME is slope_sd or arm_sd. Repeatable "
            "(default: the config's, or none).",
        ),
    ] = None,
    margin_slope: Annotated[str | None, typer.Option(hidden=True)] = None,
    margin_arms: Annotated[str | None, typer.Option(hidden=True)] = None,
    positive_control: Annotated[
        str | None,
        typer.Option(
            metavar="EXPERIMENT", help="Experiment in which bias was planted or injected (default: the config's)."
        ),
    ] = None,
    pretraining_seeds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ID,ID,...",
            help="Checkpoints that differ in their pre-training seed alone: models of one study; repeatable (in addition to "
            "the config's).",
        ),
    ] = None,
    twins: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TREATED,UNTREATED",
            help="A model and its untreated twin, read as an upstream arm; NAME ends in the word twins; repeatable (in "
            "addition to the config's).",
        ),
    ] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Attach the report to the sweep's parent run in MLflow.")
    ] = False,
) -> None:
    """Analyse a sweep and write its report.

    Regresses downstream bias on upstream and dataset bias, and compares the arms. Several experiments are analysed together.

    \b
    bias-transfer analyse wiki_small
    bias-transfer analyse wiki_small --out report --tracking-uri sqlite:///mlflow.db
    bias-transfer analyse wiki_small --margin wiki.fpr.slope_sd=0.2 --positive-control controls
    bias-transfer analyse my_seeds --pretraining-seeds small=models/seed0,models/seed1,models/seed2
    """
    with user_errors():
        for name, value in (("--margin-slope", margin_slope), ("--margin-arms", margin_arms)):
            if value is not None:
                raise UserError(f"{name}: {MARGINS_FORM}")
        options = {
            "margins": _margins(margin or []),
            "positive_control": positive_control,
            "pretraining_seeds": dict(_models(pretraining_seeds or [], "--pretraining-seeds")),
            "twins": _twins(twins or []),
        }
        plan = parse(AnalysisPlan, {key: value for key, value in options.items() if value}, "--")
        folder = out or _default_folder("+".join(experiments))
        _silence_mlflow()
        from analysis.findings import analyse
        from analysis.report.write import write

        findings = analyse(experiments, sweep, tracking_uri, allow_missing, plan)
        written = write(findings, folder)
        show(findings, folder, written)
        if attach:
            _attach(findings, folder, tracking_uri)


def _margins(words: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Task -> outcome -> name -> SD, from TASK.OUTCOME.NAME=SD. A custom task's name may contain dots. Raises UserError."""
    margins: dict[str, dict[str, dict[str, float]]] = {}
    for word in words:
        key, _, value = word.rpartition("=")
        task, outcome, name = ["", "", *key.rsplit(".", 2)][-3:]
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (task and outcome and number > 0 and name in Margins.model_fields):
            raise UserError(
                f"--margin {word!r} is not TASK.OUTCOME.NAME=SD, as in wiki.fpr.slope_sd=0.2: {MARGINS_FORM}"
            )
        margins.setdefault(task, {}).setdefault(outcome, {})[name] = number
    return margins


def _models(words: list[str], option: str) -> list[tuple[str, list[str]]]:
    """(name, models) of each NAME=ID,ID,... Raises UserError."""
    declared = [(name, models.split(",")) for name, _, models in (word.partition("=") for word in words)]
    for word, (name, models) in zip(words, declared, strict=True):
        if not (name and len(models) > 1 and all(models)):
            raise UserError(f"{option} {word!r} is not of the form NAME=ID,ID with two models or more")
    return declared


def _twins(words: list[str]) -> dict[str, dict[str, str]]:
    """Name -> treated model -> untreated twin. Raises UserError."""
    twins: dict[str, dict[str, str]] = {}
    for name, models in _models(words, "--twins"):
        if len(models) != 2:
            raise UserError(f"--twins {name}: {len(models)} models. A pair is written NAME=TREATED,UNTREATED.")
        twins.setdefault(name, {})[models[0]] = models[1]
    return twins


def _default_folder(name: str) -> Path:
    """results/NAME. Raises UserError for a name that leads elsewhere: whoever can write to the store chooses the names."""
    if name in ("", "..") or Path(name).name != name:
        raise UserError(
            f"{name!r} cannot be used as the name of a folder in results/. Choose another one with --out FOLDER."
        )
    return Path("results") / name


def _silence_mlflow() -> None:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _attach(findings: Findings, folder: Path, uri: str | None) -> None:
    from analysis.report import answer
    from analysis.report import summaries as report_summaries
    from analysis.report.write import REPORT
    from bias_transfer.tracking import store, summaries, sweeps

    client, answers = store.connect(uri), answer.answers(findings)
    files = [folder / name for name in (REPORT, "report.md", "coefficients.csv")]
    files += sorted(folder.glob("*.png"))
    for sweep in findings.runs.sweeps:
        sweeps.attach(client, sweep.run_id, files, "report")
        summaries.describe(client, sweep.run_id, report_summaries.description(answers, f"report/{REPORT}"))
        if len(findings.runs.sweeps) == 1:
            summaries.write(client, sweep.experiment, sweep.run_id, report_summaries.summaries(findings))
        tell(f"Attached to run {sweep.run_id} in MLflow as report/{REPORT}.")


def show(findings: Findings, folder: Path, written: list[Path]) -> None:
    """Print the coefficients, the findings, the limitations, where the files are stored, and last the answer."""
    from analysis.report import answer, wording
    from analysis.report.limitations import limitations

    terminal = console()
    for (study, outcome), rows in findings.coefficients.groupby(["study", "outcome"], sort=False):
        rank = "primary" if outcome == findings.primary[str(study)] else "exploratory"
        terminal.print(_table(f"{study}: {outcome} ({rank})", rows.to_dict("records")))
    several = len(findings.coefficients[["study", "outcome"]].drop_duplicates()) > 1
    coefficients = findings.coefficients
    sentences = [
        f"{study}, {outcome}: {sentence}" if several else sentence
        for study, outcome, sentence in zip(
            coefficients["study"], coefficients["outcome"], wording.sentences("coefficients", coefficients), strict=True
        )
        if sentence
    ]
    left_out = len(sentences) - PRINTED_FINDINGS
    more = [f"... and {left_out} more in the report"] if left_out > 0 else []
    figures = sum(path.suffix == ".png" for path in written)
    for heading, lines in {
        "Findings": [*sentences[:PRINTED_FINDINGS], *more],
        "Evidence of no transfer": _absence(findings),
        "Limitations": limitations(findings.caveats),
        f"Files in {folder}": [
            f"report.html, report.md, {figures} figures (PNG and SVG), measures.parquet, and CSV tables"
        ],
        "Next steps": [
            f"open {folder / 'report.html'} in a browser",
            "compare the arms with mlflow ui (and --backend-store-uri for another store)",
        ],
    }.items():
        terminal.print(f"\n{heading}", style="bold", markup=False)
        for line in lines:
            terminal.print(f"- {line}", markup=False, soft_wrap=True)
    terminal.print(f"\n{answer.text(findings)}", markup=False, soft_wrap=True, end="")


def _absence(findings: Findings) -> list[str]:
    """Each verdict on "no transfer", with the test of equivalence and the smallest margin that would pass."""
    from analysis.report import wording

    rows = findings.coefficients
    slopes = rows[(rows["estimand"] == "B") & (rows["term"] == "x")]
    tests = dict(zip(zip(slopes["study"], slopes["outcome"], strict=True), wording.equivalences(slopes), strict=True))
    return [
        f"{study}, {outcome}: {wording.verdict(verdict)} {tests[study, outcome]}"
        for (study, outcome), verdict in findings.verdicts.items()
    ]


def _table(title: str, rows: list[dict[Any, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, caption=UNITS)
    for column in ("", "term", "coefficient", "95 % interval", "p", "n", "clusters"):
        table.add_column(column, justify="left" if column in ("", "term", "95 % interval") else "right")
    for row in rows:
        table.add_row(str(row["estimand"]), str(row["term"]), *_numbers(row))
    return table


def _numbers(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """Coefficient, interval (or the reason why there is none), p, n, clusters."""
    known, bounded, tested = (row[name] == row[name] for name in ("coefficient", "low", "p"))  # False for NaN
    interval = f"{row['low']:+.3f} to {row['high']:+.3f}" if bounded else str(row["reason"])
    sizes = str(row["n"] or ""), str(row["clusters"] or "")
    return f"{row['coefficient']:+.3f}" if known else "", interval, f"{row['p']:.3g}" if tested else "", *sizes


if __name__ == "__main__":
    application(main)()
