"""From findings to a document: what was found, in sentences that the numbers license, then figures, tables and methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analysis.report.document import Block
from analysis.report.document import Document
from analysis.report.document import Grid
from analysis.report.document import Items
from analysis.report.document import Picture
from analysis.report.document import Section
from analysis.report.document import Text
from analysis.findings import Findings
from analysis.data.runs import OUTCOMES
from analysis.report.tables import LIMITS
from analysis.report.tables import methods
from analysis.report.tables import missing
from analysis.report.tables import tables

Captions = Mapping[str, tuple[str, str]]
"""A figure's stem -> its title and caption."""


def document(findings: Findings, captions: Captions) -> Document:
    """The report. captions: of the figures that were drawn, in their order."""
    runs = findings.runs
    names = " and ".join(sweep.experiment for sweep in runs.sweeps)
    done = len(runs.trials) - len(runs.missing)
    lead = (
        f"{done} of {len(runs.trials)} trials; tasks {', '.join(sorted({trial.task for trial in runs.trials}))}; models "
        f"{', '.join(sorted({trial.model for trial in runs.trials}))}; seeds {_seeds(findings)}. Primary outcome: "
        f"{'; '.join(_primary(findings))}."
    )
    sections = [
        Section("Findings", _summary(findings)),
        *_findings(findings),
        Section("Figures", [Picture(stem, *told) for stem, told in captions.items()]),
        Section("Tables", [Text("The same numbers, and all others, are in the files beside this report.")]),
        *tables(findings),
        Section("Methods", methods(findings)),
        Section("What the data are too thin for", [Items(findings.limits)]),
        Section("What is missing, and warnings", missing(findings)),
        Section("Limits", [Items(LIMITS)]),
    ]
    return Document(f"Bias transfer: {names}", lead, sections)


def _seeds(findings: Findings) -> str:
    return ", ".join(map(str, sorted({trial.seed for trial in findings.runs.trials})))


def _primary(findings: Findings) -> list[str]:
    return [
        f"{task}: {OUTCOMES[stages['downstream']].axis}" if stages["downstream"] in OUTCOMES else f"{task}: ?"
        for task, stages in findings.runs.primary.items()
    ]


def _summary(findings: Findings) -> list[Block]:
    """Where there are several studies: B's slope of each on one line."""
    own = findings.coefficients
    slopes = own[(own["estimand"] == "B") & own["term"].isin(["x", "z"])]
    said = [
        "Three estimands are kept apart. A, arm effect: what an intervention did, paired by seed; only this is called an "
        "effect. B, between groups of the untouched model: an association. W, displacement within groups over the arms: "
        "causal only if the arms reach the outcome through upstream and dataset bias alone.",
    ]
    if findings.coefficients["study"].nunique() < 2:
        return [Text(text) for text in said]
    table = slopes.assign(interval=[_interval(row) for row in slopes.to_dict("records")])
    columns = ["study", "outcome", "term", "coefficient", "interval", "p", "clusters"]
    caption = (
        "B, between groups of the untouched model, per SD; 95 % intervals: wild cluster bootstrap; clusters: groups."
    )
    return [Text(said[0]), Grid(table[columns], caption)]


def _interval(row: Mapping[Any, Any]) -> str:
    return str(row["reason"]) if math.isnan(row["low"]) else f"{row['low']:+.3g} to {row['high']:+.3g}"


def _findings(findings: Findings) -> Iterable[Section]:
    for cells in findings.cells:
        for study, own in cells.groupby("study", sort=False):
            outcome = str(own["outcome"].iloc[0])
            rank = "primary outcome" if cells is findings.cells[0] else "exploratory: the primary outcome is saturated"
            yield Section(
                f"{study}: {OUTCOMES[outcome].label} ({rank})", _study(findings, str(study), outcome), level=3
            )


def _study(findings: Findings, study: str, outcome: str) -> list[Block]:
    rows = _of(findings.coefficients, study, outcome)
    found = {title: _lines(rows[rows["estimand"] == estimand]) for estimand, title in HEADINGS.items()}
    lacking = dict[str, str]()
    for name, title in ALSO.items():
        frame = _of(findings.frames[name], study, outcome)
        found[title] = [text for text in frame["sentence"] if text] if len(frame) else []
        if not found[title] and len(frame):
            lacking[title] = "; ".join(dict.fromkeys(filter(None, frame["reason"])))
    found["Is there no transfer?"] = _absence(findings, study, outcome)
    found["Not to be had from these runs"] = [f"{title}: {why}." for title, why in lacking.items() if why]
    return [Items(items, title) for title, items in found.items() if items]


def _lines(rows: pd.DataFrame) -> list[str]:
    return [text for row in rows.to_dict("records") if (text := _line(row))]


HEADINGS = {
    "B": "B, between groups of the untouched model (associational)",
    "W": "W, displacement within groups, over the arms",
    "A": "A, arm effects, paired by seed with the untouched arm",
    "size": "Size of bias: what seeds share of its spread over groups",
}
ALSO = {
    "size_changes": "Change of the size of bias",
    "arm_by_pretrained": "Does it take pre-training? (arm x pre-trained)",
    "pretrained_by_dataset": "Does a pre-trained model learn the data's bias more easily? (pre-trained x dataset bias)",
    "dose_slopes": "Dose and response",
    "comovement": "Co-movement of the changes in upstream and downstream bias (exploratory)",
    "influence": "How much single groups matter",
    "poster_replica": "The poster's own regression, for comparison",
}
"""Frame -> its heading among a study's findings."""


def _of(frame: pd.DataFrame, study: str, outcome: str) -> pd.DataFrame:
    own = frame[frame["study"] == study] if len(frame) else frame
    return own[own["outcome"] == outcome] if "outcome" in own else own


def _line(row: Mapping[Any, Any]) -> str:
    """A row's sentence with what goes with it, or why there is no number."""
    if not row["sentence"]:
        return f"{row['term']}: no number ({row['reason']})." if row["reason"] else ""
    more = [f"p = {row['p']:.3g}" if not math.isnan(row["p"]) else ""]
    if row["estimand"] in ("B", "W") and not math.isnan(row["p_permutation"]):
        more.append(f"permutation of groups p = {row['p_permutation']:.3g}")
    if row["estimand"] == "A" and not math.isnan(row["p_adjusted"]):
        more.append(f"Holm over the arms p = {row['p_adjusted']:.3g}")
    said = f"{row['sentence']} ({'; '.join(filter(None, more))})." if any(more) else str(row["sentence"])
    tested = row["estimand"] == "A" or (row["estimand"] in ("B", "W") and row["term"] in ("x", "z"))
    judged = f" {row['equivalence']}" if tested and not math.isnan(row["smallest_margin"]) else ""
    note = f" ({row['reason']})" if row["reason"] else ""
    return f"{said.rstrip('.')}.{judged}{note}"


def _absence(findings: Findings, study: str, outcome: str) -> list[str]:
    verdict = findings.verdicts.get((study, outcome))
    control = findings.controls.get(study)
    said = [verdict.sentence] if verdict else []
    return [*said, *([control.sentence] if control else []), f"Margins: {findings.margins_from}."]
