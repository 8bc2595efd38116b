"""The report as a document: findings in sentences that the numbers support, then figures, tables, methods and limitations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.cells import outcome_named
from analysis.estimands.ranking import RANKED, UTILITIES
from analysis.findings import Findings
from analysis.report import answer, wording
from analysis.report.document import (
    Answers,
    Block,
    Command,
    Document,
    Grid,
    Headline,
    Items,
    Picture,
    Section,
    Text,
    cell,
)
from analysis.report.limitations import limitations
from analysis.report.tables import SCOPE, methods, missing, tables

Captions = Mapping[str, tuple[str, str]]
"""Stem of a figure's files -> its title and caption."""


def document(findings: Findings, captions: Captions, charts: Sequence[Section] = ()) -> Document:
    """The report. captions: those of the figures that were drawn, in their order; charts: sections of interactive charts."""
    runs = findings.runs
    names = " and ".join(sweep.experiment for sweep in runs.sweeps)
    done = len(runs.trials) - len(runs.missing)
    lead = (
        f"{done} of {len(runs.trials)} trials have finished. "
        f"Tasks: {', '.join(sorted({trial.task for trial in runs.trials}))}. "
        f"Models: {', '.join(sorted({trial.model for trial in runs.trials}))}. Seeds: {_seeds(findings)}. Primary outcome: "
        f"{'; '.join(_primary(findings))}."
    )
    pictures = {stem: Picture(stem, *title_and_caption) for stem, title_and_caption in captions.items()}
    first = [picture for stem, picture in pictures.items() if stem.startswith(FIRST)]
    sections = [
        *charts,
        Section("Comparison of the arms", []),
        *_rankings(findings.frames["ranking"], findings.frames["dominance"]),
        Section("Figures for papers", [picture for picture in pictures.values() if picture not in first]),
        *_adaptations(findings.frames["adaptations"]),
        Section("Limitations", [Items(limitations(findings.caveats))]),
        Section("Missing data and warnings", missing(findings)),
        Section("Scope", [Items(SCOPE)]),
        Section("Methods", methods(findings)),
        Section("Statistical findings in full", _summary(findings)),
        *_findings(findings),
        Section(
            "Tables",
            [Text("All numbers, including those that are not shown here, are in the CSV files next to this report.")],
        ),
        *tables(findings),
    ]
    return Document(f"Bias transfer: {names}", lead, sections, list(_front(findings, first)))


FIRST = "answer"
"""The stems of the pictures on the first screen begin so."""


def _front(findings: Findings, pictures: Sequence[Picture]) -> Iterable[Block]:
    """The first screen: of each study the headline, the picture, the three answers, and what to do next."""
    answers = answer.answers(findings)
    if len(answers) > MOST_ANSWERS:
        frame = pd.DataFrame([{"study": each.study, "answer": each.headline} for each in answers])
        yield Grid(frame, "What each study found by its primary outcome.")
        return
    for number, each in enumerate(answers):
        yield Headline(each.headline if len(answers) == 1 else f"{each.study}: {each.headline}")
        yield Text(each.harm)
        yield from pictures[number : number + 1]
        yield Answers(each.lines)
        yield Command(each.next_step, each.command)


MOST_ANSWERS = 3
"""With more studies, the first screen is a table of their headlines."""


def _seeds(findings: Findings) -> str:
    return ", ".join(map(str, sorted({trial.seed for trial in findings.runs.trials})))


def _primary(findings: Findings) -> list[str]:
    return [f"{task}: {outcome_named(stages['downstream']).axis}" for task, stages in findings.runs.primary.items()]


ESTIMANDS = (
    "Upstream bias is called x, dataset bias z, and the outcome after fine-tuning y. An arm is named after its intervention on "
    "the model and the one on the data; none + none is the untouched model. Three estimands are kept apart. A, the effect of "
    "an arm: what its interventions changed, paired by seed; only this is called an effect. B, between groups of the untouched "
    "model: an association. W, displacement within groups across the arms: causal only if the arms act on the outcome through "
    "nothing but upstream and dataset bias."
)

REGRESSORS = {
    "x": "Upstream bias (x)",
    "z": "Dataset bias (z)",
    "x - z": "Upstream bias minus dataset bias (x - z)",
    "z_level": "Dataset bias in percentage points (z_level)",
    "z_log": "Dataset bias, relative (z_log)",
}
"""Term without an estimate -> what it stands for."""


def _summary(findings: Findings) -> list[Block]:
    """The three estimands and, where there are several studies, B's slopes in one table."""
    rows = findings.coefficients
    slopes = rows[(rows["estimand"] == "B") & rows["term"].isin(["x", "z"])]
    if rows["study"].nunique() < 2:
        return [Text(ESTIMANDS)]
    table = slopes.assign(interval=[_interval(row) for row in slopes.to_dict("records")])
    columns = ["study", "outcome", "term", "coefficient", "interval", "p", "clusters"]
    caption = (
        "B, between groups of the untouched model, per SD; 95 % intervals: wild cluster bootstrap; clusters: groups."
    )
    return [Text(ESTIMANDS), Grid(table[columns], caption)]


