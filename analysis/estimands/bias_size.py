"""Size of bias: how far groups differ under an arm, without the noise that a mean of |y| would count as bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.runs import UNTOUCHED
from analysis.estimands.arm_effects import matched, why_unpaired, wide
from analysis.estimands.rows import RowContext, frame, studies
from analysis.stats.inference import t_quantile

OVER = "jackknife over seeds, on squares"
"""Groups are fixed; seeds are the sample."""


def square_of_bias(y: np.ndarray) -> float:
    """The square of the size of bias. y: (groups, seeds), without missing values; NaN for a single seed or group.

    The mean over groups and pairs of different seeds of y(g,s) y(g,s'), with y centred over groups (docs/science.md,
    "Downstream bias"). Noise that seeds do not share drops out of the products, so the result may be negative.
    """
    groups, seeds = y.shape
    if seeds < 2 or groups < 2:
        return math.nan
    centred = y - y.mean(axis=0)
    return float(((centred.sum(axis=1) ** 2 - (centred**2).sum(axis=1)) / (seeds * (seeds - 1))).mean())


def spread_of_groups(y: np.ndarray, models: Sequence[int] = ()) -> float:
    """SD over groups of the expected y, without the noise of seeds. y: (groups, seeds); models: each seed's model.

    Always centred over groups, with G - 1 as the divisor, like the scales of x and z. Products are of seeds of one model, and
    squares are averaged over models; 0 where the square is negative. Groups that lack a value are left out. NaN where no model
    has two seeds, and for fewer than two groups. Without `models`, all seeds are of one.
    """
    complete = y[~np.isnan(y).any(axis=1)]
    labels = np.array(models or [0] * y.shape[1])
    groups = len(complete)
    squares = [square_of_bias(complete[:, labels == model]) for model in dict.fromkeys(labels.tolist())]
    known = [square for square in squares if not math.isnan(square)]
    return root(float(np.mean(known)) * groups / (groups - 1)) if known else math.nan


def size_of_bias(y: np.ndarray) -> tuple[float, int]:
    """The square root of `square_of_bias`, floored at 0, and the number of complete groups. y: (groups, seeds)."""
    complete = y[~np.isnan(y).any(axis=1)]
    return root(square_of_bias(complete)), len(complete)


def root(square: float) -> float:
    """Square root, 0 for a negative number; NaN stays NaN."""
    return square if math.isnan(square) else math.sqrt(max(0.0, square))


def jackknifed(y: np.ndarray) -> tuple[float, float]:
    """The square of the size of bias and its jackknife standard error over seeds. y: (groups, seeds).

    The error is NaN for fewer than three seeds.
    """
    seeds = y.shape[1]
    left = np.array([square_of_bias(np.delete(y, seed, axis=1)) for seed in range(seeds)])
    if seeds < 3:
        return square_of_bias(y), math.nan
    return square_of_bias(y), math.sqrt((seeds - 1) / seeds * float(((left - left.mean()) ** 2).sum()))


def sizes(cells: pd.DataFrame) -> pd.DataFrame:
    """Each arm's size of bias: one row per arm, with `rows.COLUMNS` and estimand "size".

    The interval is by jackknife over seeds, so it holds for these groups and other seeds; it is a t interval of the square,
    of whose ends the roots are given.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "size"):
        rows += [_size(y, arm, context) for arm, y in wide(of_study).items()]
    return frame(rows)


def _size(wide_y: pd.DataFrame, arm: str, context: RowContext) -> dict[str, Any]:
    y = wide_y.dropna().to_numpy(float)
    groups, seeds = y.shape
    square, error = jackknifed(y)
    ends = [square + error * t_quantile(level, max(seeds - 1, 1)) for level in (0.025, 0.975, 0.05, 0.95)]
    low, high, low_90, high_90 = map(root, ends)
    return context.row(
        arm, coefficient=root(square), low=low, high=high, low_90=low_90, high_90=high_90, n=y.size, clusters=seeds,
        unit=f"SD of {context.outcome.unit} over groups", method="" if math.isnan(error) else OVER,
        reason=_too_few(seeds, groups), n_groups=groups,
    )  # fmt: skip


def _too_few(seeds: int, groups: int) -> str:
    if groups < 2:
        return f"{groups} groups have an outcome in all seeds: none can be compared"
    if seeds < 2:
        return "one seed: noise cannot be told from bias"
    return "two seeds give no interval" if seeds < 3 else ""


def size_changes(cells: pd.DataFrame) -> pd.DataFrame:
    """The change of the size of bias from the untouched arm to each other arm: one row per arm, estimand "size change".

    Over the seeds and groups that both have; the interval is by jackknife over paired seeds (t).
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "size change"):
        arms = wide(of_study)
        rows += [_change(arms, arm, context) for arm in arms if arm != UNTOUCHED]
    return frame(rows)


def _change(arms: dict[str, pd.DataFrame], arm: str, context: RowContext) -> dict[str, Any]:
    pair = matched(arms[arm], arms.get(UNTOUCHED))
    if pair[0].empty:
        return context.row(arm, reason=why_unpaired(arms[arm], arms.get(UNTOUCHED)))
    treated, untouched = (values.to_numpy(float) for values in pair)
    groups, seeds = treated.shape
    value, error = _difference(treated, untouched)
    unit = f"SD of {context.outcome.unit} over groups"
    reach = error * t_quantile(0.975, max(seeds - 1, 1))
    narrow = error * t_quantile(0.95, max(seeds - 1, 1))
    return context.row(
        arm, coefficient=value, standard_error=error, low=value - reach, high=value + reach, low_90=value - narrow,
        high_90=value + narrow, n=treated.size, clusters=seeds, unit=unit,
        method="" if math.isnan(error) else "jackknife over paired seeds", reason=_too_few(seeds, groups), n_groups=groups,
    )  # fmt: skip


def _difference(treated: np.ndarray, untouched: np.ndarray) -> tuple[float, float]:
    """The difference of the sizes of bias and its jackknife standard error over seeds. Both arrays: (groups, seeds)."""
    value = root(square_of_bias(treated)) - root(square_of_bias(untouched))
    seeds = treated.shape[1]
    if seeds < 3:
        return value, math.nan
    pairs = ([np.delete(y, seed, axis=1) for y in (treated, untouched)] for seed in range(seeds))
    left = np.array([root(square_of_bias(first)) - root(square_of_bias(second)) for first, second in pairs])
    return value, math.sqrt((seeds - 1) / seeds * float(((left - left.mean()) ** 2).sum()))


def spreads(cells: pd.DataFrame) -> pd.DataFrame:
    """study, outcome, arm, spread, lowest, highest, groups, seeds: SD and range over groups of the mean over seeds.

    They include noise, unlike the size of bias, which is the part that seeds share.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "size"):
        for arm, y in wide(of_study).items():
            means = y.dropna().mean(axis=1)
            key = {"study": context.study, "outcome": context.metric, "arm": arm}
            numbers = {"spread": means.std(), "lowest": means.min(), "highest": means.max()}
            rows.append(key | numbers | {"groups": len(means), "seeds": y.shape[1]})
    return pd.DataFrame(rows)
