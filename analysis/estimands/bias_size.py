"""Size of bias: how far groups are from no bias under an arm, without the noise that a mean of |y| would count as bias."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.cells import Outcome
from analysis.data.runs import NO_DRAW, REPEATS, UNTOUCHED
from analysis.estimands.arm_effects import balanced, counts, matched, trials_of, why_unpaired, wide
from analysis.estimands.rows import RowContext, frame, studies
from analysis.stats.inference import t_quantile
from analysis.stats.paired import FEW_CROSSED, IDENTICAL_TO

OVER_SEEDS = "jackknife over seeds"
OVER_MODELS = "jackknife over models"
OVER_DRAWS = "jackknife over draws"
CROSSED = "jackknife over draws and over seeds"
"""Groups are fixed; what is left out in turn is the sample."""

IDENTICAL = "all seeds give the same: no interval"


def square_of_bias(y: np.ndarray, centred: bool) -> float:
    """The square of the size of bias of one model. y: (groups, seeds), without missing values.

    The mean over groups and pairs of different seeds of y(g,s) y(g,s'), so that noise that seeds do not share drops out; the
    result may be negative. centred: y is centred over groups first, for outcomes without a natural zero (`Outcome.zero`,
    docs/science.md, "Downstream bias"). NaN for a single seed, and for a single group if centred.
    """
    groups, seeds = y.shape
    if seeds < 2 or groups < (2 if centred else 1):
        return math.nan
    values = y - y.mean(axis=0) if centred else y
    return float(((values.sum(axis=1) ** 2 - (values**2).sum(axis=1)) / (seeds * (seeds - 1))).mean())


def spread_of_groups(y: np.ndarray, models: Sequence[int] = ()) -> float:
    """SD over groups of the expected y, without the noise of seeds. y: (groups, seeds); models: each seed's model
    (`replicate`).

    Always centred over groups, with G - 1 as the divisor, like the scales of x and z. Products are of seeds of one model, and
    squares are averaged over models; 0 where the square is negative. Groups that lack a value are left out. NaN where no model
    has two seeds, and for fewer than two groups. Without `models`, all seeds are of one.
    """
    complete = y[~np.isnan(y).any(axis=1)]
    labels = np.array(models or [0] * y.shape[1])
    groups = len(complete)
    squares = [square_of_bias(complete[:, labels == model], centred=True) for model in dict.fromkeys(labels.tolist())]
    known = [square for square in squares if not math.isnan(square)]
    return root(float(np.mean(known)) * groups / (groups - 1)) if known else math.nan


def mean_square(y: np.ndarray, columns: pd.Index, centred: bool) -> float:
    """`square_of_bias`, averaged over the draws of a model, then over models. y: (groups, trials); columns: its `runs.REPEATS`.

    Pairs are of fine-tuning seeds of one model and draw; those with a single seed are left out.
    """
    trials: dict[int, dict[int, list[int]]] = {}
    for number, (model, draw, _) in enumerate(trials_of(columns)):
        trials.setdefault(model, {}).setdefault(draw, []).append(number)
    squares = [[square_of_bias(y[:, of_draw], centred) for of_draw in draws.values()] for draws in trials.values()]
    known = [[square for square in of_model if not math.isnan(square)] for of_model in squares]
    means = [float(np.mean(of_model)) for of_model in known if of_model]
    return float(np.mean(means)) if means else math.nan


def size_of_bias(y: pd.DataFrame, outcome: Outcome) -> tuple[float, int]:
    """The root of `mean_square`, floored at 0, and the number of complete groups. y: (groups, trials), as `wide` gives it."""
    complete = y.dropna()
    return root(mean_square(complete.to_numpy(float), complete.columns, not outcome.zero)), len(complete)


def root(square: float) -> float:
    """Square root, 0 for a negative number; NaN stays NaN."""
    return square if math.isnan(square) else math.sqrt(max(0.0, square))


@dataclass(frozen=True)
class Jackknife:
    """A jackknife standard error."""

    error: float
    """NaN where there are too few units, or where all give the same."""
    units: int
    """What was left out in turn: models or, with one model, seeds; of draws crossed with seeds, the fewer of the two."""
    method: str = ""
    reason: str = ""

    def interval(self, middle: float, level: float) -> tuple[float, float]:
        """The two-sided t interval about `middle`."""
        reach = self.error * t_quantile((1 + level) / 2, max(self.units - 1, 1))
        return middle - reach, middle + reach


Statistic = Callable[[np.ndarray], float]
"""From the trials that are used, (trials,) of bool, to a number."""


def jackknife(statistic: Statistic, columns: pd.Index) -> Jackknife:
    """The jackknife error of a statistic. columns: the trials' `runs.REPEATS`.

    Models are left out in turn where there are several, else seeds. Draws of one model are crossed with its seeds: the variance
    is that over draws plus that over seeds minus that over single trials, and no less than either of the first two.
    """
    models, draws, seeds = (columns.get_level_values(level).to_numpy() for level in REPEATS)
    several = {level: len(set(columns.get_level_values(level))) for level in REPEATS}
    if several["replicate"] > 1:
        return _jackknifed(statistic, models, OVER_MODELS)
    if several["draw"] > 1 and len(columns) == several["seed"]:
        return _jackknifed(statistic, draws, OVER_DRAWS)
    if several["draw"] > 1:
        return _crossed(statistic, draws, seeds)
    if several["seed"] < 3:
        return Jackknife(math.nan, several["seed"], reason=TWO_SEEDS)
    return _jackknifed(statistic, seeds, OVER_SEEDS)


TWO_SEEDS = "two seeds give no interval"
ONE_SEED = "one seed: noise cannot be told from bias"


def _crossed(statistic: Statistic, draws: np.ndarray, seeds: np.ndarray) -> Jackknife:
    units = min(len(set(draws.tolist())), len(set(seeds.tolist())))
    if units < 3:
        return Jackknife(math.nan, units, reason=FEW_CROSSED)
    by_draw, by_seed, by_trial = (_variance(statistic, labels) for labels in (draws, seeds, np.arange(len(draws))))
    return _known(max(by_draw, by_seed, by_draw + by_seed - by_trial), statistic, draws, units, CROSSED)


def _jackknifed(statistic: Statistic, labels: np.ndarray, method: str) -> Jackknife:
    return _known(_variance(statistic, labels), statistic, labels, len(set(labels.tolist())), method)


def _variance(statistic: Statistic, labels: np.ndarray) -> float:
    """The jackknife variance that leaves out the trials of one label at a time."""
    left = np.array([statistic(labels != label) for label in dict.fromkeys(labels.tolist())])
    return (len(left) - 1) / len(left) * float(((left - left.mean()) ** 2).sum())


def _known(variance: float, statistic: Statistic, labels: np.ndarray, units: int, method: str) -> Jackknife:
    """Without variance nothing is known of the error: an interval of no width would claim certainty."""
    if math.sqrt(variance) > IDENTICAL_TO * abs(statistic(np.ones(len(labels), bool))):
        return Jackknife(math.sqrt(variance), units, method)
    return Jackknife(math.nan, units, reason=IDENTICAL)


def with_pairs(y: pd.DataFrame) -> pd.DataFrame:
    """The trials of models and draws that have two seeds or more."""
    counted = Counter((model, draw) for model, draw, _ in trials_of(y.columns))
    return y.loc[:, [counted[model, draw] > 1 for model, draw, _ in trials_of(y.columns)]]


def sizes(cells: pd.DataFrame) -> pd.DataFrame:
    """Each arm's size of bias: one row per arm, with `rows.COLUMNS` and estimand "size".

    The interval is by jackknife over models or, with one model, over seeds, so it holds for these groups; it is a t interval of
    the square, of whose ends the roots are given.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "size"):
        rows += [_size(balanced(y), arm, context) for arm, y in wide(of_study).items()]
    return frame(rows)


