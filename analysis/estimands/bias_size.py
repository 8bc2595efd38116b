"""How large an arm's bias is over groups, without the noise that a mean of |y| would count as bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.estimands.arm_effects import matched
from analysis.estimands.arm_effects import nothing
from analysis.estimands.arm_effects import wide
from analysis.data.runs import UNTOUCHED
from analysis.stats.quantiles import t_quantile
from analysis.estimands.sentences import Context
from analysis.estimands.sentences import frame
from analysis.estimands.sentences import interval
from analysis.estimands.sentences import studies

OVER = "jackknife over seeds, on squares"
"""Groups are taken as they are; another seed is what could have come out otherwise."""


def square_of_bias(y: np.ndarray) -> float:
    """y: (groups, seeds), nothing missing. Mean over groups and pairs of different seeds of y(g,s) y(g,s'), y centred over
    groups (SCIENCE.md, "Downstream bias"). May be negative; NaN for one seed or group.

    Noise that seeds do not share drops out of the products.
    """
    groups, seeds = y.shape
    if seeds < 2 or groups < 2:
        return math.nan
    centred = y - y.mean(axis=0)
    return float(((centred.sum(axis=1) ** 2 - (centred**2).sum(axis=1)) / (seeds * (seeds - 1))).mean())


def size_of_bias(y: np.ndarray) -> tuple[float, int]:
    """y: (groups, seeds). The square root of `square_of_bias`, floored at 0, and the number of groups without a gap."""
    whole = y[~np.isnan(y).any(axis=1)]
    return root(square_of_bias(whole)), len(whole)


def root(square: float) -> float:
    """Floored at 0; NaN stays."""
    return square if math.isnan(square) else math.sqrt(max(0.0, square))


def jackknifed(y: np.ndarray) -> tuple[float, float]:
    """y: (groups, seeds). The square of the size of bias and its standard error from leaving out each seed; NaN for fewer
    than three seeds."""
    seeds = y.shape[1]
    left = np.array([square_of_bias(np.delete(y, seed, axis=1)) for seed in range(seeds)])
    if seeds < 3:
        return square_of_bias(y), math.nan
    return square_of_bias(y), math.sqrt((seeds - 1) / seeds * float(((left - left.mean()) ** 2).sum()))


def sizes(cells: pd.DataFrame) -> pd.DataFrame:
    """Each arm's size of bias, a row an arm of `sentences.COLUMNS` with estimand "size". The interval is for these groups
    and other seeds: each seed is left out in turn; t on the square, of which the root is shown."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "size"):
        rows += [_size(y, arm, context) for arm, y in wide(own).items()]
    return frame(rows)


def _size(wide_y: pd.DataFrame, arm: str, context: Context) -> dict[str, Any]:
    y = wide_y.dropna().to_numpy(float)
    groups, seeds = y.shape
    square, error = jackknifed(y)
    ends = [square + error * t_quantile(level, max(seeds - 1, 1)) for level in (0.025, 0.975, 0.05, 0.95)]
    low, high, low_90, high_90 = map(root, ends)
    return context.row(
        arm, coefficient=root(square), low=low, high=high, low_90=low_90, high_90=high_90, n=y.size, clusters=seeds,
        unit=f"SD of {context.outcome.unit} over groups", method="" if math.isnan(error) else OVER,
        sentence=_sentence(arm, (root(square), low, high), y.shape, context), reason=_few(seeds, groups),
    )  # fmt: skip


def _sentence(arm: str, values: Sequence[float], shape: Sequence[int], context: Context) -> str:
    if math.isnan(values[0]):
        return ""
    told = interval(values, [f"{value:.3g}" for value in values[1:]])
    over = f"{shape[0]} groups, from what {shape[1]} seeds share"
    return f"Under {arm}, bias has a size of {values[0]:.3g} (SD of {context.outcome.unit} over {over}; {told})."


def _change_sentence(arm: str, values: Sequence[float], seeds: int, context: Context) -> str:
    if math.isnan(values[0]):
        return ""
    middle, *bounds = (f"{value:+.3g}" for value in values)
    over = f"SD of {context.outcome.unit} over groups, {seeds} paired seeds"
    return f"{arm} changed the size of bias by {middle} ({over}; {interval(values, bounds)})."


def _few(seeds: int, groups: int) -> str:
    if groups < 2:
        return f"{groups} groups have an outcome in all seeds: there is nothing to compare"
    if seeds < 2:
        return "one seed: noise and bias cannot be told apart"
    return "two seeds give no interval" if seeds < 3 else ""


def size_changes(cells: pd.DataFrame) -> pd.DataFrame:
    """By how much an arm's size of bias differs from the untouched arm's, a row an arm with estimand "size change": over the
    seeds and groups that both have, interval by leaving out a seed in both (t)."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "size change"):
        arms = wide(own)
        rows += [_change(arms, arm, context) for arm in arms if arm != UNTOUCHED]
    return frame(rows)


def _change(arms: dict[str, pd.DataFrame], arm: str, context: Context) -> dict[str, Any]:
    pair = matched(arms[arm], arms.get(UNTOUCHED))
    if pair[0].empty:
        return context.row(arm, reason=nothing(arms[arm], arms.get(UNTOUCHED)))
    treated, untouched = (one.to_numpy(float) for one in pair)
    groups, seeds = treated.shape
    value, error = _difference(treated, untouched)
    unit = f"SD of {context.outcome.unit} over groups"
    reach = error * t_quantile(0.975, max(seeds - 1, 1))
    narrow = error * t_quantile(0.95, max(seeds - 1, 1))
    return context.row(
        arm, coefficient=value, standard_error=error, low=value - reach, high=value + reach, low_90=value - narrow,
        high_90=value + narrow, n=treated.size, clusters=seeds, unit=unit,
        method="" if math.isnan(error) else "jackknife over paired seeds", reason=_few(seeds, groups),
        sentence=_change_sentence(arm, (value, value - reach, value + reach), seeds, context),
    )  # fmt: skip


def _difference(treated: np.ndarray, untouched: np.ndarray) -> tuple[float, float]:
    """(groups, seeds) each. Difference of sizes and its jackknife error over seeds."""
    value = root(square_of_bias(treated)) - root(square_of_bias(untouched))
    seeds = treated.shape[1]
    if seeds < 3:
        return value, math.nan
    left = np.array(
        [
            root(square_of_bias(np.delete(treated, seed, axis=1)))
            - root(square_of_bias(np.delete(untouched, seed, axis=1)))
            for seed in range(seeds)
        ]
    )
    return value, math.sqrt((seeds - 1) / seeds * float(((left - left.mean()) ** 2).sum()))


def spreads(cells: pd.DataFrame) -> pd.DataFrame:
    """study, outcome, arm, spread, lowest, highest, groups, seeds: SD and range over groups of the mean over seeds, noise
    and all (size of bias is the part that seeds share)."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "size"):
        for arm, y in wide(own).items():
            means = y.dropna().mean(axis=1)
            told = {"spread": means.std(), "lowest": means.min(), "highest": means.max()}
            rows.append(
                {
                    "study": context.study,
                    "outcome": context.metric,
                    "arm": arm,
                    **told,
                    "groups": len(means),
                    "seeds": y.shape[1],
                }
            )
    return pd.DataFrame(rows)
