"""From measures to regressors and outcomes: one row per trial and group."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.data.names import COVARIATES, chosen, words
from analysis.data.runs import FIELDS, REPEATS, UNTOUCHED, plain
from bias_transfer.errors import UserError, unknown
from bias_transfer.spec import LEAST_MENTIONS, LEAST_PER_PRONOUN, Covariate

VISIBLE = {"she_share": "visible_she_share"}
"""Dataset metric that a scrub leaves as it is, since it counts examples -> the one that reads what their texts still show."""

LEAST_FOR_LOGS = 100
"""Phrases from which on the logarithm of a downstream rate is given (docs/science.md, "Downstream bias")."""


def log_rate(value: pd.Series, n: pd.Series) -> pd.Series:
    """ln[(k + 1/2)/(n + 1/2)] with k = value * n; NaN if n is less than `LEAST_FOR_LOGS`."""
    return _log_share((value * n).round(), n).where(n >= LEAST_FOR_LOGS)


def _log_share(k: pd.Series, n: pd.Series) -> pd.Series:
    """ln[(k + 1/2)/(n + 1/2)]; NaN if n is 0."""
    return _log((k + 0.5) / (n + 0.5)).where(n > 0)


def _logit(k: pd.Series, n: pd.Series) -> pd.Series:
    """Smoothed logit, ln[(k + 1/2)/(n - k + 1/2)]; NaN if n is 0."""
    return _log((k + 0.5) / (n - k + 0.5)).where(n > 0)


def _log(value: pd.Series) -> pd.Series:
    return pd.Series(np.log(value.to_numpy(float)), index=value.index)


def _unchanged(value: pd.Series, n: pd.Series) -> pd.Series:
    return value


@dataclass(frozen=True)
class Outcome:
    """How a downstream metric enters a regression."""

    transform: Callable[[pd.Series, pd.Series], pd.Series]
    """(value, n) -> y."""
    label: str
    """The metric's name."""
    unit: str
    """The unit of y."""
    meaning: str
    """What the metric is, in a sentence for readers of the report."""
    logs: bool = False
    """Whether differences of y are reported in per cent."""
    rate: bool = False
    """Whether the metric itself is a rate in [0, 1], with a floor and a ceiling."""
    points: bool = False
    """Whether y is a difference of rates, so that its differences are reported in percentage points."""
    compared: tuple[str, ...] = ()
    """The rates that the metric compares; each needs `LEAST_PER_PRONOUN` examples, which the metric's own n does not tell."""
    axis_unit: str = ""
    """The unit on axes, if that is not `unit`."""
    sides: tuple[str, ...] = ()
    """What y above 0 and y below 0 mean, where groups may lie on both sides of it."""
    zero: bool = True
    """Whether y = 0 means no bias. A level (ln FPR) has no such zero: only its differences over groups are bias."""

    @property
    def axis(self) -> str:
        """The label of an axis that shows y."""
        return self.unit if self.logs else f"{self.label} ({self.axis_unit or self.unit})"

    @property
    def benefit(self) -> bool:
        """Whether more of the metric is better, as of accuracy on an evaluation set."""
        return self.rate and not self.logs

    @property
    def name(self) -> str:
        """The metric's name within a sentence."""
        return self.label if self.rate else f"the {self.label}"


FPR = (
    "FPR (false positive rate): the share of {texts} about a group that the classifier takes for harmful (WIKI: toxic). "
    "Differences are given in per cent of the rate, not in percentage points."
)
FPR_RATIO = (
    "FPR ratio: the share of {texts} about a group that the classifier takes for harmful (its false positive rate), divided by "
    "that of the other groups. Differences are given in per cent of the ratio."
)
LOGIT_GAP = (
    "Logit gap: the classifier's mean score for harm (in logits) on {texts} about a group, minus that on harmless ones about "
    "no group. Above 0, texts about the group score higher."
)
PHRASES, NATURAL = "harmless phrases", "harmless examples of the test set"

MORE_OFTEN = ("she/her biographies are recognised more often", "he/him biographies are recognised more often")

