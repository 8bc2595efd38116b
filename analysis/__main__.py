"""python -m analysis EXPERIMENT: from a sweep's runs to tables, coefficients, a figure and what they are too thin for."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bias_transfer.console import console, user_errors

if TYPE_CHECKING:  # pandas, statsmodels, matplotlib and MLflow are loaded late: --help and mistakes answer at once
    import pandas as pd

    from analysis.load import Runs

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

UTILITY = ("accuracy", "macro_f1", "roc_auc")
ESTIMANDS = {
    "A": "A, arm effect: paired by seed with the untouched arm",
    "B": "B, between groups of the untouched model: associational",
    "W": "W, displacement: within groups, over the arms",
    "size": "Size of bias: noise-free SD over groups",
}
UNITS = (
    "In the outcome's unit (ln FPR for fpr). B and W: x and z per SD of the untouched model, z_level per unit of share, "
    "z_log per log share. Clusters: groups (B, W) or paired seeds (A, size)."
)
NEUTRALISED = ("=", "+", "-", "@", "\t", "\r")
"""A text cell that begins so is run as a formula by spreadsheets: it gets a ' in front."""


@dataclass(frozen=True)
class Findings:
    """All that is written."""

    runs: Runs
    cells: list[pd.DataFrame]
    """On the primary outcome, and on the logit gap where that is saturated."""
    coefficients: pd.DataFrame
    limits: list[str]


@app.command(context_settings={"max_content_width": 110})
def main(
    experiment: Annotated[str, typer.Argument(help="An experiment's name: that of its config file.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write (default: results/EXPERIMENT).")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="RUN", help="The sweep's parent run, by id or name (default: the latest).")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(metavar="URI", help="The MLflow store (default: MLFLOW_TRACKING_URI, or mlflow.db here)."),
    ] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Analyse an unfinished sweep.")] = False,
) -> None:
    """Regress downstream bias on upstream and dataset bias over a sweep's runs in MLflow.

    \b
    python -m analysis wiki_small
    python -m analysis wiki_small --out report --tracking-uri sqlite:///mlflow.db
    """
    with user_errors():
        findings = analyse(experiment, sweep, tracking_uri, allow_missing)
        folder = out or Path("results") / experiment
        written = write(findings, folder)
        show(findings, folder, written)