ADAPTATIONS = (
    "How steeply downstream bias follows upstream bias (slope) and how much harm there is (level) are two findings: one "
    "adaptation may pass the model's associations on as closely as another, at a fraction of the harm. Neither is read without "
    "the other. Both are those of the untouched model."
)


def _adaptations(frame: pd.DataFrame) -> list[Section]:
    """Slope and level of each adaptation, if the experiment has several."""
    if frame.empty:
        return []
    rows, shown = frame.to_dict("records"), dict[str, list[str]]()
    for quantity in ("slope", "size", "level"):
        shown[quantity] = [cell(row[quantity]) for row in rows]
        shown[f"{quantity}, 95 %"] = [_ends(row[f"{quantity}_low"], row[f"{quantity}_high"]) for row in rows]
    table = pd.concat(
        [frame[["adaptation", "study", "outcome"]], pd.DataFrame(shown), frame[["n_groups", "seeds"]]], axis=1
    )
    caption = (
        "slope: B's on upstream bias, in the outcome's unit per SD; size: of bias, in the same unit; level: mean over groups "
        "of the outcome as it is measured (FPR as a share). n_groups: groups of the level; seeds: trials."
    )
    sentences = [text for text in wording.sentences("adaptations", frame) if text]
    missing = [f"{row['adaptation']}, {row['study']}: {row['reason']}." for row in rows if row["reason"]]
    lists = [Items(sentences), *([Items(missing, "Missing")] if missing else [])]
    return [Section("Adaptations: slope and level", [Text(ADAPTATIONS), Grid(table, caption), *lists])]


def _ends(low: float, high: float) -> str:
    return "none" if math.isnan(low) else f"{low:+.3g} to {high:+.3g}"


def _interval(row: Mapping[Any, Any]) -> str:
    return str(row["reason"]) if math.isnan(row["low"]) else f"{row['low']:+.3g} to {row['high']:+.3g}"


def _findings(findings: Findings) -> Iterable[Section]:
    for cells in (*findings.cells, *findings.evaluated):
        for study, of_study in cells.groupby("study", sort=False):
            outcome = str(of_study["outcome"].iloc[0])
            rank = _rank(findings, cells)
            yield Section(
                f"{study}: {outcome_named(outcome).label} ({rank})", _study(findings, str(study), outcome), level=3
            )


def _rankings(ranking: pd.DataFrame, dominance: pd.DataFrame) -> Iterable[Section]:
    """The ranking of each study and outcome by its main utility."""
    chosen = ranking[ranking["main"].astype(bool)] if len(ranking) else ranking
    for (study, outcome), rows in chosen.groupby(["study", "outcome"], sort=False):
        pairs = dominance[(dominance["study"] == study) & (dominance["outcome"] == outcome)]
        yield Section(f"Ranking of the arms: {study}, {outcome}", _ranking(rows, pairs), level=3)


def _ranking(rows: pd.DataFrame, pairs: pd.DataFrame) -> list[Block]:
    ranked, utility = rows[rows["standing"] == RANKED], UTILITIES[str(rows["utility"].iloc[0])]
    table = pd.DataFrame([_ranked(row) for row in ranked.to_dict("records")])
    grid = [Grid(table, wording.RANKING_TABLE.format(utility=utility))] if len(table) else []
    certain = wording.sentences("dominance", pairs[pairs["established"].astype(bool)])
    lists = [
        Items(wording.sentences("ranking", ranked), "Ranked"),
        Items([*certain, wording.pairs_tested(pairs, len(certain))] if len(ranked) else [], "Dominance"),
        *(Items(_apart(rows[rows["standing"] == standing]), title) for standing, title in wording.APART.items()),
    ]
    return [Text(wording.RANKING), *grid, *(items for items in lists if items.items)]


def _apart(rows: pd.DataFrame) -> list[str]:
    """The sentence of each arm, and why a number is missing."""
    texts = zip(rows.to_dict("records"), wording.sentences("ranking", rows), strict=True)
    return [
        (text or f"{row['arm']}.") + (f" Missing: {row['reason']}." if row["reason"] else "") for row, text in texts
    ]