def _size(wide_y: pd.DataFrame, arm: str, context: RowContext) -> dict[str, Any]:
    used = with_pairs(wide_y.dropna())
    unit, centred, groups = unit_of(context.outcome), not context.outcome.zero, len(used)
    if used.empty or groups < 2:
        reason = _too_few(wide_y, groups)
        return context.row(arm, **counts(wide_y.columns), unit=unit, reason=reason, n_groups=groups)
    y, columns = used.to_numpy(float), used.columns
    square = mean_square(y, columns, centred)
    spread = jackknife(lambda kept: mean_square(y[:, kept], columns[kept], centred), columns)
    low, high, low_90, high_90 = map(root, (*spread.interval(square, 0.95), *spread.interval(square, 0.9)))
    return context.row(
        arm, coefficient=root(square), low=low, high=high, low_90=low_90, high_90=high_90, n=y.size, clusters=spread.units,
        **counts(columns), unit=unit, method=spread.method and f"{spread.method}, on squares", reason=spread.reason,
        n_groups=groups,
    )  # fmt: skip


def unit_of(outcome: Outcome) -> str:
    """The unit of a size of bias."""
    name = outcome.unit if outcome.logs else f"the {outcome.label}"
    return f"{'root mean square' if outcome.zero else 'SD'} of {name} over groups"


