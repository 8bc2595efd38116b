"""The controls: what is asked of each, and what the runs show."""

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
"""Least correlation over groups of what was planted with what is measured upstream."""
RATES = (0.1, 0.6)
"""Mean FPR must lie between them, in both arms: a saturated rate makes a slope vanish by itself."""
FLOOR = 0.8
"""Least ROC AUC of the classifier in both arms."""
MARGIN = 0.10
"""Slopes on ln FPR per SD of x within it count as none (SCIENCE.md's suggestion, stated beforehand)."""


@dataclass(frozen=True)
class Slope:
    """A coefficient over groups, with its 95 % interval (HC3, t) and p."""

    value: float
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], n = {self.n}"

    @property
    def found(self) -> bool:
        """The interval lies above 0."""
        return self.low > 0

    @property
    def none(self) -> bool:
        """The interval holds 0."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Check:
    """One control: what was asked, what was found, whether it holds."""

    control: str
    asked: str
    found: str
    holds: bool


def groups(experiment: str, uri: str | None) -> pd.DataFrame:
    """One row a trial and group: the trial's options, what was planted, x, dataset bias, FPR and its n, logit gap, utility."""
    runs = load(experiment, None, uri)
    trials = pd.DataFrame([{"trial": one.id, **one.options} for one in runs.sweep.trials])
    by_group = runs.table[(runs.table["group"] != "") & runs.table["metric"].isin(METRICS)]
    own = by_group[(by_group["template"] == "") | by_group["metric"].isin(AVERAGED)]
    wide = own.pivot_table(index=["trial", "group"], columns="metric", values="value", aggfunc="mean").reset_index()
    counts = own[own["metric"].isin(["fpr", "toxic_share", "she_share"])]
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
METRICS = (
    *AVERAGED, "planted_share", "planted_direction", "planted_toxic_share", "planted_toxic_direction", "planted_she_share",
    "toxic_share", "she_share", "fpr", "logit_gap", "tpr_gap",
)  # fmt: skip


def slopes(rows: pd.DataFrame, outcome: str, terms: Sequence[str]) -> list[Slope]:
    """Coefficients of the terms in a linear regression over groups of the outcome's mean over seeds."""
    means = rows.groupby("group")[[outcome, *terms]].mean().dropna()
    found = sm.OLS(means[outcome], sm.add_constant(means[list(terms)])).fit(cov_type="HC3", use_t=True)
    interval = found.conf_int()
    return [
        Slope(found.params[term], interval.loc[term, 0], interval.loc[term, 1], found.pvalues[term], len(means))
        for term in terms
    ]


def slope(rows: pd.DataFrame, outcome: str, term: str = "planted_direction") -> Slope:
    """The same with one term."""
    return slopes(rows, outcome, [term])[0]


def wiki(rows: pd.DataFrame, upstream: str = "none", order: int = 0, **options: float) -> pd.DataFrame:
    """The rows of one cell of controls.yaml."""
    wanted = {"data.order": order, "data.correlation": 0.0, **{f"data.{key}": value for key, value in options.items()}}
    chosen = rows[(rows["task"] == "wiki") & (rows["upstream"] == upstream)]
    for key, value in wanted.items():
        chosen = chosen[np.isclose(chosen[key].astype(float), value)]
    if chosen.empty:
        raise UserError(f"the experiment controls has no trial with {wanted}: run tune_configs/controls.yaml as it is")
    return chosen


def manipulation(rows: pd.DataFrame) -> list[Check]:
    """Is what was planted measured back?"""
    planted = rows[(rows["task"] == "wiki") & (rows["upstream"] == "none") & (rows["data.upstream_spread"] == 0.45)]
    checks = []
    for task, own, metric in (
        ("WIKI", planted, "negative_sentiment"),
        ("BIOS", rows[rows["task"] == "bios"], "pronoun_score"),
    ):
        one_model = [own["data.order"].fillna(0), own["model.seed"]]
        found = [_r(rows_of, metric) for _, rows_of in own.groupby(one_model)]
        told = ", ".join(f"{value:.3f}" for value in found)
        n = own["group"].nunique()
        checks.append(
            Check(
                f"manipulation, {task} upstream", f"correlation over groups above {MEASURED_BACK}",
                f"r = {told} (n = {n} groups; one value a pre-trained model)", min(found) > MEASURED_BACK,
            )
        )  # fmt: skip
    for task, share, known in (
        ("wiki", "toxic_share", "planted_toxic_share"),
        ("bios", "she_share", "planted_she_share"),
    ):
        own = rows[(rows["task"] == task) & rows[share].notna()]
        away = ((own[share] - own[known]).abs() * own[f"{share}_n"]).max()
        checks.append(
            Check(
                f"manipulation, {task.upper()} data set", "every share as planted, but for rounding to whole examples",
                f"at most {away:.2f} examples away (n = {len(own)} shares)", away <= 0.5 + 1e-9,
            )
        )  # fmt: skip
    return checks


def _r(rows: pd.DataFrame, metric: str) -> float:
    means = rows.groupby("group")[[metric, "planted_share"]].mean()
    return float(np.corrcoef(means[metric], means["planted_share"])[0, 1])


BOTH = ("planted_direction", "planted_toxic_direction")