def _ranked(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the table of ranked arms."""
    lost = tuple(100 * row[name] for name in ("utility_lost", "utility_low", "utility_high"))
    return {
        "rank": int(row["rank"]), "layer": int(row["layer"]), "arm": row["arm"],
        "harm reduced": _estimate(row["harm_reduced"], row["harm_low"], row["harm_high"]), "p": row["harm_p_adjusted"],
        "utility lost": _estimate(*lost), "per point": wording.short_ratio(row), "dominated by": row["dominated_by"],
        "n": row["seeds"],
    }  # fmt: skip


def _estimate(value: float, low: float, high: float) -> str:
    return f"{value:.3g} ({_ends(low, high)})"


def _rank(findings: Findings, cells: pd.DataFrame) -> str:
    if cells is findings.cells[0]:
        return "primary outcome"
    return "exploratory: evaluation set" if any(cells is each for each in findings.evaluated) else SATURATED


SATURATED = "exploratory: the primary outcome is saturated or missing"


def _study(findings: Findings, study: str, outcome: str) -> list[Block]:
    coefficients = _of(findings.coefficients, study, outcome)
    lists = {title: _lines(coefficients[coefficients["estimand"] == estimand]) for estimand, title in HEADINGS.items()}
    reasons = dict[str, str]()
    for name, title in MORE_HEADINGS.items():
        frame = _of(findings.frames[name], study, outcome)
        lists[title] = [text for text in wording.sentences(name, frame) if text] if len(frame) else []
        if not lists[title] and len(frame):
            reasons[title] = "; ".join(dict.fromkeys(filter(None, frame["reason"])))
    lists["Evidence of no transfer"] = _absence(findings, study, outcome)
    lists["Not available from these runs"] = [f"{title}: {reason}." for title, reason in reasons.items() if reason]
    return [Text(outcome_named(outcome).meaning), *(Items(items, title) for title, items in lists.items() if items)]


def _lines(rows: pd.DataFrame) -> list[str]:
    texts = zip(
        rows.to_dict("records"), wording.sentences("coefficients", rows), wording.equivalences(rows), strict=True
    )
    return [text for row, sentence, equivalence in texts if (text := _line(row, sentence, equivalence))]


HEADINGS = {
    "B": "B, between groups of the untouched model (associational)",
    "W": "W, displacement within groups, over the arms",
    "A": "A, arm effects, paired by seed with the untouched arm",
    "size": "Size of bias: the part that seeds share",
}
MORE_HEADINGS = {
    "placebo": "Placebo of B (upstream bias of other pre-trained models)",
    "size_changes": "Change of the size of bias",
    "arm_by_pretrained": "Interaction of arm and pre-training: does an arm work only without it?",
    "pretrained_by_dataset": "Interaction of pre-training and dataset bias: does pre-training ease learning it?",
    "dose_slopes": "Dose-response",
    "comovement": "Co-movement of upstream and downstream bias (exploratory)",
    "influence": "Influence of single groups",
    "poster_replica": "The poster's regression, for comparison",
}
"""Frame -> its heading among a study's findings."""


def _of(frame: pd.DataFrame, study: str, outcome: str) -> pd.DataFrame:
    rows = frame[frame["study"] == study] if len(frame) else frame
    return rows[rows["outcome"] == outcome] if "outcome" in rows else rows


def _line(row: Mapping[Any, Any], sentence: str, equivalence: str) -> str:
    """A row's sentence with its p values and equivalence test, or the reason why there is no number."""
    if not sentence:
        return f"{REGRESSORS.get(row['term'], row['term'])}: no estimate ({row['reason']})." if row["reason"] else ""
    tests = [f"p = {row['p']:.3g}" if not math.isnan(row["p"]) else ""]
    if row["estimand"] in ("B", "W") and not math.isnan(row["p_permutation"]):
        tests.append(f"permutation of groups p = {row['p_permutation']:.3g}")
    if row["estimand"] == "A" and not math.isnan(row["p_adjusted"]):
        tests.append(f"Holm over the arms p = {row['p_adjusted']:.3g}")
    # The p values join the interval in its brackets, where the sentence ends with it.
    start, end = (sentence.removesuffix(")."), "; ") if sentence.endswith(").") else (sentence.removesuffix("."), " (")
    text = f"{start}{end}{'; '.join(filter(None, tests))})." if any(tests) else sentence
    tested = row["estimand"] == "A" or (row["estimand"] in ("B", "W") and row["term"] in ("x", "z"))
    margin = f" {equivalence}" if tested and not math.isnan(row["smallest_margin"]) else ""
    note = f" Note: {row['reason']}." if row["reason"] else ""
    return f"{text}{margin}{note}"


def _absence(findings: Findings, study: str, outcome: str) -> list[str]:
    verdict = findings.verdicts.get((study, outcome))
    control = findings.controls.get((study, outcome))
    if verdict is None and control is None:  # an evaluation set
        return []
    claim = [wording.verdict(verdict)] if verdict else []
    planted = [wording.positive_control(control)] if control else []
    return [*claim, *planted, f"Margins: {wording.MARGINS_FROM[findings.margins_from[study, outcome]]}."]
