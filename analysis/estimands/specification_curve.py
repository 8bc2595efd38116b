"""Specification curve: estimand B under every defensible choice of outcome, template and estimator.

All specifications are of the untouched model: one row per group, means over seeds, y = a + beta x + gamma z + delta n, with the
covariates n of the groups' names or without them. Outcomes have different units, so x and y are in SD over groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from analysis.data.cells import LEAST_FOR_LOGS, dataset_metric
from analysis.data.names import COVARIATES, chosen, words
from analysis.data.runs import UNTOUCHED, plain
from analysis.stats.regression import LEAST_GROUPS, identified
from bias_transfer.spec import LEAST_MENTIONS, LEAST_PER_PRONOUN, Covariate

CHOICES = ("metric", "denominator", "threshold", "smoothing", "template", "name", "estimator")
COLUMNS = ("study", *CHOICES, "estimate", "low", "high", "n", "primary")
"""estimate, low, high: SD of y per SD of x, with a 95 % interval; n: groups; primary: whether the specification has the
configured metrics, the mean over templates, the group's name held fixed, and the first estimator."""

HELD, FREE = "held fixed", "left free"
"""Whether the covariates of the groups' names are in the fit."""

MEAN = "mean of all"
NONE = "-"

Numbers = Callable[["Measured"], "pd.Series"]


class Measured:
    """The untouched model's measures of one study."""

    def __init__(self, table: pd.DataFrame) -> None:
        untouched = table[(table["arm"] == UNTOUCHED) & (table["group"] != "")]
        self.rows = plain(untouched[["stage", "metric", "template", "group", "trial", "value", "n"]])

    def has(self, metric: str) -> bool:
        """Whether the metric was measured for groups."""
        return bool((self.rows["metric"] == metric).any())

    def templates(self, metric: str) -> list[str]:
        """The templates of a metric; empty where it is pooled over templates."""
        return sorted(set(self.rows.loc[self.rows["metric"] == metric, "template"]) - {""})

    def cells(self, metric: str, template: str = "") -> pd.DataFrame:
        """value and n, indexed by (group, trial)."""
        rows = self.rows[(self.rows["metric"] == metric) & (self.rows["template"] == template)]
        return rows.set_index(["group", "trial"])[["value", "n"]]

    def mean(self, metric: str, template: str = "") -> pd.Series:
        """The mean over seeds by group."""
        return self.cells(metric, template)["value"].groupby("group").mean()


def _log(rate: pd.Series, n: pd.Series, smoothing: float) -> pd.Series:
    """ln[(k + s)/(n + s)] by (group, trial); NaN for few examples, and for a rate of 0 without smoothing."""
    k = (rate * n).round() + smoothing
    share = (k / (n + smoothing)).where((n >= LEAST_FOR_LOGS) & (k > 0))
    return share.map(math.log, na_action="ignore").astype(float)


def mean_log_rate(metric: str, smoothing: float, template: str = "") -> Numbers:
    """Mean over seeds of the log of a rate."""

    def numbers(measured: Measured) -> pd.Series:
        cells = measured.cells(metric, template)
        return _log(cells["value"], cells["n"], smoothing).groupby("group").mean()

    return numbers


def mean_log_rate_to_others(metric: str, smoothing: float) -> Numbers:
    """Mean over seeds of the log of a rate minus the log of the pooled rate of all other groups."""

    def numbers(measured: Measured) -> pd.Series:
        cells = measured.cells(metric)
        k, n = cells["value"] * cells["n"], cells["n"]
        rest_k, rest_n = (counts.groupby("trial").transform("sum") - counts for counts in (k, n))
        difference = _log(cells["value"], n, smoothing) - _log(rest_k / rest_n, rest_n, smoothing)
        return difference.groupby("group").mean()

    return numbers


def mean_log_ratio(above: str, below: str, smoothing: float, template: str = "") -> Numbers:
    """Mean over seeds of the log of one rate minus the log of another."""

    def numbers(measured: Measured) -> pd.Series:
        upper, lower = measured.cells(above, template), measured.cells(below, template)
        difference = _log(upper["value"], upper["n"], smoothing) - _log(lower["value"], lower["n"], smoothing)
        return difference.groupby("group").mean()

    return numbers


def as_measured(metric: str, sign: float = 1.0, template: str = "") -> Numbers:
    """Mean over seeds; sign is -1 where a smaller value is more bias."""
    return lambda measured: sign * measured.mean(metric, template)


def mean_difference(above: str, below: str, template: str = "") -> Numbers:
    """Mean over seeds of one rate minus another; missing where either has fewer than `LEAST_PER_PRONOUN` examples."""

    def numbers(measured: Measured) -> pd.Series:
        upper, lower = (measured.cells(rate, template) for rate in (above, below))
        enough = (upper["n"] >= LEAST_PER_PRONOUN) & (lower["n"] >= LEAST_PER_PRONOUN)
        return (upper["value"] - lower["value"]).where(enough).groupby("group").mean()

    return numbers


