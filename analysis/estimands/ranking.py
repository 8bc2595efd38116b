"""Ranking of arms: who reduces harm at the least cost in utility, first by dominance and then by harm reduced per utility lost.

The ratio of the two is unstable where hardly any utility is lost, so arms are not ordered by its estimate but by the lower end
of its interval (`stats.fieller`). Estimates decide which arms dominate others; whether that is more than chance is tested.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.cells import Outcome, outcome_named
from analysis.data.runs import UNTOUCHED
from analysis.estimands import trade_off
from analysis.estimands.arm_effects import wide
from analysis.estimands.caveats import unreached
from analysis.estimands.equivalence import SIGNIFICANT, treatments
from analysis.estimands.rows import frame
from analysis.estimands.trade_off import TradeOff
from analysis.stats.multiple_testing import holm
from analysis.stats.paired import Paired

UTILITIES = {"roc_auc": "ROC AUC", "accuracy": "accuracy"}
"""Metric of utility -> its name, the preferred one first."""

MAIN_UTILITY = {"bios": "accuracy"}
"""Task -> the utility by which its arms are ranked in the report; of the others, whose harmful class may be rare, ROC AUC."""

RANKED, NOT_RANKED = "ranked", "not ranked"
CONTROL, FAILED = "control", "manipulation check failed"
"""What is shown apart: arms that are meant to do nothing in particular, and those that did not do what they are to do."""

PER = 0.01
"""The utility, a share, that ratios are per: one point."""

COLUMNS = (
    "study", "outcome", "utility", "main", "standing", "rank", "layer", "arm", "harm_reduced", "harm_low", "harm_high",
    "harm_joint_low", "harm_joint_high", "harm_p", "harm_p_adjusted", "utility_lost", "utility_low", "utility_high",
    "utility_joint_low", "utility_joint_high", "utility_p", "utility_p_adjusted", "correlation", "ratio", "ratio_low",
    "ratio_high", "dominated_by", "seeds", "models", "draws", "clusters", "n_groups", "unit", "method", "reason",
)  # fmt: skip
"""One row per arm, its contrast with the untouched arm.

utility: the metric; main: whether the report ranks by it; rank, layer: NaN unless ranked; harm_reduced: in `unit`;
utility_lost: a share (.01 is a point); *_low, *_high: 95 %; *_joint_*: both hold together in 95 %; *_p_adjusted: Holm over all
arms; correlation: of the two estimates; ratio: `unit` per point of utility, with Fieller's 95 % interval, NaN where there is
none; dominated_by: the arms (the untouched one too) that, by the estimates, do no more harm at no more cost.
"""

PAIR_COLUMNS = (
    "study", "outcome", "utility", "arm", "dominated", "harm_difference", "harm_low", "harm_high", "utility_difference",
    "utility_low", "utility_high", "p", "p_adjusted", "established", "pairs", "seeds", "models", "draws", "unit", "reason",
)  # fmt: skip
"""One row per pair of which, by the estimates, `arm` dominates `dominated`; by the main utility alone.

harm_difference: how much less harm; utility_difference: how much more utility; p: the larger of the two tests', since both have
to hold; p_adjusted: Holm over all `pairs` of ranked arms and the untouched one; established: p_adjusted below .05.
"""


@dataclass(frozen=True, eq=False)
class Field:
    """What the arms of one study are ranked by."""

    study: str
    outcome: str
    utility: str
    main: bool
    harm: trade_off.Arms
    scores: trade_off.Arms

    @property
    def of_outcome(self) -> Outcome:
        """The outcome's unit and meaning."""
        return outcome_named(self.outcome)

    @property
    def key(self) -> dict[str, Any]:
        """The columns that its rows share."""
        return {"study": self.study, "outcome": self.outcome, "utility": self.utility, "main": self.main}

    def against(self, arm: str, base: str) -> TradeOff:
        """The trade-off of one arm against another."""
        return trade_off.trade_off(self.harm, self.scores, arm, base, self.of_outcome)


