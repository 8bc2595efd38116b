"""python -m analysis EXPERIMENT: from a sweep's runs to tables, figures and a report of findings one can stand behind."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bias_transfer.console import console
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.spec import AnalysisPlan
from bias_transfer.errors import UserError
from bias_transfer.spec import parse

if TYPE_CHECKING:  # pandas, statsmodels, matplotlib and MLflow are loaded late: --help and mistakes answer at once
    from analysis.findings import Findings

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

UNITS = (
    "In the outcome's unit (ln FPR for fpr). B and W: x and z per SD of the untouched model, z_level per unit of share, "
    "z_log per log share. Clusters: groups (B, W, size) or paired seeds (A)."
)
TOLD = 12
"""So many sentences are printed; the report has all."""


@app.command(context_settings={"max_content_width": 110})
def main(
    experiments: Annotated[
        list[str], typer.Argument(metavar="EXPERIMENT ...", help="An experiment's name: that of its config file.")
    ],
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
    margin_slope: Annotated[
        float | None, typer.Option(help="Equivalence margin of slopes, per SD of x (default: the config's, or none).")
    ] = None,
    margin_arms: Annotated[
        float | None, typer.Option(help="Equivalence margin of arms, as a share of the untouched arm's size of bias.")
    ] = None,
    positive_control: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="Where transfer was planted (default: the config's).")
    ] = None,
    attach: Annotated[
        bool, typer.Option("--attach", help="Keep the report with the sweep's parent run in MLflow.")
    ] = False,
) -> None:
    """Regress downstream bias on upstream and dataset bias, compare the arms, and write a report.

    \b
    python -m analysis wiki_small
    python -m analysis wiki_small --out report --tracking-uri sqlite:///mlflow.db
    python -m analysis wiki_small --margin-slope 0.1 --positive-control controls
    """
    with user_errors():
        named = {"margin_slope": margin_slope, "margin_arms": margin_arms, "positive_control": positive_control}
        given = parse(AnalysisPlan, {key: value for key, value in named.items() if value is not None}, "--")
        folder = out or _folder("+".join(experiments))
        _quiet()
        from analysis.findings import analyse
        from analysis.report.write import write

        findings = analyse(experiments, sweep, tracking_uri, allow_missing, given)
        written = write(findings, folder)
        show(findings, folder, written)
        if attach:
            _attach(findings, folder, tracking_uri)


def _folder(name: str) -> Path:
    """Where the results of the experiments go, unless told. Raises UserError for names from a store that lead elsewhere."""
    if name in ("", "..") or Path(name).name != name:
        raise UserError(f"{name!r} cannot be the name of a folder under results. Give one by --out FOLDER.")
    return Path("results") / name


def _quiet() -> None:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _attach(findings: Findings, folder: Path, uri: str | None) -> None:
    from analysis.report.write import REPORT
    from bias_transfer.tracking import store
    from bias_transfer.tracking import sweeps

    client = store.connect(uri)
    files = [folder / name for name in (REPORT, "report.md", "coefficients.csv")]
    files += sorted(folder.glob("*.png"))
    for sweep in findings.runs.sweeps:
        sweeps.attach(client, sweep.run_id, files, "report")
        tell(f"Attached to run {sweep.run_id} in MLflow: report/{REPORT}")


def show(findings: Findings, folder: Path, written: list[Path]) -> None:
    """Print the coefficients, what they say, what they are too thin for, and where everything lies."""
    terminal = console()
    for (study, outcome), own in findings.coefficients.groupby(["study", "outcome"], sort=False):
        rank = "primary" if outcome == findings.primary[str(study)] else "exploratory"
        terminal.print(_table(f"{study}: {outcome} ({rank})", own.to_dict("records")))
    several = len(findings.coefficients[["study", "outcome"]].drop_duplicates()) > 1
    said = [
        (f"{row['study']}, {row['outcome']}: " if several else "") + row["sentence"]
        for row in findings.coefficients.to_dict("records")
        if row["sentence"]
    ]
    more = [f"... and {len(said) - TOLD} more in the report"] if len(said) > TOLD else []
    figures = sum(path.suffix == ".png" for path in written)
    for heading, lines in {
        "What they say": [*said[:TOLD], *more],
        "Is there no transfer?": [
            f"{study}, {outcome}: {one.sentence}" for (study, outcome), one in findings.verdicts.items()
        ],
        "Too thin for": findings.limits,
        f"Written to {folder}": [
            f"report.html, report.md, {figures} figures (PNG and SVG), measures.parquet, and CSV tables"
        ],
        "Next": [
            f"open {folder / 'report.html'} in a browser",
            "compare the runs: mlflow ui (with --backend-store-uri for another store)",
        ],
    }.items():
        terminal.print(f"\n{heading}", style="bold", markup=False)
        for line in lines:
            terminal.print(f"- {line}", markup=False, soft_wrap=True)


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
    """Coefficient, interval or why there is none, p, n, clusters."""
    known, bounded, tested = (row[name] == row[name] for name in ("coefficient", "low", "p"))
    interval = f"{row['low']:+.3f} to {row['high']:+.3f}" if bounded else str(row["reason"])
    sizes = str(row["n"] or ""), str(row["clusters"] or "")
    return f"{row['coefficient']:+.3f}" if known else "", interval, f"{row['p']:.3g}" if tested else "", *sizes


if __name__ == "__main__":
    app()