@dataclass(frozen=True)
class OutcomeChoice:
    """One way to measure downstream bias."""

    needs: str
    """The recorded metric from which it is computed."""
    metric: str
    denominator: str
    threshold: str
    smoothing: str
    numbers: Numbers


def _wiki() -> Iterator[OutcomeChoice]:
    for suffix, threshold in (("", "0.5"), ("_eer", "equal error")):
        for smoothing, label in ((0.5, "1/2"), (0.0, "none")):
            rate, choices = f"fpr{suffix}", (threshold, label)
            yield OutcomeChoice(rate, "ln FPR", "own negatives", *choices, mean_log_rate(rate, smoothing))
            yield OutcomeChoice(rate, "ln FPR", "other terms", *choices, mean_log_rate_to_others(rate, smoothing))
        for name, base in (("occupation", "no term"), ("neutral", "neutral words"), ("natural", "natural comments")):
            ratio = f"log_fpr_ratio_{name}{suffix}"
            yield OutcomeChoice(ratio, "ln FPR", base, threshold, "1/2", as_measured(ratio))
        families = f"fpr_families{suffix}"
        yield OutcomeChoice(families, "FPR, families alike", "own negatives", threshold, NONE, as_measured(families))
    yield OutcomeChoice("logit_gap", "logit gap", "no term", NONE, NONE, as_measured("logit_gap"))
    yield OutcomeChoice("logit_gap_neutral", "logit gap", "neutral words", NONE, NONE, as_measured("logit_gap_neutral"))
    yield OutcomeChoice("bpsn_auc", "- BPSN AUC", "other phrases", NONE, NONE, as_measured("bpsn_auc", -1))
    yield OutcomeChoice("negative_aeg", "negative AEG", "other phrases", NONE, NONE, as_measured("negative_aeg"))
    yield OutcomeChoice(
        "natural_bpsn_auc", "- BPSN AUC", "natural comments", NONE, NONE, as_measured("natural_bpsn_auc", -1)
    )


def _bios() -> Iterator[OutcomeChoice]:
    for template, label in (("", "test set as it is"), ("scrubbed", "scrubbed test set")):
        gap = mean_difference("tpr_she", "tpr_he", template)
        yield OutcomeChoice("tpr_gap", "TPR gap", label, NONE, NONE, gap)
        for smoothing, smoothed in ((0.5, "1/2"), (0.0, "none")):
            ratio = mean_log_ratio("tpr_she", "tpr_he", smoothing, template)
            yield OutcomeChoice("tpr_she", "ln TPR ratio", label, NONE, smoothed, ratio)


OUTCOME_CHOICES = (*_wiki(), *_bios())
"""All that the tasks record; those that a study did not record are skipped."""

PRIMARY = {
    "fpr": ("ln FPR", "own negatives", "0.5", "1/2"),
    "log_fpr_ratio": ("ln FPR", "other terms", "0.5", "1/2"),
    "logit_gap": ("logit gap", "no term", NONE, NONE),
    "tpr_gap": ("TPR gap", "test set as it is", NONE, NONE),
    "log_tpr_ratio": ("ln TPR ratio", "test set as it is", NONE, "1/2"),
}
"""Downstream metric of the config -> its metric, denominator, threshold and smoothing here."""

Estimate = tuple[float, float, float]


def least_squares(x: np.ndarray, z: np.ndarray, names: np.ndarray, y: np.ndarray) -> Estimate:
    """OLS with HC3 standard errors and t with the residual degrees of freedom. names: (groups, covariates), perhaps none."""
    return _slope([x, z, *names.T], y, "HC3")


def classical(x: np.ndarray, z: np.ndarray, names: np.ndarray, y: np.ndarray) -> Estimate:
    """OLS with classical standard errors."""
    return _slope([x, z, *names.T], y, "nonrobust")


def ranks(x: np.ndarray, z: np.ndarray, names: np.ndarray, y: np.ndarray) -> Estimate:
    """OLS on ranks, so that no single group dominates."""
    of_x, of_z, of_y, *of_names = (_scaled(stats.rankdata(values)) for values in (x, z, y, *names.T))
    return _slope([of_x, np.nan_to_num(of_z), *of_names], of_y, "HC3")


def without_z(x: np.ndarray, z: np.ndarray, names: np.ndarray, y: np.ndarray) -> Estimate:
    """OLS without dataset bias, with HC3 standard errors."""
    return _slope([x, *names.T], y, "HC3")


