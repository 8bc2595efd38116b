"""Interactions with pre-training, behind the poster's "only when it is not pre-trained" and "learns biases more easily".

Each is tested as a difference of differences, not by comparing two p values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.data.cells import by_group
from analysis.data.runs import UNTOUCHED
from analysis.estimands.arm_effects import change, effect_row, why_unpaired, wide
from analysis.estimands.rows import RowContext, frame, studies
from analysis.estimands.slopes import group_means, standardised
from analysis.stats.inference import infer, method
from analysis.stats.regression import RefusedError, fit, from_rows
from analysis.stats.wild_bootstrap import DRAWS

NOT_PRETRAINED = "reinitialise"
ARM, DATASET = "arm x pre-trained", "pre-trained x dataset bias"
"""Their names in the column `estimand`."""


def not_pretrained(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of models that were not pre-trained: `reinitialise` at dose 1."""
    return cells[(cells["upstream"] == NOT_PRETRAINED) & (cells["upstream_dose"] == 1)]


def arm_by_pretrained(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """The effect of each downstream arm on the pre-trained model minus its effect on a model that was not pre-trained.

    Paired by seed, averaged over groups, and tested as in A (t over models or, with one model, over seeds). Three rows per arm,
    with `rows.COLUMNS` and estimand "arm x pre-trained": terms "ARM | pre-trained", "ARM | not pre-trained" and "ARM |
    difference". Only the last can support the claim that an arm works *only* on one of the two.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, ARM):
        pretrained = wide(of_study[of_study["upstream"] == "none"])
        fresh = {_downstream(arm): y for arm, y in wide(not_pretrained(of_study)).items()}
        for arm in pretrained:
            if arm != UNTOUCHED:
                rows += _crossed(_downstream(arm), pretrained[arm], pretrained.get(UNTOUCHED), fresh, context, draws)
    return frame(rows)


def _downstream(arm: str) -> str:
    """The downstream part of `upstream + downstream`; the upstream part's options may contain a plus."""
    return arm.rpartition(" + ")[2]


def _crossed(
    arm: str,
    treated: pd.DataFrame,
    untouched: pd.DataFrame | None,
    fresh: dict[str, pd.DataFrame],
    context: RowContext,
    draws: int,
) -> list[dict[str, Any]]:
    sides = {"pre-trained": (treated, untouched), "not pre-trained": (fresh.get(arm), fresh.get("none"))}
    moved = {side: change(*pair) for side, pair in sides.items()}
    moved["difference"] = change(moved["pre-trained"], moved["not pre-trained"])
    if lacking := [side for side in sides if moved[side].empty]:
        reasons = "; ".join(f"{side}: {_why_missing(side, arm, sides[side])}" for side in lacking)
        return [context.row(f"{arm} | difference", reason=f"not tested: {reasons}")]
    return [_side(moved[side], f"{arm} | {side}", context, draws) for side in moved]


def _why_missing(side: str, arm: str, pair: Sequence[pd.DataFrame | None]) -> str:
    if side == "not pre-trained" and (pair[0] is None or pair[1] is None):
        return f"no finished trials of {NOT_PRETRAINED}=1 with {arm if pair[0] is None else 'none'}"
    return why_unpaired(*pair)


def _side(moved: pd.DataFrame, term: str, context: RowContext, draws: int) -> dict[str, Any]:
    if moved.empty:
        return context.row(term, reason="the two share no seed or no group")
    return effect_row(moved.mean(), term, context, moved.shape, draws)


def pretrained_by_dataset(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """Whether a pre-trained model follows dataset bias more closely: slopes on z, per SD, associational as B is.

    The slopes, between groups and at equal upstream bias of the pre-trained model, of y(pre-trained), of y(not pre-trained)
    and of their difference: terms "z | pre-trained", "z | not pre-trained" and "z | difference". The downstream arm is none,
    and y is the mean over the seeds that both have, within a pre-training seed first.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, DATASET):
        fresh = not_pretrained(of_study[of_study["downstream"] == "none"])
        untouched = of_study[of_study["arm"] == UNTOUCHED]
        shared = set(fresh["seed"]) & set(untouched["seed"])
        models = {"pre-trained": untouched, "not pre-trained": fresh}
        sides = {side: rows_of[rows_of["seed"].isin(shared)] for side, rows_of in models.items()}
        if not shared:
            why = f"not tested: this needs trials of {UNTOUCHED} and of {NOT_PRETRAINED}=1 + none with the same seeds"
            rows.append(context.row("z | difference", reason=why))
            continue
        rows += [_slope(side, means, context, draws) for side, means in _by_group(sides, context).items()]
    return frame(rows)


def _by_group(sides: dict[str, pd.DataFrame], context: RowContext) -> dict[str, pd.DataFrame]:
    """Side -> one row per group: x and z of the untouched model, and y of the side."""
    base = group_means(sides["pre-trained"])
    y = {side: by_group(of_side, ["y"])["y"] for side, of_side in sides.items()}
    y["difference"] = y["pre-trained"] - y["not pre-trained"]
    rows = standardised(base, context)
    return {side: rows.assign(y=rows["group"].map(values)) for side, values in y.items()}


def _slope(side: str, means: pd.DataFrame, context: RowContext, draws: int) -> dict[str, Any]:
    term = f"z | {side}"
    try:
        fitted = fit(from_rows(means, ("x", "z"), within=False))
        if "z" in fitted.panel.constant:
            raise RefusedError("z does not vary over groups")
        result = infer(fitted, {"z": 1.0}, draws)
    except RefusedError as refusal:
        return context.row(term, reason=str(refusal))
    return context.row(
        term, **result.columns, n=fitted.panel.n, clusters=fitted.groups, unit=f"{context.outcome.unit} per SD",
        scale=context.scales.get("z", math.nan), method=method(fitted.groups, draws), n_groups=fitted.groups,
        adjusted_for="x",
    )  # fmt: skip
