"""What stands behind a report's findings: tables, methods, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from analysis.report.document import Block
from analysis.report.document import Grid
from analysis.report.document import Items
from analysis.report.document import Section
from analysis.report.document import Text
from analysis.findings import Findings
from analysis.data.runs import UNTOUCHED
from bias_transfer.hashing import digest

if TYPE_CHECKING:
    from bias_transfer.tracking.sweeps import Sweep

LISTED = 12
"""So many rows of a long table are shown; the file beside the report has them all."""


def tables(findings: Findings) -> Iterable[Section]:
    """The numbers behind the sentences."""
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
    "share; x | words: with the number of words of a group's name as a covariate), A per arm. low, high: 95 %, wild cluster "
    "bootstrap by group (B, W) or t over paired seeds (A). p_permutation: over groups (B, W) or signs of seeds (A). "
    "p_adjusted: Holm over the arms. clusters: groups (B, W) or paired seeds (A)."
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


def methods(findings: Findings) -> list[Block]:
    """Grid, n, exclusions, digests, and what is the paper's and what is ours."""
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


def missing(findings: Findings) -> list[Block]:
    """Trials that have not finished, cells without a value, and what the trials warned of."""
    runs, table = findings.runs, findings.runs.table
    absent = [f"{trial.id} ({trial.name}) has not finished." for trial in runs.missing]
    empty = table[(table["n"] == 0) & (table["group"] != "")]
    counts = empty.groupby(["metric"], observed=True)["group"].nunique()
    said = [f"{metric}: missing (n = 0) for {count} groups in some trial." for metric, count in counts.items()]
    warned = [Items(findings.warnings, "Warnings of the trials")] if findings.warnings else []
    return [Items([*absent, *said] or ["Nothing is missing."]), *warned]


LIMITS = (
    "English only; she and he only; groups are those that the task names.",
    "Templates show what a model says of made-up sentences, and can change a finding by themselves (Delobelle et al. 2022).",
    "Harms that are not measured: what other groups meet, what people do with a classifier's answer, and harms of text itself.",
    "One checkpoint licenses no claim about pre-training as such: several pre-training seeds do.",
    "Synthetic data show what the platform can see, not what real models do.",
)