def crossed(rows: pd.DataFrame) -> list[Check]:
    """Planted in pre-training (x) or not, in the fine-tuning set (z) or not."""
    checks = []
    for x in (0.0, 0.45):
        for z in (0.0, 0.25):
            own = wiki(rows, mention_share=0.4, upstream_spread=x, dataset_spread=z)
            of_x, of_z = slopes(own, "logit_gap", BOTH)
            right = (of_x.found if x else of_x.none) and (of_z.found if z else of_z.none)
            asked = f"slope on x {'above' if x else 'holds'} 0, on z {'above' if z else 'holds'} 0"
            name = f"2 x 2: {'x planted' if x else 'no x'}, {'z planted' if z else 'no z'}"
            checks.append(Check(name, asked, f"x {of_x}; z {of_z}", right))
    own = wiki(rows, correlation=0.6, mention_share=0.4, upstream_spread=0.45, dataset_spread=0.25)
    of_x, of_z = slopes(own, "logit_gap", BOTH)
    held = of_x.found and of_z.found
    checks.append(
        Check("x and z planted, r = .6", "both slopes above 0, each given the other", f"x {of_x}; z {of_z}", held)
    )
    return checks


def positive(rows: pd.DataFrame) -> list[Check]:
    """The fine-tuning set names no group: bias can only come from pre-training."""
    cells = cells_of_positive(rows)
    checks = []
    for outcome, unit in (("logit_gap", "logits"), ("log_fpr", "ln FPR")):
        found = {name: slope(own, outcome) for name, own in cells.items()}
        none, half, full = found["dose 0"], found["dose 1/2"], found["dose 1"]
        said = "; ".join(f"{name} {value}" for name, value in found.items() if name.startswith("dose"))
        grows = none.none and full.found and none.value < half.value < full.value
        gone = found["dose 1, reinitialised"]
        checks += [
            Check(f"positive, {unit}", "slope on the planted order grows with its dose, from none", said, grows),
            Check(f"positive, {unit}, reinitialised", "slope holds 0", str(gone), gone.none),
        ]
    moved = cells["dose 1, permuted"]
    old = dict(cells["dose 1"].groupby("group")["planted_direction"].first())
    moved = moved.assign(old_direction=moved["group"].map(old))
    new, left = slopes(moved, "logit_gap", ["planted_direction", "old_direction"])
    asked = "slope above 0 on the new order; on the old one it holds 0"
    checks.append(Check("positive, permuted plant", asked, f"new {new}; old {left}", new.found and left.none))
    for name in ("dose 1", "dose 1, reinitialised"):
        own = cells[name]
        rate, auc = own["fpr"].mean(), own["roc_auc"].mean()
        checks.append(
            Check(
                f"positive, {name}: not saturated, useful", f"mean FPR in {RATES[0]} to {RATES[1]}, ROC AUC at least {FLOOR}",
                f"FPR {rate:.3f}, ROC AUC {auc:.3f}", RATES[0] <= rate <= RATES[1] and auc >= FLOOR,
            )
        )  # fmt: skip
    return checks


def cells_of_positive(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name -> the rows."""
    doses = {"dose 0": 0.0, "dose 1/2": 0.225, "dose 1": 0.45}
    found = {name: wiki(rows, mention_share=0, upstream_spread=spread) for name, spread in doses.items()}
    found["dose 1, reinitialised"] = wiki(rows, "reinitialise", mention_share=0, upstream_spread=0.45)
    found["dose 1, permuted"] = wiki(rows, order=1, mention_share=0, upstream_spread=0.45)
    return found


def worlds(nothing: pd.DataFrame) -> pd.DataFrame:
    """World by world: slope on measured x per SD, and its p, for both outcomes."""
    found = []
    for world, own in nothing.groupby("data.world"):
        own = own.assign(x=stats.zscore(own["negative_sentiment"]))
        for outcome in ("logit_gap", "log_fpr"):
            one = slope(own, outcome, "x")
            found.append({"world": world, "outcome": outcome, "slope": one.value, "p": one.p, "fpr": own["fpr"].mean()})
    return pd.DataFrame(found)


def negative(nothing: pd.DataFrame | None) -> list[Check]:
    """Nothing planted: how often is something found?"""
    if nothing is None:
        return []
    found = worlds(nothing)
    checks = []
    for outcome, own in found.groupby("outcome"):
        count, n = int((own["p"] < 0.05).sum()), len(own)
        low, high = stats.binomtest(count, n).proportion_ci()
        told = f"{count} of {n} at p < .05: {count / n:.0%} [{low:.0%}, {high:.0%}]"
        checks.append(
            Check(f"negative, {outcome}: rejections", "near 5 %: the interval holds it", told, low <= 0.05 <= high)
        )
    values = found.loc[found["outcome"] == "log_fpr", "slope"].to_numpy(float)
    half = float(stats.t.ppf(0.95, len(values) - 1) * stats.sem(values))
    low, high = float(values.mean()) - half, float(values.mean()) + half
    told = f"{values.mean():+.4f}, 90 % [{low:+.4f}, {high:+.4f}] over {len(values)} worlds; smallest margin that would pass "
    told += f"{max(abs(low), abs(high)):.3f}"
    asked = f"mean slope on ln FPR per SD of x within +-{MARGIN} (TOST)"
    checks.append(Check("negative: equivalence", asked, told, max(abs(low), abs(high)) < MARGIN))
    return checks
