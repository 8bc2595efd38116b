"""Everything that an analysis writes: tables, figures and the report, all of it or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from analysis.report import document
from analysis.figures import registry
from analysis.figures import transfer
from analysis.report import findings as report_findings
from analysis.figures.style import arm_style
from analysis.findings import Findings
from analysis.estimands.specification_curve import specifications
from bias_transfer.errors import UserError

NEUTRALISED = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A text cell that begins so is run as a formula by spreadsheets, of full width too in some languages: it gets a ' in front."""

MANY = 3
"""With more studies than this, each has the figures of `BRIEF` alone: a page of a hundred figures is not read."""

BRIEF = ("figure_4_coefficients", "transfer")

REPORT = "report.html"


def write(findings: Findings, folder: Path) -> list[Path]:
    """Write all files aside, then move them into `folder`; what else lies there stays. Raises UserError."""
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
    choices = specifications(findings.runs.table, findings.runs.primary)
    findings.runs.table.to_parquet(folder / "measures.parquet")
    tables = {
        "measures": findings.runs.table,
        "cells": pd.concat(findings.cells),
        "coefficients": findings.coefficients,
        "specifications": choices,
        **findings.frames,
    }
    for name, frame in tables.items():
        guarded(frame).to_csv(folder / f"{name}.csv", index=False)
    made = report_findings.document(findings, draw(findings, choices, folder))
    (folder / "report.md").write_text(document.markdown(made), encoding="utf-8")
    (folder / REPORT).write_text(document.html(made, document.drawings(folder, made)), encoding="utf-8")


def guarded(frame: pd.DataFrame) -> pd.DataFrame:
    """Text cells that a spreadsheet would run as a formula, made harmless; numbers are left alone."""
    return frame.assign(
        **{name: frame[name].map(_guard) for name in frame.columns if frame[name].dtype.kind not in "biuf"}
    )


def _guard(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(NEUTRALISED) else value


def draw(findings: Findings, choices: pd.DataFrame, folder: Path) -> dict[str, tuple[str, str]]:
    """Draw the figures of every study and outcome into the folder. Returns stem -> (title, caption), in their order."""
    styles = arm_style(findings.runs.table["arm"].unique())
    captions = dict[str, tuple[str, str]]()
    several = len(findings.coefficients[["study", "outcome"]].drop_duplicates()) > 1
    for cells in findings.cells:
        outcomes = {str(study): str(own["outcome"].iloc[0]) for study, own in cells.groupby("study", sort=False)}
        rows = findings.coefficients[findings.coefficients["outcome"] == findings.coefficients["study"].map(outcomes)]
        data = registry.Data(findings.runs.table, cells, rows, choices)
        for study, outcome in outcomes.items():
            for name, (entry, figure, caption) in registry.draw(data, study, styles).items():
                if len(outcomes) <= MANY or name in BRIEF:
                    stem = name if name not in captions else f"{name}_{len(captions) + 1}"
                    transfer.save(figure, folder, stem)
                    captions[stem] = (f"{entry.title}: {study}, {outcome}" if several else entry.title, caption)
    return captions
