"""The controls: the criterion of each, and what the runs show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from analysis.data.runs import load
from bias_transfer.errors import UserError

MEASURED_BACK = 0.9
"""Least correlation over groups of the planted bias with the measured upstream bias."""

RATES = (0.1, 0.6)
"""Bounds of the mean FPR in both arms: saturation of the rate alone would make a slope vanish."""

FLOOR = 0.8
"""Least ROC AUC of the classifier in both arms."""

MARGIN = 0.10
"""Slopes of ln FPR per SD of x within this margin count as equivalent to 0 (docs/science.md; fixed beforehand)."""


@dataclass(frozen=True)
class Slope:
    """A coefficient of a regression over groups, with its 95 % interval (HC3, t) and p."""

    value: float
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], n = {self.n}"

    @property
    def is_positive(self) -> bool:
        """Whether the interval is above 0."""
        return self.low > 0

    @property
    def contains_0(self) -> bool:
        """Whether the interval contains 0."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Check:
    """One control: its criterion, the result, and whether it holds."""

    control: str
    criterion: str
    result: str
    holds: bool
    fixed: bool = True
    """Whether it was fixed before the runs. Rows that were added later are exploratory, and count neither way."""


def groups(experiment: str, uri: str | None) -> pd.DataFrame:
    """One row per trial and group: the trial's options, planted bias, x, dataset bias, FPR and its n, logit gap, utility."""
    runs = load(experiment, None, uri)
    trials = pd.DataFrame([{"trial": trial.id, **trial.options} for trial in runs.sweep.trials])
    by_group = runs.table[(runs.table["group"] != "") & runs.table["metric"].isin(METRICS)]
    rows = by_group[(by_group["template"] == "") | by_group["metric"].isin(AVERAGED)]
    wide = rows.pivot_table(index=["trial", "group"], columns="metric", values="value", aggfunc="mean").reset_index()
    counts = rows[rows["metric"].isin(["fpr", "toxic_share", "she_share"])]
    sizes = counts.pivot_table(index=["trial", "group"], columns="metric", values="n").add_suffix("_n").reset_index()
    whole = runs.table[(runs.table["group"] == "") & (runs.table["template"] == "")]
    utility = whole[whole["metric"].isin(["roc_auc", "accuracy"])].pivot_table(
        index="trial", columns="metric", values="value"
    )
    fields = runs.table[["trial", "task", "upstream", "seed"]].drop_duplicates()
    frame = wide.merge(sizes, on=["trial", "group"]).merge(utility.reset_index(), on="trial")
    frame = frame.merge(fields, on="trial").merge(trials, on="trial")
    if "fpr" in frame:
        hits = (frame["fpr"] * frame["fpr_n"]).round()
        frame["log_fpr"] = np.log((hits + 0.5) / (frame["fpr_n"] + 0.5))
    return frame


AVERAGED = ("negative_sentiment", "pronoun_score")
"""Metrics that are averaged over templates."""

METRICS = (
    *AVERAGED, "planted_share", "planted_direction", "planted_toxic_share", "planted_toxic_direction", "planted_she_share",
    "toxic_share", "she_share", "fpr", "logit_gap", "tpr_gap",
)  # fmt: skip


def slopes(rows: pd.DataFrame, outcome: str, terms: Sequence[str]) -> list[Slope]:
    """Coefficients of the terms in a linear regression over groups. Outcome and terms are means over seeds."""
    means = rows.groupby("group")[[outcome, *terms]].mean().dropna()
    fit = sm.OLS(means[outcome], sm.add_constant(means[list(terms)])).fit(cov_type="HC3", use_t=True)
    interval = fit.conf_int()
    return [
        Slope(fit.params[term], interval.loc[term, 0], interval.loc[term, 1], fit.pvalues[term], len(means))
        for term in terms
    ]


def slope(rows: pd.DataFrame, outcome: str, term: str = "planted_direction") -> Slope:
    """`slopes` with a single term."""
    return slopes(rows, outcome, [term])[0]