ESTIMATORS = {
    "OLS, HC3": least_squares,
    "OLS, classical": classical,
    "ranks, HC3": ranks,
    "without z, HC3": without_z,
}


def _slope(regressors: Sequence[np.ndarray], y: np.ndarray, errors: str) -> Estimate:
    """The coefficient of the first regressor."""
    design = np.column_stack([np.ones(len(y)), *regressors])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return math.nan, math.nan, math.nan
    fitted = sm.OLS(y, design).fit(cov_type=errors, use_t=True)
    low, high = fitted.conf_int()[1]
    return float(fitted.params[1]), float(low), float(high)


def _scaled(values: np.ndarray) -> np.ndarray:
    spread = values.std(ddof=1)
    return (values - values.mean()) / spread if spread > 0 else np.full(len(values), math.nan)


def specifications(
    table: pd.DataFrame,
    primary: Mapping[str, Mapping[str, str]],
    least: int = LEAST_MENTIONS,
    covariates: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row per specification of each study, with `COLUMNS`.

    table: `runs.Runs.table`; primary: task -> stage -> metric; least: examples in the fine-tuning set that a group needs;
    covariates: those of the groups' names that the config states, as for `cells.cells`.
    Fits on fewer than `LEAST_GROUPS` groups, or without variation, are left out.
    """
    rows = list[dict[str, Any]]()
    for study, of_study in table.groupby("study", sort=False):
        stages = primary[str(of_study["task"].iloc[0])]
        z_metric = dataset_metric(of_study, stages["dataset"])
        rows += _of_study(str(study), Measured(of_study), stages, z_metric, least, covariates)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_study(
    study: str,
    measured: Measured,
    primary: Mapping[str, str],
    z_metric: str,
    least: int,
    covariates: Sequence[str] | None,
) -> Iterator[dict[str, Any]]:
    upstream, z = primary["upstream"], _z(measured, z_metric, least)
    templates = measured.templates(upstream)
    scores = {name: measured.mean(upstream, name) for name in templates or [""]}
    xs = {MEAN: pd.DataFrame(scores).mean(axis=1, skipna=False), **(scores if len(templates) > 1 else {})}
    names = _names(measured, chosen(int(z.notna().sum()), covariates))
    for outcome in (choice for choice in OUTCOME_CHOICES if measured.has(choice.needs)):
        y = outcome.numbers(measured)
        selected = (outcome.metric, outcome.denominator, outcome.threshold, outcome.smoothing)
        for template, x in xs.items():
            complete = pd.DataFrame({"x": x, "z": z, "y": y}).join(names).dropna()
            is_first = selected == PRIMARY.get(primary["downstream"]) and template == MEAN
            for number, (name, estimator, n, estimate) in enumerate(_fits(complete)):
                row = (study, *selected, template, name, estimator, *estimate, n, is_first and number == 0)
                yield dict(zip(COLUMNS, row, strict=True))


def _names(measured: Measured, wanted: Sequence[Covariate]) -> pd.DataFrame:
    """The covariates of the groups' names, those of them that are known: (groups, covariates)."""
    groups = sorted(set(measured.rows["group"]))
    known = {name: measured.mean(COVARIATES[name]) for name in wanted if measured.has(COVARIATES[name])}
    if "words" in wanted and "words" not in known:
        known["words"] = pd.Series({group: float(words(group)) for group in groups})
    return pd.DataFrame(known, index=groups)


def _z(measured: Measured, metric: str, least: int) -> pd.Series:
    """The smoothed logit of dataset bias by group; missing for groups with fewer than `least` examples."""
    cells = measured.cells(metric)
    k, n = (cells["value"] * cells["n"]).round(), cells["n"]
    odds = ((k + 0.5) / (n - k + 0.5)).where(n >= least)
    return odds.map(math.log, na_action="ignore").astype(float).groupby("group").mean()


def _fits(complete: pd.DataFrame) -> Iterator[tuple[str, str, int, Estimate]]:
    """(name held fixed or left free, estimator, groups, estimate), the fits of the main kind first."""
    if len(complete) < LEAST_GROUPS:
        return
    x, z, y = (_scaled(complete[name].to_numpy(float)) for name in ("x", "z", "y"))
    if np.isnan(x).any() or np.isnan(y).any():
        return
    included = list[str]()
    for name in complete.columns.difference(["x", "y", "z"], sort=False):
        if identified(complete[[*included, name]].to_numpy(float)):
            included.append(name)
    held = {HELD: complete[included].to_numpy(float)} if included else {}
    for label, names in {**held, FREE: np.empty((len(complete), 0))}.items():
        for name, estimator in ESTIMATORS.items():
            estimate = estimator(x, np.nan_to_num(z), names, y)
            if not math.isnan(estimate[0]):
                yield label, name, len(complete), estimate
