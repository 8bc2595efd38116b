"""From findings to a document: what was found, in sentences that the numbers license, then figures, tables and methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.document import Block, Document, Grid, Items, Picture, Section, Text
from analysis.findings import Findings
from analysis.load import OUTCOMES, UNTOUCHED
from bias_transfer.spec import digest

if TYPE_CHECKING:
    from bias_transfer.tracking import Sweep

Captions = Mapping[str, tuple[str, str]]
"""A figure's stem -> its title and caption."""

SHOWN_TERMS = ("x", "z", "z_level", "z_log", "x - z")
LISTED = 12
"""So many rows of a long table are shown; the file beside the report has them all."""


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
        *_tables(findings),
        Section("Methods", _methods(findings)),
        Section("What the data are too thin for", [Items(findings.limits)]),
        Section("What is missing, and warnings", _missing(findings)),
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
    said = f"{row['sentence']} {_capital('; '.join(filter(None, more)))}" if any(more) else str(row["sentence"])
    tested = row["estimand"] == "A" or (row["estimand"] in ("B", "W") and row["term"] in ("x", "z"))
    judged = f" {row['equivalence']}" if tested and not math.isnan(row["smallest_margin"]) else ""
    note = f" ({row['reason']})" if row["reason"] else ""
    return f"{said.rstrip('.')}.{judged}{note}"


def _capital(text: str) -> str:
    return f"({text})." if text else ""


def _absence(findings: Findings, study: str, outcome: str) -> list[str]:
    verdict = findings.verdicts.get((study, outcome))
    control = findings.controls.get(study)
    said = [verdict.sentence] if verdict else []
    return [*said, *([control.sentence] if control else []), f"Margins: {findings.margins_from}."]


def _tables(findings: Findings) -> Iterable[Section]:
    frames, rows = findings.frames, findings.coefficients
    numbers = ["study", "outcome", "estimand", "term", "coefficient", "low", "high", "p", "p_permutation", "p_adjusted"]
    own = rows[rows["estimand"].isin(["A", "B", "W"])]
    yield Section("Coefficients", [Grid(own[[*numbers, "n", "clusters", "unit"]], COEFFICIENTS)], level=3)
    errors = [
        "study",
        "estimand",
        "term",
        "coefficient",
        "low",
        "high",
        "crv1_low",
        "crv1_high",
        "crv3_low",
        "crv3_high",
    ]
    regressed = rows[rows["estimand"].isin(["B", "W"]) & rows["coefficient"].notna()]
    yield Section("The same by other standard errors", [Grid(regressed[errors], ERRORS)], level=3)
    for name, (title, columns, caption) in SHOWN_FRAMES.items():
        frame = frames[name]
        if len(frame):
            shown = frame[[column for column in columns if column in frame]]
            cut = (
                ""
                if len(shown) <= 4 * LISTED
                else f" The first {4 * LISTED} of {len(shown)} rows; all are in {name}.csv."
            )
            yield Section(title, [Grid(shown.head(4 * LISTED), caption + cut)], level=3)
    yield Section("Per-group effects", _per_group(frames["group_effects"]), level=3)


COEFFICIENTS = (
    "In the outcome's unit (ln FPR for fpr): B and W per SD of the untouched model (z_level per unit of share, z_log per log "
    "share), A per arm. low, high: 95 %, wild cluster bootstrap by group (B, W) or t over paired seeds (A). p_permutation: "
    "over groups (B, W) or signs of seeds (A). p_adjusted: Holm over the arms. clusters: groups (B, W) or paired seeds (A)."
)
ERRORS = "95 % intervals by the default (low, high: wild cluster bootstrap), by CRV1 and by CRV3, both with t."
SHOWN_FRAMES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "utility": (
        "Utility", ("study", "arm", "metric", "value", "difference", "low", "high", "seeds"),
        "Mean over seeds on the test set; difference from the untouched arm, paired by seed, with its 95 % interval (t).",
    ),
    "spreads": (
        "Spread of bias over groups", ("study", "outcome", "arm", "spread", "lowest", "highest", "groups", "seeds"),
        "SD and range over groups of the mean over seeds, noise and all; the size of bias is the part that seeds share.",
    ),
    "power": (
        "What the seeds can see", ("study", "outcome", "arm", "seeds", "spread", "detectable_sd", "detectable", "unit"),
        "Effect found at 80 % power by a two-sided paired t test at 5 %, in SD of the paired differences and in the unit.",
    ),
    "displacements": (
        "Did x move?", ("study", "arm", "displacement", "low", "high", "groups", "seeds", "moved"),
        "Root mean square over groups of the change of x, in SD of the untouched model; 95 % interval over groups.",
    ),
    "per_template": (
        "One fit per upstream template", ("study", "outcome", "template", "coefficient", "low", "high", "p", "n"),
        "B's coefficient of x from one template at a time, per SD of the mean over templates; 95 %, wild cluster bootstrap.",
    ),
    "inflation": (
        "x and z together", ("study", "outcome", "estimand", "correlation", "inflation", "groups"),
        "Correlation of x and z over groups (W: beyond group and trial), and variance inflation 1/(1 - r^2).",
    ),
    "reliability": ("Reliability of x", ("study", "reliability"), "Cronbach's alpha over upstream templates, untouched model."),
}  # fmt: skip
"""Frame -> title, columns, caption."""