def wiki(rows: pd.DataFrame, upstream: str = "none", order: int = 0, **options: float) -> pd.DataFrame:
    """The rows of one cell of controls.yaml."""
    wanted = {"data.order": order, "data.correlation": 0.0, **{f"data.{key}": value for key, value in options.items()}}
    chosen = rows[(rows["task"] == "wiki") & (rows["upstream"] == upstream)]
    for key, value in wanted.items():
        chosen = chosen[np.isclose(chosen[key].astype(float), value)]
    if chosen.empty:
        raise UserError(
            f"The experiment controls has no trial with {wanted}. Run tune_configs/controls.yaml without changes."
        )
    return chosen


def manipulation(rows: pd.DataFrame) -> list[Check]:
    """Is the planted bias measured?"""
    planted = rows[(rows["task"] == "wiki") & (rows["upstream"] == "none") & (rows["data.upstream_spread"] == 0.45)]
    checks = []
    for task, of_task, metric in (
        ("WIKI", planted, "negative_sentiment"),
        ("BIOS", rows[rows["task"] == "bios"], "pronoun_score"),
    ):
        model = [of_task["data.order"].fillna(0), of_task["model.seed"]]
        correlations = [_correlation(of_model, metric) for _, of_model in of_task.groupby(model)]
        values = ", ".join(f"{value:.3f}" for value in correlations)
        n = of_task["group"].nunique()
        checks.append(
            Check(
                f"manipulation, {task} upstream", f"correlation over groups above {MEASURED_BACK}",
                f"r = {values} (n = {n} groups; one value per pre-trained model)", min(correlations) > MEASURED_BACK,
            )
        )  # fmt: skip
    for task, share, planted_share in (
        ("wiki", "toxic_share", "planted_toxic_share"),
        ("bios", "she_share", "planted_she_share"),
    ):
        measured = rows[(rows["task"] == task) & rows[share].notna()]
        deviation = ((measured[share] - measured[planted_share]).abs() * measured[f"{share}_n"]).max()
        checks.append(
            Check(
                f"manipulation, {task.upper()} data set", "every share as planted, up to rounding to whole examples",
                f"deviations of at most {deviation:.2f} examples (n = {len(measured)} shares)", deviation <= 0.5 + 1e-9,
            )
        )  # fmt: skip
    return checks


def _correlation(rows: pd.DataFrame, metric: str) -> float:
    means = rows.groupby("group")[[metric, "planted_share"]].mean()
    return float(np.corrcoef(means[metric], means["planted_share"])[0, 1])


BOTH = ("planted_direction", "planted_toxic_direction")


def crossed(rows: pd.DataFrame) -> list[Check]:
    """Bias planted in pre-training (x) or not, crossed with bias planted in the fine-tuning set (z) or not."""
    checks = []
    for x in (0.0, 0.45):
        for z in (0.0, 0.25):
            cell = wiki(rows, mention_share=0.4, upstream_spread=x, dataset_spread=z)
            of_x, of_z = slopes(cell, "logit_gap", BOTH)
            holds = (of_x.is_positive if x else of_x.contains_0) and (of_z.is_positive if z else of_z.contains_0)
            expected_x, expected_z = ("above 0" if planted else "interval contains 0" for planted in (x, z))
            criterion = f"slope on x: {expected_x}; slope on z: {expected_z}"
            name = f"2 x 2: {'x planted' if x else 'no x'}, {'z planted' if z else 'no z'}"
            checks.append(Check(name, criterion, f"x {of_x}; z {of_z}", holds))
    cell = wiki(rows, correlation=0.6, mention_share=0.4, upstream_spread=0.45, dataset_spread=0.25)
    of_x, of_z = slopes(cell, "logit_gap", BOTH)
    holds = of_x.is_positive and of_z.is_positive
    checks.append(
        Check("x and z planted, r = .6", "both slopes above 0, adjusted for each other", f"x {of_x}; z {of_z}", holds)
    )
    return checks