OUTCOMES: dict[str, Outcome] = {
    "fpr": Outcome(log_rate, "FPR", "ln FPR", FPR.format(texts=PHRASES), logs=True, rate=True, zero=False),
    "log_fpr_ratio": Outcome(_unchanged, "FPR ratio", "ln FPR ratio", FPR_RATIO.format(texts=PHRASES), logs=True),
    "logit_gap": Outcome(_unchanged, "logit gap", "logits", LOGIT_GAP.format(texts=PHRASES)),
    "natural_fpr": Outcome(
        log_rate, "FPR on natural text", "ln FPR", FPR.format(texts=NATURAL), logs=True, rate=True, zero=False
    ),
    "natural_log_fpr_ratio": Outcome(
        _unchanged, "FPR ratio on natural text", "ln FPR ratio", FPR_RATIO.format(texts=NATURAL), logs=True
    ),
    "natural_logit_gap": Outcome(
        _unchanged, "logit gap on natural text", "logits", LOGIT_GAP.format(texts=NATURAL)
    ),
    "tpr_gap": Outcome(
        _unchanged, "TPR gap", "TPR",
        "TPR gap: of an occupation's she/her biographies in the test set, the share that the classifier recognises (true "
        "positive rate, or recall), minus that share of its he/him biographies. Above 0, she/her biographies are recognised "
        "more often; below 0, he/him ones. Differences are given in percentage points.",
        points=True, compared=("tpr_she", "tpr_he"), axis_unit="she/her minus he/him", sides=MORE_OFTEN,
    ),
    "log_tpr_ratio": Outcome(
        _unchanged, "TPR ratio", "ln TPR ratio",
        "TPR ratio: of an occupation's she/her biographies in the test set, the share that the classifier recognises (true "
        "positive rate, or recall), divided by that share of its he/him biographies; the TPR gap is their difference. "
        "Differences are given in per cent of the ratio.",
        logs=True, sides=MORE_OFTEN,
    ),
    "separation_gap": Outcome(
        _unchanged, "separation gap", "total variation",
        "Separation gap: how far the predictions for biographies of an occupation depend on the pronoun (total variation of "
        "the predictions given occupation and pronoun from those given the occupation alone). 0: not at all. Small samples "
        "make it larger.",
    ),
    "sufficiency_gap": Outcome(
        _unchanged, "sufficiency gap", "total variation",
        "Sufficiency gap: how far the true occupations of biographies that are predicted to be of one occupation depend on the "
        "pronoun (total variation). 0: not at all. Small samples make it larger.",
    ),
}  # fmt: skip
"""Downstream metric -> how it enters a regression. A new primary metric is one entry."""

OF_SET = "harmless examples of the evaluation set {name}"
RIGHT = (
    "Accuracy: of the examples of the evaluation set {{name}} {of}, the share that the classifier gets right. Differences are "
    "given in percentage points."
)
EVALUATED: dict[str, Outcome] = {
    "functionality_accuracy": Outcome(
        _unchanged, "accuracy per functionality of {name}", "accuracy",
        RIGHT.format(of="that test one functionality (the group)"), rate=True, points=True, zero=False,
    ),
    "accuracy": Outcome(
        _unchanged, "accuracy on {name}", "accuracy", RIGHT.format(of="about a group"), rate=True, points=True, zero=False,
    ),
    "fpr": Outcome(log_rate, "FPR on {name}", "ln FPR", FPR.format(texts=OF_SET), logs=True, rate=True, zero=False),
    "log_fpr_ratio": Outcome(_unchanged, "FPR ratio on {name}", "ln FPR ratio", FPR_RATIO.format(texts=OF_SET), logs=True),
    "logit_gap": Outcome(_unchanged, "logit gap on {name}", "logits", LOGIT_GAP.format(texts=OF_SET)),
    "tpr_gap": replace(
        OUTCOMES["tpr_gap"], label="TPR gap on {name}",
        meaning=OUTCOMES["tpr_gap"].meaning.replace("the test set", "the evaluation set {name}"),
        compared=("{name}_tpr_she", "{name}_tpr_he"),
    ),
}  # fmt: skip
"""Metric of an evaluation set, without the set's name -> how it enters a regression; `{name}` stands for the set's name."""


@functools.cache
def outcome_named(metric: str) -> Outcome:
    """How a downstream metric of the task, or of an evaluation set, enters a regression; any other, as those of plugins, as
    measured (`cells` refuses one that nothing has measured)."""
    if not is_outcome(metric):
        return replace(AS_MEASURED, label=metric.replace("_", " "), meaning=AS_MEASURED.meaning.format(name=metric))
    if metric in OUTCOMES:
        return OUTCOMES[metric]
    suffix = next(suffix for suffix in EVALUATED if metric.endswith(f"_{suffix}"))
    outcome, name = EVALUATED[suffix], metric.removesuffix(f"_{suffix}")
    label, meaning, *compared = (text.format(name=name) for text in (outcome.label, outcome.meaning, *outcome.compared))
    return replace(outcome, label=label, meaning=meaning, compared=tuple(compared))