def _per_group(frame: pd.DataFrame) -> list[Block]:
    if frame.empty or frame["q"].isna().all():
        return [Text("No per-group effects: they take an arm beside the untouched one, and two paired seeds.")]
    found = frame[frame["q"] < 0.05]
    said = (
        f"{len(found)} of {len(frame)} effects of an arm on a group have q < .05 (Benjamini and Hochberg over each arm's "
        "groups). What an arm did to all groups alike is in each of them. Exploratory."
    )
    largest = found.reindex(found["coefficient"].abs().sort_values(ascending=False).index).head(LISTED)
    columns = ["study", "outcome", "arm", "group", "coefficient", "low", "high", "q", "seeds"]
    table = [Grid(largest[columns], f"The {len(largest)} largest of these; all are in group_effects.csv.")]
    return [Text(said), *(table if len(largest) else [])]


def _methods(findings: Findings) -> list[Block]:
    runs = findings.runs
    trial = runs.trials[0]
    settings = (
        "epochs",
        "batch_size",
        "learning_rate",
        "warmup",
        "weight_decay",
        "clip",
        "max_tokens",
        "precision",
        "threads",
    )
    ranges = {name: sorted({str(getattr(one, name)) for one in runs.trials}) for name in settings}
    data = sorted({f"{one.data} ({one.data_digest[:12]})" for one in runs.trials})
    models = sorted({f"{one.model} ({one.model_digest[:12]})" for one in runs.trials})
    arms = list(dict.fromkeys(one.arm for one in runs.trials))
    items = [
        *(f"Sweep {sweep.name}: run {sweep.run_id}, hash of its grid {grid_hash(sweep)}." for sweep in runs.sweeps),
        f"Arms: {'; '.join(arms)}. Untouched: {UNTOUCHED}.",
        f"Settings: {'; '.join(f'{name} {chr(44).join(values)}' for name, values in ranges.items())}. All are ours.",
        f"Data, with the digest of their content: {'; '.join(data)}.",
        f"Models, with the digest of their content: {'; '.join(models)}.",
        *_excluded(findings),
        f"Margins of equivalence: slope {_margin(findings.plan.margin_slope)} per SD; arms "
        f"{_margin(findings.plan.margin_arms)} of the untouched arm's size of bias; {findings.margins_from}.",
        f"Trial ids hash all fields with the numerics version; first: {trial.id}.",
    ]
    return [Items(items), *[Text(text) for text in METHODS]]


def grid_hash(sweep: Sweep) -> str:
    """Of all its trials, and so of every field of them, of the content of data and models, and of the numerics' version."""
    return digest(sorted(trial.id for trial in sweep.trials))[:12]


def _margin(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _excluded(findings: Findings) -> list[str]:
    said = []
    for study, own in findings.cells[0].groupby("study", sort=False):
        thin = sorted(own.loc[own["thin"], "group"].unique())
        if thin:
            names = ", ".join(thin) if len(thin) <= LISTED else f"{len(thin)} groups"
            said.append(f"{study}: left out of B and W for too few examples in the fine-tuning set: {names}.")
    return said


METHODS = (
    "From the paper (Steed et al., ACL 2022): the question, the two tasks, measuring bias before and after fine-tuning, "
    "re-initialising, perturbing and de-biasing the model, scrubbing and re-balancing the data, and regressing downstream bias "
    "on upstream and dataset bias. Ours, as the sources at hand do not give them: the three estimands and their intervals, "
    "training settings, upstream templates of WIKI, the sentiment scorer, doses, smoothing, thresholds and margins.",
    "B: one row a group, means over seeds. W: group and trial effects. Both with a restricted wild cluster bootstrap by group "
    "and, beside it, a permutation test over groups; A: t over paired seeds. docs/statistics.md has how well each covers. x "
    "and z are in SD over groups of the untouched model; rates enter as ln[(k + 1/2)/(n + 1/2)], for n of 100 or more.",
)


def _missing(findings: Findings) -> list[Block]:
    runs, warnings = findings.runs, findings.runs.table
    missing = [f"{trial.id} ({trial.name}) has not finished." for trial in runs.missing]
    empty = warnings[(warnings["n"] == 0) & (warnings["group"] != "")]
    counts = empty.groupby(["metric"], observed=True)["group"].nunique()
    said = [f"{metric}: missing (n = 0) for {count} groups in some trial." for metric, count in counts.items()]
    return [Items([*missing, *said] or ["Nothing is missing."])]


LIMITS = (
    "English only; she and he only; groups are those that the task names.",
    "Templates show what a model says of made-up sentences, and can change a finding by themselves (Delobelle et al. 2022).",
    "Harms that are not measured: what other groups meet, what people do with a classifier's answer, and harms of text itself.",
    "One checkpoint licenses no claim about pre-training as such: several pre-training seeds do.",
    "Synthetic data show what the platform can see, not what real models do.",
)