def positive(rows: pd.DataFrame) -> list[Check]:
    """The positive control: the fine-tuning set names no group, so bias can only come from pre-training."""
    cells = cells_of_positive(rows)
    checks = []
    for outcome, unit in (("logit_gap", "logits"), ("log_fpr", "ln FPR")):
        of_cell = {name: slope(cell, outcome) for name, cell in cells.items()}
        zero, half, full = of_cell["dose 0"], of_cell["dose 1/2"], of_cell["dose 1"]
        values = "; ".join(f"{name} {value}" for name, value in of_cell.items() if name.startswith("dose"))
        grows = zero.contains_0 and full.is_positive and zero.value < half.value < full.value
        reinitialised = of_cell["dose 1, reinitialised"]
        checks += [
            Check(
                f"positive, {unit}",
                "slope on the planted order grows with the dose; at dose 0 its interval contains 0",
                values,
                grows,
            ),
            Check(
                f"positive, {unit}, reinitialised",
                "interval of the slope contains 0",
                str(reinitialised),
                reinitialised.contains_0,
            ),
        ]
    permuted = cells["dose 1, permuted"]
    old_order = dict(cells["dose 1"].groupby("group")["planted_direction"].first())
    permuted = permuted.assign(old_direction=permuted["group"].map(old_order))
    new, old = slopes(permuted, "logit_gap", ["planted_direction", "old_direction"])
    criterion = "slope on the new order: above 0; slope on the old order: interval contains 0"
    holds = new.is_positive and old.contains_0
    checks.append(Check("positive, permuted plant", criterion, f"new {new}; old {old}", holds))
    for name in ("dose 1", "dose 1, reinitialised"):
        rate, auc = cells[name]["fpr"].mean(), cells[name]["roc_auc"].mean()
        checks.append(
            Check(
                f"positive, {name}: not saturated, useful", f"mean FPR {RATES[0]} to {RATES[1]}, ROC AUC at least {FLOOR}",
                f"FPR {rate:.3f}, ROC AUC {auc:.3f}", RATES[0] <= rate <= RATES[1] and auc >= FLOOR,
            )
        )  # fmt: skip
    return checks


def cells_of_positive(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name -> the rows of a cell of the positive control."""
    doses = {"dose 0": 0.0, "dose 1/2": 0.225, "dose 1": 0.45}
    cells = {name: wiki(rows, mention_share=0, upstream_spread=spread) for name, spread in doses.items()}
    cells["dose 1, reinitialised"] = wiki(rows, "reinitialise", mention_share=0, upstream_spread=0.45)
    cells["dose 1, permuted"] = wiki(rows, order=1, mention_share=0, upstream_spread=0.45)
    return cells


def worlds(nothing: pd.DataFrame) -> pd.DataFrame:
    """The slope on the measured x per SD, and its p, for each world and both outcomes."""
    results = []
    for world, rows in nothing.groupby("data.world"):
        rows = rows.assign(x=stats.zscore(rows["negative_sentiment"]))
        for outcome in ("logit_gap", "log_fpr"):
            on_x = slope(rows, outcome, "x")
            results.append(
                {"world": world, "outcome": outcome, "slope": on_x.value, "p": on_x.p, "fpr": rows["fpr"].mean()}
            )
    return pd.DataFrame(results)


def negative(nothing: pd.DataFrame | None) -> list[Check]:
    """The negative control: nothing is planted. How often is a slope significant?"""
    if nothing is None:
        return []
    by_world = worlds(nothing)
    checks = []
    for outcome, of_outcome in by_world.groupby("outcome"):
        count, n = int((of_outcome["p"] < 0.05).sum()), len(of_outcome)
        low, high = stats.binomtest(count, n).proportion_ci()
        result = f"{count} of {n} at p < .05: {count / n:.0%} [{low:.0%}, {high:.0%}]"
        checks.append(
            Check(f"negative, {outcome}: rejections", "near 5 %: the interval contains it", result, low <= 0.05 <= high)
        )
    values = by_world.loc[by_world["outcome"] == "log_fpr", "slope"].to_numpy(float)
    half = float(stats.t.ppf(0.95, len(values) - 1) * stats.sem(values))
    low, high = float(values.mean()) - half, float(values.mean()) + half
    result = (
        f"{values.mean():+.4f}, 90 % [{low:+.4f}, {high:+.4f}] over {len(values)} worlds; smallest margin that would "
    )
    result += f"pass: {max(abs(low), abs(high)):.3f}"
    criterion = f"mean slope on ln FPR per SD of x within +-{MARGIN} (TOST)"
    checks.append(Check("negative: equivalence", criterion, result, max(abs(low), abs(high)) < MARGIN))
    return checks