AS_MEASURED = Outcome(
    _unchanged,
    "",
    "units",
    "The measure {name} is not one of this report's own, so it enters as measured, in its own unit.",
    zero=False,
)
"""A downstream metric that is not in the tables: one of a plugin, or one that a custom task has chosen."""


def check_outcome(table: pd.DataFrame, metric: str) -> None:
    """Raises UserError for a metric that the tables do not know, and that has no value per group in the trials' table."""
    per_group = table.loc[(table["stage"] == "downstream") & (table["group"] != ""), "metric"]
    if not is_outcome(metric) and metric not in set(per_group):
        raise UserError(
            unknown("downstream metric for regressions", metric, {*OUTCOMES, *map(str, per_group.unique())})
        )


def is_outcome(metric: str) -> bool:
    """Whether the tables know the metric."""
    return metric in OUTCOMES or any(metric.endswith(f"_{suffix}") for suffix in EVALUATED)


def cells(
    table: pd.DataFrame,
    primary: Mapping[str, Mapping[str, str]],
    least: int = LEAST_MENTIONS,
    covariates: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The primary table of docs/science.md: one row per trial and group.

    table: `Runs.table`; primary: task -> stage -> metric. Columns, in addition to study, trial, the trial's fields
    and `runs.REPEATS`:

    - x: upstream score, mean over templates, in raw units.
    - z_level: dataset bias as measured (`dataset_metric`); z: its smoothed logit; z_log: ln[(k + 1/2)/(n + 1/2)]; z_n: the
      group's examples in the fine-tuning set.
    - x_scale, z_scale: SD of x and of z for the untouched model, both over the groups that regressions use: those that are not
      thin and have x, z and y.
    - y_rate: downstream metric as measured; y_n: its phrases; y: y_rate transformed as `OUTCOMES` says.
    - few: whether y is missing because a rate that it compares has fewer than `LEAST_PER_PRONOUN` examples.
    - thin: whether any trial of the study has fewer than `least` examples of the group (any trial, so that all arms have
      the same groups). False for all groups if the study's fine-tuning sets name no group at all: y is then regressed on
      x alone.
    - words, tokens, log_frequency: the covariates of the group's name that B is to hold fixed (`names.chosen`; covariates: the
      config's choice); covariates: their names, with ", " between them. Runs that did not record them have the number of words
      alone, counted in the group's name.
    - x_metric, z_metric, outcome: the metrics' names.

    Groups are those that the downstream metric has; all groups of a study that has not measured it. Missing values are NaN,
    with n = 0. Raises UserError as `check_outcome` does.
    """
    studies = [(str(study["task"].iloc[0]), study) for _, study in table.groupby("study", sort=False)]
    return pd.concat([_cells(study, primary[task], least, covariates) for task, study in studies], ignore_index=True)


def _cells(
    table: pd.DataFrame, primary: Mapping[str, str], least: int, covariates: Sequence[str] | None
) -> pd.DataFrame:
    check_outcome(table, primary["downstream"])
    key = ["study", "trial", *dict.fromkeys((*FIELDS, *REPEATS)), "group"]
    named = table["group"] != ""
    # Other measures have groups of their own: types of sentence pairs, targets of an evaluation set.
    measured = named & (table["stage"] == "downstream") & (table["metric"] == primary["downstream"])
    about = table.loc[measured if measured.any() else named, "group"].unique()
    frame = plain(table.loc[table["group"].isin(about), key].drop_duplicates(["trial", "group"]).reset_index(drop=True))
    z_metric = dataset_metric(table, primary["dataset"])
    frame = frame.assign(x_metric=primary["upstream"], z_metric=z_metric, outcome=primary["downstream"])
    examples = _by_group(table, "dataset", primary["dataset"], "z")[["trial", "group", "z_n"]]
    for of_metric in (
        _by_group(table, "upstream", primary["upstream"], "x"),
        _by_group(table, "dataset", z_metric, "z_level"),
        _by_group(table, "downstream", primary["downstream"], "y_rate"),
        examples,
    ):
        frame = frame.merge(of_metric, on=["trial", "group"], how="left")
    frame = frame.rename(columns={"y_rate_n": "y_n"})
    outcome = outcome_named(primary["downstream"])
    few = _too_few(table, outcome.compared, frame)
    counts = {name: frame[name].fillna(0).astype(int) for name in ("x_n", "z_n", "y_n")}
    seen = frame.pop("z_level_n").fillna(0).astype(int)
    # Words that a scrub has left are few in some trials only: these are missing, while a thin group is left out of all.
    seen = seen.where(seen >= (least if z_metric != primary["dataset"] else 0), 0)
    # Rounded to get rid of binary errors alone: where an arm weighs the examples, a share of their weight is no whole count.
    counted = (frame["z_level"] * seen).round(6)
    frame = frame.assign(
        **counts,
        z=_logit(counted, seen),
        z_log=_log_share(counted, seen),
        y=outcome.transform(frame["y_rate"], counts["y_n"]).mask(few),
        few=few,
        thin=(counts["z_n"].groupby(frame["group"]).transform("min") < least) & (counts["z_n"].max() > 0),
    )
    regressed = _regressed(frame)
    frame = frame.assign(x_scale=_spread(regressed, "x"), z_scale=_spread(regressed, "z"))
    return _with_names(frame, table, chosen(regressed["group"].nunique(), covariates))


def _with_names(frame: pd.DataFrame, table: pd.DataFrame, names: Sequence[Covariate]) -> pd.DataFrame:
    """The cells with the covariates `names`."""
    for name in names:
        recorded = _by_group(table, "upstream", COVARIATES[name], name)[["trial", "group", name]]
        frame = frame.merge(recorded, on=["trial", "group"], how="left")
        if name == "words" and frame[name].isna().all():
            frame = frame.assign(words=[float(words(str(group))) for group in frame["group"]])
    return frame.assign(covariates=", ".join(names))


def dataset_metric(table: pd.DataFrame, primary: str) -> str:
    """The metric that is z in one study: the primary one or, where an arm scrubs, what `VISIBLE` has in its place.

    Scrubbing edits texts. A share of examples does not see that, so what a scrub does to y would be credited to x.
    """
    visible = VISIBLE.get(primary)
    scrubs = bool((table["downstream"] == "scrub").any())
    return visible if visible and scrubs and bool((table["metric"] == visible).any()) else primary


def _regressed(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the groups that regressions use; all rows if there is no such group."""
    untouched = frame[frame["arm"] == UNTOUCHED]
    needed = [name for name in ("x", "z", "y") if untouched[name].notna().any()]
    lacking = set(untouched.loc[untouched[needed].isna().any(axis=1), "group"])
    used = frame[~frame["thin"] & ~frame["group"].isin(lacking)]
    return used if len(used) else frame


def _too_few(table: pd.DataFrame, rates: Sequence[str], frame: pd.DataFrame) -> pd.Series:
    """Whether any of the rates has fewer than `LEAST_PER_PRONOUN` examples, by row of `frame` (trial and group)."""
    key, too_few = ["trial", "group"], pd.Series(False, index=frame.index)
    for rate in rates:
        counted = frame[key].merge(_by_group(table, "downstream", rate, rate), on=key, how="left")[f"{rate}_n"]
        too_few |= (counted < LEAST_PER_PRONOUN).to_numpy()
    return too_few


def _by_group(table: pd.DataFrame, stage: str, metric: str, name: str) -> pd.DataFrame:
    """Columns trial, group, `name` and `name`_n: the value pooled over templates if there is one, else the mean over templates.

    The mean is missing if any template's value is missing: a mean of the others would be a different measure.
    """
    rows = table[(table["stage"] == stage) & (table["metric"] == metric) & (table["group"] != "")]
    pooled = rows[rows["template"] == ""]
    grouped = (rows if pooled.empty else pooled).groupby(["trial", "group"], sort=False)
    means = pd.DataFrame({name: grouped["value"].mean(skipna=False), f"{name}_n": grouped["n"].sum()})
    return plain(means.reset_index())


def by_group(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Each group's mean of the columns `names`: over the seeds of a model first, so that all models weigh the same."""
    of_models = frame.groupby(["group", "replicate"])[list(names)].mean()
    return of_models.groupby(level="group").mean()


def _spread(frame: pd.DataFrame, name: str) -> float:
    """SD over groups of the untouched arm's mean (`by_group`); NaN without that arm, 0 if only rounding differs."""
    means = by_group(frame[frame["arm"] == UNTOUCHED], [name])[name]
    spread = float(means.std())
    return 0.0 if spread <= 1e-9 * abs(float(means.mean())) else spread