def analyse(experiment: str, sweep: str | None = None, uri: str | None = None, allow_missing: bool = False) -> Findings:
    """Load, regress and judge. Raises UserError as `load.load` does."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import pandas as pd

    from analysis import limits, load, regress

    runs = load.load(experiment, sweep, uri, allow_missing)
    cells = regress.outcomes(runs.table, runs.sweep.primary)
    coefficients = pd.concat([regress.estimate(own) for own in cells], ignore_index=True)
    return Findings(runs, cells, coefficients, limits.too_thin(runs.table, cells[0], runs.missing))


def write(findings: Findings, folder: Path) -> list[Path]:
    """Write all files aside, then move them into `folder`; what else lies there stays. Raises UserError."""
    from bias_transfer.spec import UserError

    try:
        base = folder if folder.exists() else folder.parent
        base.mkdir(parents=True, exist_ok=True)
        with _aside(base / f".analysis-{os.getpid()}") as aside:
            _write(findings, aside)
            folder.mkdir(exist_ok=True)
            return [path.replace(folder / path.name) for path in sorted(aside.iterdir())]
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}. Give another folder by --out.") from None


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(findings: Findings, folder: Path) -> None:
    import pandas as pd

    table = findings.runs.table
    table.to_parquet(folder / "measures.parquet")
    frames = {"measures": table, "cells": pd.concat(findings.cells), "coefficients": findings.coefficients}
    for name, frame in frames.items():
        guarded(frame).to_csv(folder / f"{name}.csv", index=False)
    (folder / "summary.md").write_text(summary(findings, _figures(findings, folder)), encoding="utf-8")


def guarded(frame: pd.DataFrame) -> pd.DataFrame:
    """Text cells that a spreadsheet would run as a formula, made harmless; numbers are left alone."""
    return frame.assign(
        **{name: frame[name].map(_guard) for name in frame.columns if frame[name].dtype.kind not in "biuf"}
    )


def _guard(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(NEUTRALISED) else value


def _figures(findings: Findings, folder: Path) -> dict[str, str]:
    """Draw one figure a study and outcome. Returns name -> caption."""
    from analysis import figures

    captions = dict[str, str]()
    for cells in findings.cells:
        for study, own in cells.groupby("study", sort=False):
            name = f"figure_{len(captions) + 1}" if captions else "figure"
            chosen = findings.coefficients[findings.coefficients["study"] == study]
            figures.save(figures.transfer(own, chosen), folder, name)
            captions[name] = figures.caption(own, chosen)
    return captions


def summary(findings: Findings, captions: dict[str, str]) -> str:
    """Markdown: findings first, then limits, figures and tables."""
    sweep, shown = findings.runs.sweep, findings.coefficients
    done = len(sweep.trials) - len(findings.runs.missing)
    lines = [
        f"# {sweep.experiment}",
        f"Sweep {sweep.name} ({sweep.run_id}): {done} of {len(sweep.trials)} trials.",
        "## Findings",
    ]
    for estimand, title in ESTIMANDS.items():
        own = shown[shown["estimand"] == estimand]
        said = [f"- {_where(row, shown)}{_said(row)}" for row in own.to_dict("records")]
        lines += [f"### {title}", "\n".join(said) or "Nothing to estimate."]
    lines += ["## What the data are too thin for", "\n".join(f"- {text}" for text in findings.limits)]
    for name, caption in captions.items():
        lines += [f"![Downstream against upstream bias, and coefficients]({name}.png)", f"*{caption}*"]
    lines += ["## Utility, mean over seeds", _markdown(utility(findings.runs.table))]
    return "\n\n".join(lines) + "\n"


def _where(row: Mapping[Any, Any], coefficients: pd.DataFrame) -> str:
    """Study and outcome of a row, if there are several."""
    several = len(coefficients[["study", "outcome"]].drop_duplicates()) > 1
    return f"{row['study']}, {row['outcome']}: " if several else ""


def _said(row: Mapping[Any, Any]) -> str:
    """The sentence of a row, or its number, or why there is none."""
    if row["sentence"]:
        return str(row["sentence"])
    number = f" {row['coefficient']:.3g} {row['unit']}" if row["coefficient"] == row["coefficient"] else " no number"
    return f"{row['term']}:{number} ({row['reason']})."


def utility(table: pd.DataFrame) -> pd.DataFrame:
    """study, arm, accuracy, macro_f1, roc_auc: means over seeds, as measured on the test set."""
    own = table[(table["stage"] == "utility") & table["metric"].isin(UTILITY)]
    return own.pivot_table(index=["study", "arm"], columns="metric", values="value", sort=False).reset_index()


def _markdown(frame: pd.DataFrame) -> str:
    cells = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in frame.to_numpy().tolist()
    ]
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *cells]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def show(findings: Findings, folder: Path, written: list[Path]) -> None:
    """Print the coefficients, what they say, what they are too thin for, and where everything lies."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    terminal, first = console(), str(findings.cells[0]["outcome"].iloc[0])
    for (study, outcome), own in findings.coefficients.groupby(["study", "outcome"], sort=False):
        rank = "primary" if outcome == first else f"exploratory: {first} is saturated"
        table = Table(title=f"{study}: {outcome} ({rank})", title_justify="left", box=SIMPLE_HEAD, caption=UNITS)
        for column in ("", "term", "coefficient", "95 % interval", "n", "clusters"):
            table.add_column(column, justify="right" if column in ("coefficient", "n", "clusters") else "left")
        for row in own.to_dict("records"):
            table.add_row(str(row["estimand"]), str(row["term"]), *_numbers(row))
        terminal.print(table)
    for heading, lines in {
        "What they say": [
            _where(row, findings.coefficients) + row["sentence"]
            for row in findings.coefficients.to_dict("records")
            if row["sentence"]
        ],
        "Too thin for": findings.limits,
        f"Written to {folder}": [", ".join(path.name for path in written)],
        "Next": [
            f"read {folder / 'summary.md'}",
            "compare the runs: mlflow ui (with --backend-store-uri for another store)",
        ],
    }.items():
        terminal.print(f"\n{heading}", style="bold", markup=False)
        for line in lines:
            terminal.print(f"- {line}", markup=False, soft_wrap=True)


def _numbers(row: Mapping[Any, Any]) -> tuple[str, str, str, str]:
    """Coefficient, interval or why there is none, n, clusters."""
    known, bounded = row["coefficient"] == row["coefficient"], row["low"] == row["low"]
    interval = f"{row['low']:+.3f} to {row['high']:+.3f}" if bounded else str(row["reason"])
    return f"{row['coefficient']:+.3f}" if known else "", interval, str(row["n"] or ""), str(row["clusters"] or "")


if __name__ == "__main__":
    app()