def _too_few(y: pd.DataFrame, groups: int) -> str:
    if groups < 2:
        return f"{groups} groups have an outcome in all seeds: none can be compared"
    return ONE_SEED if counts(y.columns)["models"] == 1 else "one seed per model: noise cannot be told from bias"


def size_changes(cells: pd.DataFrame) -> pd.DataFrame:
    """The change of the size of bias from the untouched arm to each other arm: one row per arm, estimand "size change".

    Over the seeds and groups that both have; the interval is by jackknife (t), as for `sizes`.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "size change"):
        arms = wide(of_study)
        rows += [_change(arms, arm, context) for arm in arms if arm != UNTOUCHED]
    return frame(rows)


def _change(arms: dict[str, pd.DataFrame], arm: str, context: RowContext) -> dict[str, Any]:
    shared = matched(arms[arm], arms.get(UNTOUCHED))
    if shared[0].empty:
        return context.row(arm, reason=why_unpaired(arms[arm], arms.get(UNTOUCHED)))
    used, untouched = map(with_pairs, shared)
    unit, centred, groups = unit_of(context.outcome), not context.outcome.zero, len(used)
    if used.empty or groups < 2:
        return context.row(
            arm, **counts(shared[0].columns), unit=unit, reason=_too_few(shared[0], groups), n_groups=groups
        )
    columns, treated = used.columns, used.to_numpy(float)
    moved = size_difference(used, untouched, centred)
    value, spread = moved(np.ones(len(columns), bool)), jackknife(moved, columns)
    (low, high), (low_90, high_90) = spread.interval(value, 0.95), spread.interval(value, 0.9)
    return context.row(
        arm, coefficient=value, standard_error=spread.error, low=low, high=high, low_90=low_90, high_90=high_90,
        n=treated.size, clusters=spread.units, **counts(columns), unit=unit, method=spread.method, reason=spread.reason,
        n_groups=groups,
    )  # fmt: skip


def size_difference(treated: pd.DataFrame, untouched: pd.DataFrame, centred: bool) -> Statistic:
    """The treated arm's size of bias minus the untouched arm's, each (groups, trials) as `matched` gives them."""
    columns, own, base = treated.columns, treated.to_numpy(float), untouched.to_numpy(float)

    # an untouched trial stands for its seed under every draw, and counts once
    paired_with = pd.MultiIndex.from_tuples(
        [(model, NO_DRAW, seed) for model, _, seed in trials_of(columns)], names=REPEATS
    )

    def difference(kept: np.ndarray) -> float:
        once = kept.copy()
        once[kept] = ~paired_with[kept].duplicated()
        before = mean_square(base[:, once], paired_with[once], centred)
        return root(mean_square(own[:, kept], columns[kept], centred)) - root(before)

    return difference


def spreads(cells: pd.DataFrame) -> pd.DataFrame:
    """study, outcome, arm, spread, lowest, highest, groups, seeds: SD and range over groups of the mean over seeds.

    They include noise, unlike the size of bias, which is the part that seeds share.
    """
    rows = list[dict[str, Any]]()
    for context, of_study in studies(cells, "size"):
        for arm, y in wide(of_study).items():
            means = y.dropna().T.groupby(level="replicate").mean().mean()
            key = {"study": context.study, "outcome": context.metric, "arm": arm}
            numbers = {"spread": means.std(), "lowest": means.min(), "highest": means.max()}
            rows.append(key | numbers | {"groups": len(means), "seeds": y.shape[1]})
    return pd.DataFrame(rows)
