"""The second part of a report: tables, methods, missing data and scope."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analysis.data.cells import outcome_named
from analysis.data.runs import UNTOUCHED
from analysis.estimands.arm_effects import FEW_FOR_Q
from analysis.findings import Findings
from analysis.report import wording
from analysis.report.document import Block, Grid, Items, Section, Text
from analysis.report.limitations import few_examples
from bias_transfer.hashing import digest
from bias_transfer.spec import Trial

if TYPE_CHECKING:
    from bias_transfer.tracking.sweeps import Sweep

LISTED = 12
"""Items of a long list that are shown; the file next to the report has them all."""

ROWS = 4 * LISTED
"""Rows of a long table that are shown."""


def tables(findings: Findings) -> Iterable[Section]:
    """The numbers from which the sentences are made."""
    frames, rows = findings.frames, findings.coefficients
    numbers = ["study", "outcome", "estimand", "term", "coefficient", "low", "high", "unit"]
    tests = ["p", "p_permutation", "p_adjusted", "n", "clusters"]
    estimates = rows[rows["estimand"].isin(["A", "B", "W"])]
    yield Section("Coefficients", [Grid(estimates[[*numbers, *tests]], COEFFICIENTS)], level=3)
    intervals = ["low", "high", "crv1_low", "crv1_high", "crv3_low", "crv3_high"]
    regressed = rows[rows["estimand"].isin(["B", "W"]) & rows["coefficient"].notna()]
    columns = ["study", "estimand", "term", "coefficient", *intervals]
    yield Section("Intervals by other standard errors", [Grid(regressed[columns], ERRORS)], level=3)
    for name, (title, shown, caption) in FRAMES.items():
        frame = frames[name]
        if len(frame):
            more = f" The first {ROWS} of {len(frame)} rows; all are in {name}.csv." if len(frame) > ROWS else ""
            table = frame[[column for column in shown if column in frame]].head(ROWS)
            yield Section(title, [Grid(table, caption + more)], level=3)
    yield Section("Per-group effects", _per_group(frames["group_effects"]), level=3)


COEFFICIENTS = (
    "In the outcome's unit (ln FPR for fpr): B and W per SD of the untouched model (z_level per unit of share, z_log per log "
    "share; x | plain: B without the covariates of the groups' names), A per arm. low, high: 95 %, wild cluster bootstrap by "
    "group (B, W) or t (A) over models or, with one model, over its paired seeds (for this checkpoint). "
    "p_permutation: over groups (B, W) or signs of models or seeds (A). p_adjusted: Holm over the arms. clusters: groups "
    "(B, W), models or, with one model, paired seeds (A). TPR gaps are differences of shares: .01 is a percentage point."
)
ERRORS = "95 % intervals by the default method (low, high: wild cluster bootstrap), and by CRV1 and CRV3, both with t."
FRAMES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "utility": (
        "Utility", ("study", "arm", "metric", "value", "difference", "low", "high", "seeds", "models"),
        "Mean on the test set, and difference from the untouched arm, paired by seed, with its 95 % interval: t over models "
        "or, with one model, over its seeds (for this checkpoint).",
    ),
    "spreads": (
        "Spread of bias over groups", ("study", "outcome", "arm", "spread", "lowest", "highest", "groups", "seeds"),
        "SD and range over groups of the mean over seeds, including noise; the size of bias is the part that seeds share.",
    ),
    "power": (
        "Statistical power", ("study", "outcome", "arm", "seeds", "models", "spread", "detectable_sd", "detectable", "unit"),
        "Effect found at 80 % power by a two-sided paired t test at 5 % over models or, with one model, over its seeds: in SD "
        "of the paired differences and in the unit.",
    ),
    "displacements": (
        "Displacement of upstream bias", ("study", "arm", "displacement", "low", "high", "groups", "seeds", "moved"),
        "Root mean square over groups of the change of x, in SD of the untouched model; 95 % interval over groups.",
    ),
    "per_template": (
        "One fit per upstream template", ("study", "outcome", "template", "coefficient", "low", "high", "p", "n"),
        "B's coefficient of x from one template at a time, per SD of the mean over templates; 95 %, wild cluster bootstrap.",
    ),
    "inflation": (
        "Collinearity of x and z", ("study", "outcome", "estimand", "correlation", "inflation", "groups"),
        "Correlation of x and z over groups (W: group and trial effects removed), and variance inflation of x, 1/(1 - R^2), by "
        "z and, in B, the covariates of the groups' names.",
    ),
    "placebo": (
        "Placebo of B", ("study", "outcome", "term", "coefficient", "low", "high", "p", "n", "clusters", "unit", "method"),
        "B's main fit of each model's outcome on the other models' x, and on its own; per SD. n: slopes; clusters: models.",
    ),
    "evaluation": (
        "Evaluation sets", ("study", "metric", "arm", "group", "value", "low", "high", "n", "difference", "q", "seeds"),
        "Each rate and AUC per group and functionality (empty: the whole set): mean with its 95 % interval, t over models or, "
        "with one model, over its seeds (for this checkpoint and these examples); difference from the untouched arm, paired by "
        "seed. n: examples. Exploratory.",
    ),
    "reliability": ("Reliability of x", ("study", "reliability"), "Cronbach's alpha over upstream templates, untouched model."),
}  # fmt: skip
"""Frame -> title, columns, caption."""


def _per_group(frame: pd.DataFrame) -> list[Block]:
    if frame.empty or frame["q"].isna().all():
        return [Text(f"No per-group effects: they need an arm in addition to the untouched one, and {FEW_FOR_Q}.")]
    discoveries = frame[frame["q"] < 0.05]
    summary = (
        f"{len(discoveries)} of {len(frame)} effects of an arm on a group have q < .05 (Benjamini and Hochberg over each arm's "
        "groups). An effect that all groups share is part of each of them. Exploratory."
    )
    largest = discoveries.reindex(discoveries["coefficient"].abs().sort_values(ascending=False).index).head(LISTED)
    columns = ["study", "outcome", "arm", "group", "coefficient", "low", "high", "q", "seeds"]
    table = [Grid(largest[columns], f"The {len(largest)} largest of these; all are in group_effects.csv.")]
    return [Text(summary), *(table if len(largest) else [])]


SETTINGS = (
    "epochs", "batch_size", "learning_rate", "warmup", "weight_decay", "clip", "max_tokens", "precision", "threads",
)  # fmt: skip


def methods(findings: Findings) -> list[Block]:
    """Sweeps, arms, settings, digests, exclusions and margins; and what is from the paper and what is ours."""
    runs = findings.runs
    trial = runs.trials[0]
    ranges = {name: sorted({str(getattr(other, name)) for other in runs.trials}) for name in SETTINGS}
    data = sorted({f"{other.data} ({other.data_digest[:12]})" for other in runs.trials})
    models = sorted({f"{other.model} ({other.model_digest[:12]})" for other in runs.trials})
    arms = list(dict.fromkeys(runs.labels[other.id].arm for other in runs.trials))
    items = [
        *(f"Sweep {sweep.name}: run {sweep.run_id}, hash of its grid {grid_hash(sweep)}." for sweep in runs.sweeps),
        f"Arms: {'; '.join(arms)}. Untouched: {UNTOUCHED}.",
        f"Adaptations: {'; '.join(dict.fromkeys(other.adaptation for other in runs.trials))}.",
        f"Settings: {'; '.join(f'{name} {chr(44).join(values)}' for name, values in ranges.items())}. All are ours.",
        *_measure_options(runs.trials),
        f"Data, with the digest of their content: {'; '.join(data)}.",
        f"Models, with the digest of their content: {'; '.join(models)}.",
        *_declared(findings),
        *_excluded(findings),
        *_samples(findings.coefficients),
        wording.package_versions(findings.versions, len(runs.trials) - len(runs.missing)),
        *wording.machines(findings.frames["machines"]),
        *_margins(findings),
        f"A trial id is a hash of all fields and the numerics version; the first is {trial.id}.",
    ]
    return [Items(items), *[Text(text) for text in METHODS]]


def _declared(findings: Findings) -> list[str]:
    """The models that the plan declares to belong together, as far as trials have them."""
    declared, models = findings.runs.declared, {trial.model for trial in findings.runs.trials}
    seeds = [
        f"{name} stands for these checkpoints, which the plan declares to differ in their pre-training seed alone: "
        f"{', '.join(members)}."
        for name, members in declared.pretraining_seeds.items()
        if models.intersection(members)
    ]
    pairs = [
        f"{name}, as the plan declares: {'; '.join(f'{treated} against {other}' for treated, other in twins.items())}."
        for name, twins in declared.twins.items()
        if models.intersection(twins)
    ]
    return [*seeds, *pairs]


def _measure_options(trials: Sequence[Trial]) -> list[str]:
    given = {f"{key}={value}" for trial in trials for key, value in trial.options.items() if key.startswith("metric.")}
    return [f"Options of the measures: {', '.join(sorted(given))}."] if given else []


def grid_hash(sweep: Sweep) -> str:
    """A hash of the ids of all trials, and so of their fields, the content of data and models, and the numerics version."""
    return digest(sorted(trial.id for trial in sweep.trials))[:12]


def _margins(findings: Findings) -> list[str]:
    texts = list[str]()
    for row in findings.outcome_scales.to_dict("records"):
        study, outcome = row["study"], row["outcome"]
        stated = findings.plan.margins_of(row["task"], outcome)
        named = {"slopes": stated.slope_sd, "arms": stated.arm_sd}
        margins = ", ".join(f"{name} {'none' if value is None else f'{value:g} SD'}" for name, value in named.items())
        unit = outcome_named(outcome).unit
        origin = wording.MARGINS_FROM[findings.margins_from[study, outcome]]
        size = "unknown" if math.isnan(row["outcome_sd"]) else f"{row['outcome_sd']:.3g} {unit}"
        texts.append(
            f"{study}, {outcome}: margins of equivalence: {margins}; one SD, over groups of the untouched arm's "
            f"outcome without the noise of seeds, is {size}; {origin}."
        )
    return texts


def _excluded(findings: Findings) -> list[str]:
    texts = []
    for study, of_study in findings.cells[0].groupby("study", sort=False):
        thin = sorted(of_study.loc[of_study["thin"], "group"].unique())
        if thin:
            names = ", ".join(thin) if len(thin) <= LISTED else f"{len(thin)} groups"
            texts.append(f"{study}: left out of B and W because the fine-tuning set has too few examples: {names}.")
    return texts


def _samples(coefficients: pd.DataFrame) -> list[str]:
    """The method of the intervals of B and W, as it was applied: the number of samples depends on that of groups."""
    rows = coefficients[coefficients["estimand"].isin(["B", "W"]) & (coefficients["method"] != "")]
    applied = rows[["clusters", "method"]].drop_duplicates().sort_values("clusters")
    return [f"B and W with {row.clusters} groups: {row.method}." for row in applied.itertuples()]


METHODS = (
    "From the paper (Steed et al., ACL 2022): the question, the two tasks, measuring bias before and after fine-tuning, "
    "re-initialising, perturbing and de-biasing the model, scrubbing and re-balancing the data, and regressing downstream bias "
    "on upstream and dataset bias. Ours, because our sources do not give them: the three estimands and their intervals, "
    "training settings, upstream templates of WIKI, the sentiment scorer, doses, smoothing, thresholds and margins.",
    "B: one row per group, means over seeds within a model first. Its main fit holds the groups' names fixed: words, "
    "sub-tokens and log frequency in the pre-training text (for a checkpoint from elsewhere, in the fine-tuning text), as far "
    "as they vary; with fewer than 15 groups only the number of words, unless the config states a choice. W: group "
    "and trial effects. Both have a restricted wild cluster bootstrap by group and a permutation test over groups; A: t over "
    "models, each the mean of its paired seeds, or, with one model, t over its paired seeds, which holds for this checkpoint; "
    "draws of a random arm are crossed with seeds. docs/statistics.md gives the coverage of each. x and z are in SD over "
    "groups of the untouched model; rates enter as ln[(k + 1/2)/(n + 1/2)], for n of 100 or more.",
)


def missing(findings: Findings) -> list[Block]:
    """Unfinished trials, measures without a value, and warnings of the trials."""
    runs, table = findings.runs, findings.runs.table
    absent = [f"{trial.id} ({runs.labels[trial.id].name}) has not finished." for trial in runs.missing]
    empty = table[(table["n"] == 0) & (table["group"] != "")]
    counts = empty.groupby(["metric"], observed=True)["group"].nunique()
    # A metric's own value is pooled over templates; a single template or family of phrases may lack it all the same.
    pooled = set(empty.loc[empty["template"] == "", "metric"])
    gaps = [
        f"{metric}: missing (n = 0) for {wording.plural(count, 'group')} in some trial"
        f"{'' if metric in pooled else ', for single templates only'}."
        for metric, count in counts.items()
    ]
    few = [text for study in findings.caveats.studies for text in few_examples(study.few_examples, study.metric)]
    warnings = [wording.trial_warning(warning) for warning in findings.warnings]
    return [
        Items([*absent, *gaps, *few] or ["Nothing is missing."]),
        *([Items(warnings, "Warnings of the trials")] if warnings else []),
    ]


SCOPE = (
    "English only; the pronouns she and he only; only the groups that the task names.",
    "Templates show how a model behaves on made-up sentences, and their choice by itself can change a finding (Delobelle et "
    "al. 2022).",
    "Not measured: harms to other groups, what people do with a classifier's output, and harms of the text itself.",
    "One checkpoint does not justify a claim about pre-training as such; that takes several pre-training seeds.",
    "Synthetic data show what the platform can detect, not how real models behave.",
)