def fields(table: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Field]:
    """One per study and utility that was measured."""
    measured = table[(table["stage"] == "utility") & (table["group"] == "") & table["value"].notna()]
    for name, of_study in cells.groupby("study", sort=False):
        scores = measured[measured["study"] == name]
        metrics = [metric for metric in UTILITIES if (scores["metric"] == metric).any()]
        harm = wide(of_study)
        main = main_utility(str(of_study["task"].iloc[0]), metrics)
        for metric in metrics:
            arms = wide(scores[scores["metric"] == metric].astype({"arm": str}), "value")
            yield Field(str(name), str(of_study["outcome"].iloc[0]), metric, metric == main, harm, arms)


def main_utility(task: str, measured: Collection[str]) -> str:
    """The utility that a task's arms are ranked by: the task's own if it was measured, else any that was."""
    wanted = MAIN_UTILITY.get(task, next(iter(UTILITIES)))
    return wanted if wanted in measured else next(iter(measured), wanted)


def apart(
    table: pd.DataFrame, cells: pd.DataFrame, displaced: pd.DataFrame, marked: Collection[str]
) -> dict[tuple[str, str], str]:
    """(study, arm) -> `CONTROL` or `FAILED`, for the arms that are not ranked whatever they do.

    displaced: `equivalence.displacements`; marked: ids of trials with an option `control`. An arm on the model failed if the
    interval of its displacement is not above the bound, one on the data if it reached the prompt of no trial. What is unknown
    has not failed.
    """
    standing = dict[tuple[str, str], str]()
    for name, of_study in cells.groupby("study", sort=False):
        study, failed = str(name), set(_unmoved(displaced, str(name)))
        failed |= {each.arm for each in unreached(table[table["study"] == name]) if each.trials == each.of}
        standing |= {(study, arm): FAILED for arm in failed}
        standing |= {(study, arm): CONTROL for arm in _controls(of_study, marked)}
    return standing


def _unmoved(displaced: pd.DataFrame, study: str) -> Iterable[str]:
    rows = displaced[displaced["study"] == study]
    return [str(row["arm"]) for row in rows.to_dict("records") if not pd.isna(row["moved"]) and not row["moved"]]


def _controls(cells: pd.DataFrame, marked: Collection[str]) -> set[str]:
    upstream = cells[cells["upstream"] != "none"]
    not_treated = set(upstream["arm"]) - set(treatments(cells, marked))
    return {str(arm) for arm in not_treated | set(cells.loc[cells["trial"].isin(set(marked)), "arm"])}


def ranking(
    table: pd.DataFrame, cells: pd.DataFrame, standing: Mapping[tuple[str, str], str] | None = None
) -> pd.DataFrame:
    """The arms of each study in their order, with `COLUMNS`; those that are not ranked come last. standing: `apart`."""
    rows = list[dict[str, Any]]()
    for field in fields(table, cells):
        rows += _ordered([_row(field, arm, standing or {}) for arm in field.harm if arm != UNTOUCHED])
    return frame(rows, COLUMNS)


