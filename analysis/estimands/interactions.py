"""The two interactions behind the poster's "only when it is not pre-trained" and "a pre-trained model learns biases more
easily", each tested as one: a difference of differences, not two p values laid side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.estimands.arm_effects import change
from analysis.estimands.arm_effects import effect_row
from analysis.estimands.arm_effects import nothing
from analysis.estimands.arm_effects import wide
from analysis.stats.inference import infer
from analysis.stats.inference import method
from analysis.data.runs import UNTOUCHED
from analysis.stats.regression import Fit
from analysis.stats.regression import RefusedError
from analysis.stats.regression import fit
from analysis.stats.regression import from_rows
from analysis.estimands.slopes import group_means
from analysis.estimands.slopes import standardised
from analysis.estimands.sentences import Context
from analysis.estimands.sentences import frame
from analysis.estimands.sentences import interval
from analysis.estimands.sentences import studies
from analysis.stats.wild_bootstrap import DRAWS

NOT_PRETRAINED = "reinitialise"
ARM, DATASET = "arm x pre-trained", "pre-trained x dataset bias"
"""Their names in the column estimand."""


def fresh(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows of models that were not pre-trained: reinitialise with dose 1."""
    return cells[(cells["upstream"] == NOT_PRETRAINED) & (cells["upstream_dose"] == 1)]


def arm_by_pretrained(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """For each downstream arm: its effect on the pre-trained model less its effect on one that was not, paired by seed and
    averaged over groups (t over seeds). Three rows an arm of `sentences.COLUMNS`, estimand "arm x pre-trained": terms
    "ARM | pre-trained", "ARM | not pre-trained" and "ARM | difference"; only the last tells an "only"."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, ARM):
        bare, new = wide(own[own["upstream"] == "none"]), wide(fresh(own))
        untreated = {_downstream(arm): y for arm, y in new.items()}
        for arm in bare:
            if arm != UNTOUCHED:
                rows += _crossed(_downstream(arm), bare[arm], bare.get(UNTOUCHED), untreated, context, draws)
    return frame(rows)


def _downstream(arm: str) -> str:
    """Of `upstream + downstream`; an upstream arm's options may hold a plus."""
    return arm.rpartition(" + ")[2]


def _crossed(
    arm: str,
    treated: pd.DataFrame,
    untouched: pd.DataFrame | None,
    new: dict[str, pd.DataFrame],
    context: Context,
    draws: int,
) -> list[dict[str, Any]]:
    sides = {"pre-trained": (treated, untouched), "not pre-trained": (new.get(arm), new.get("none"))}
    moved = {side: change(*pair) for side, pair in sides.items()}
    moved["difference"] = change(moved["pre-trained"], moved["not pre-trained"])
    if lacking := [side for side in sides if moved[side].empty]:
        why = "; ".join(f"{side}: {_absent(side, arm, sides[side])}" for side in lacking)
        return [context.row(f"{arm} | difference", reason=f"not tested: {why}")]
    words = {
        side: f"On the {side} model, {arm} changed {context.outcome.label} by {{}} on average over {{groups}} groups"
        for side in sides
    }
    words["difference"] = (
        f"What {arm} changed differs by {{}} {context.noun} between the pre-trained model and one that was not"
    )
    return [_side(moved[side], f"{arm} | {side}", words[side], context, draws) for side in moved]


def _absent(side: str, arm: str, pair: Sequence[pd.DataFrame | None]) -> str:
    if side == "not pre-trained" and (pair[0] is None or pair[1] is None):
        return f"no finished trials of {NOT_PRETRAINED}=1 with {arm if pair[0] is None else 'none'}"
    return nothing(*pair)


def _side(moved: pd.DataFrame, term: str, words: str, context: Context, draws: int) -> dict[str, Any]:
    if moved.empty:
        return context.row(term, reason="the two share no seed or no group")
    means = moved.to_numpy(float).mean(axis=0)
    return effect_row(means, term, words.replace("{groups}", str(len(moved))), context, moved.size, draws)


def pretrained_by_dataset(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Does a pre-trained model follow dataset bias more closely? Between groups (B's kind, associational): the slope on z of
    y(pre-trained), of y(not pre-trained), and of their difference by group, each at equal upstream bias of the pre-trained
    model; downstream arm none, means over the seeds that both have. Terms "z | pre-trained", "z | not pre-trained",
    "z | difference", per SD of z."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, DATASET):
        new = fresh(own[own["downstream"] == "none"])
        bare = own[own["arm"] == UNTOUCHED]
        shared = set(new["seed"]) & set(bare["seed"])
        sides = {side: one[one["seed"].isin(shared)] for side, one in (("pre-trained", bare), ("not pre-trained", new))}
        if not shared:
            why = f"not tested: it takes trials of {UNTOUCHED} and of {NOT_PRETRAINED}=1 + none with the same seeds"
            rows.append(context.row("z | difference", reason=why))
            continue
        rows += [_slope(side, means, context, draws) for side, means in _by_group(sides, context).items()]
    return frame(rows)


def _by_group(sides: dict[str, pd.DataFrame], context: Context) -> dict[str, pd.DataFrame]:
    """Side -> group, x, z of the untouched model, and the side's y."""
    base = group_means(sides["pre-trained"])
    y = {side: one.groupby("group")["y"].mean() for side, one in sides.items()}
    y["difference"] = y["pre-trained"] - y["not pre-trained"]
    rows = standardised(base, context)
    return {side: rows.assign(y=rows["group"].map(values)) for side, values in y.items()}


def _slope(side: str, means: pd.DataFrame, context: Context, draws: int) -> dict[str, Any]:
    term = f"z | {side}"
    try:
        found = fit(from_rows(means, ("x", "z"), within=False))
        if "z" in found.panel.constant:
            raise RefusedError("z does not vary over groups")
        return _line(found, side, context, draws)
    except RefusedError as refusal:
        return context.row(term, reason=str(refusal))


def _line(found: Fit, side: str, context: Context, draws: int) -> dict[str, Any]:
    own = infer(found, {"z": 1.0}, draws)
    values = (own.coefficient, own.low, own.high)
    middle, *bounds = context.change(*(0.1 * value for value in values))
    who = "the slopes of the pre-trained model and of one that was not differ by" if side == "difference" else (
        f"on the {side} model, 0.1 SD higher dataset bias, at equal upstream bias, goes with"
    )  # fmt: skip
    per = " per 0.1 SD of dataset bias" if side == "difference" else ""
    sentence = f"Across {found.groups} groups, {who} {middle} {context.noun}{per} ({interval(values, bounds)})."
    scale = context.scales.get("z", math.nan)
    return context.row(
        f"z | {side}", **own.columns, n=found.panel.n, clusters=found.groups, unit=f"{context.outcome.unit} per SD",
        scale=scale, method=method(found.groups, draws), sentence=sentence,
    )  # fmt: skip