def _row(field: Field, arm: str, standing: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    off = field.against(arm, UNTOUCHED)
    place = standing.get((field.study, arm), RANKED if off.known else NOT_RANKED)
    numbers = _estimates("harm_reduced", "harm", off.harm) | _estimates("utility_lost", "utility", off.utility)
    ratio = off.ratio
    ends = {"ratio": PER * ratio.value, "ratio_low": PER * ratio.low, "ratio_high": PER * ratio.high}
    about = {
        "correlation": off.correlation, **off.counts, "clusters": off.harm.units, "n_groups": off.n_groups,
        "unit": trade_off.unit(field.of_outcome), "method": off.harm.method, "reason": off.reason,
    }  # fmt: skip
    unranked = {"rank": math.nan, "layer": math.nan, "dominated_by": ""}
    return field.key | {"standing": place, "arm": arm} | numbers | ends | about | unranked


def _estimates(name: str, prefix: str, test: Paired) -> dict[str, float]:
    low, high = trade_off.joint_interval(test)
    ends = {"low": test.low, "high": test.high, "joint_low": low, "joint_high": high, "p": test.p}
    return {name: test.mean, **{f"{prefix}_{end}": value for end, value in ends.items()}}


def _ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ranks, and with p values corrected over all arms, ranked or not, as A's are."""
    for name in ("harm_p", "utility_p"):
        for row, adjusted in zip(rows, holm(pd.Series([row[name] for row in rows], dtype=float)), strict=True):
            row[f"{name}_adjusted"] = adjusted
    candidates = [row for row in rows if row["standing"] == RANKED]
    for row in candidates:
        row["dominated_by"] = ", ".join(
            name for name, point in _points(candidates).items() if _beats(point, _point(row))
        )
    layer = _layers(_points(candidates))
    candidates.sort(key=lambda row: (layer[row["arm"]], *_merit(row)))
    for rank, row in enumerate(candidates, 1):
        row |= {"rank": float(rank), "layer": float(layer[row["arm"]])}
    return candidates + [row for row in rows if row["standing"] != RANKED]


Point = tuple[float, float]
"""Harm reduced, utility lost."""


def _point(row: Mapping[str, Any]) -> Point:
    return row["harm_reduced"], row["utility_lost"]


def _points(rows: list[dict[str, Any]]) -> dict[str, Point]:
    """Those of the arms, and of doing nothing."""
    return {UNTOUCHED: (0.0, 0.0), **{row["arm"]: _point(row) for row in rows}}


def _beats(first: Point, second: Point) -> bool:
    return first != second and first[0] >= second[0] and first[1] <= second[1]


def _layers(points: Mapping[str, Point]) -> dict[str, int]:
    """Arm -> 1 if no other dominates it, 2 if only such ones do, and so on."""
    layers = dict[str, int]()
    while len(layers) < len(points):
        left = {arm: point for arm, point in points.items() if arm not in layers}
        front = [arm for arm, point in left.items() if not any(_beats(other, point) for other in left.values())]
        layers |= dict.fromkeys(front, max(layers.values(), default=0) + 1)
    return layers


def _merit(row: Mapping[str, Any]) -> tuple[int, float]:
    """What arms of one layer are sorted by.

    First come arms that reduce harm and gain utility (both intervals leave out 0); then those that reduce harm, by the lower
    end of the ratio; then those with 0 in the interval of their change of harm, and last those that raise harm, by the harm
    reduced.
    """
    if row["harm_low"] > 0 and row["utility_high"] < 0:
        return 0, -row["harm_reduced"]
    if row["ratio_low"] > 0:
        return 1, -row["ratio_low"]
    return (3 if row["harm_high"] < 0 else 2), -row["harm_reduced"]


def dominance(table: pd.DataFrame, cells: pd.DataFrame, ranked: pd.DataFrame) -> pd.DataFrame:
    """The pairs of which one arm dominates the other by the estimates, and whether that is more than chance: `PAIR_COLUMNS`.

    ranked: `ranking` of the same cells. A pair that does not is tested too, with p = 1: it counts in Holm's correction.
    """
    rows = list[dict[str, Any]]()
    for field in (field for field in fields(table, cells) if field.main):
        chosen = (ranked["study"] == field.study) & ranked["main"] & (ranked["standing"] == RANKED)
        pairs = [
            _pair(field, *ordered) for ordered in itertools.combinations(_points(_records(ranked[chosen])).items(), 2)
        ]
        adjusted = holm(pd.Series([pair["p"] for pair in pairs], dtype=float))
        for pair, p in zip(pairs, adjusted, strict=True):
            pair |= {"p_adjusted": p, "established": bool(p < SIGNIFICANT), "pairs": len(pairs)}
        rows += [pair for pair in pairs if pair["arm"]]
    return frame(rows, PAIR_COLUMNS)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _pair(field: Field, one: tuple[str, Point], other: tuple[str, Point]) -> dict[str, Any]:
    """The pair in the order of dominance; without arms where neither dominates the other."""
    for (arm, point), (base, its_point) in ((one, other), (other, one)):
        if _beats(point, its_point):
            tests = _tests(field.against(arm, base))
            key = {name: value for name, value in field.key.items() if name != "main"}
            return key | {"arm": arm, "dominated": base, "unit": trade_off.unit(field.of_outcome)} | tests
    return {"arm": "", "p": 1.0}


def _tests(off: TradeOff) -> dict[str, Any]:
    harm, utility = off.both
    larger = max(harm.p, utility.p) if off.known else math.nan
    return {
        "harm_difference": harm.mean, "harm_low": harm.low, "harm_high": harm.high, "utility_difference": -utility.mean,
        "utility_low": -utility.high, "utility_high": -utility.low, "p": larger if off.dominates else 1.0,
        **off.counts, "reason": off.reason,
    }  # fmt: skip
