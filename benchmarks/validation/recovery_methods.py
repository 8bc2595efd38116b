"""Apply the analysis' own functions to drawn tables and count how often they are right."""

from __future__ import annotations

import gc
import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from analysis.data.runs import NO_DRAW, REPEATS
from analysis.estimands.bias_size import jackknife, mean_square, root
from analysis.estimands.equivalence import passes
from analysis.estimands.template_sensitivity import errors_in_variables, repeated
from analysis.stats.inference import infer, t_quantile
from analysis.stats.multiple_testing import benjamini_hochberg, holm
from analysis.stats.paired import paired
from analysis.stats.permutation import sign_flip
from analysis.stats.regression import Fit, fit, panel
from analysis.stats.wild_bootstrap import wild
from benchmarks.validation.recovery_models import ARMS, PHRASES, SEEDS, Table, World, draw
from bias_transfer.console import Report, silent

BOOTSTRAP = 399
"""Bootstrap samples and permutations per table. The analysis takes 9,999, which gives slightly shorter intervals."""

MARGIN, SLOPE = 0.10, 0.3
"""The equivalence margin, and the true slope on what the templates measure, per SD of x."""

Key = tuple[str, int, str, str, str]
"""World, groups, estimand, term, method."""


@dataclass
class Tally:
    """The results of one method; each list has one entry per draw."""

    estimate: list[float] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    rejected: list[bool] = field(default_factory=list)
    """Whether p for a coefficient of 0 is below .05."""
    equivalent: list[bool] = field(default_factory=list)

    def add(
        self,
        estimate: float,
        truth: float,
        low: float,
        high: float,
        p: float = math.nan,
        narrow: tuple[float, float] | None = None,
    ) -> None:
        """Add one draw's estimate, truth and 95 % interval. narrow: its 90 % interval."""
        self.estimate.append(estimate)
        self.truth.append(truth)
        self.covered.append(low <= truth <= high)
        self.width.append(high - low)
        if not math.isnan(p):
            self.rejected.append(p < 0.05)
        if narrow:
            self.equivalent.append(bool(passes(*narrow, MARGIN)))


def panels(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y and x of B, (groups, 1) and (groups, 1, 2), then of W, (groups, trials) and (groups, trials, 2). x is per SD."""
    x, z = table.x.mean(axis=-1), np.repeat(table.z[:, :, None], SEEDS, axis=2)
    both = np.stack([x / x[:, 0, 0].std(ddof=1), z / table.z[:, 0].std(ddof=1)], axis=-1)
    groups = len(x)
    return (
        table.y[:, 0].mean(axis=-1, keepdims=True), both[:, 0].mean(axis=1, keepdims=True),
        table.y.reshape(groups, -1), both.reshape(groups, -1, 2),
    )  # fmt: skip


def fits(table: Table) -> tuple[Fit, Fit]:
    """The fits of B and W."""
    y, x, all_y, all_x = panels(table)
    return fit(panel(y, x, ("x", "z"), within=False)), fit(panel(all_y, all_x, ("x", "z"), within=True))


def projected(world: World, random: np.random.Generator) -> dict[str, float]:
    """Estimand -> true slope on the measured x.

    If the templates' noise is measurement error, this slope is smaller than that on what they measure, and is estimated from
    a population of 100,000 groups. Otherwise it is the model's slope.
    """
    if not world.latent:
        return {"B": world.slope, "W": world.slope}
    return fits_of_population(draw(world.sized(100_000), random))


def fits_of_population(table: Table) -> dict[str, float]:
    """Estimand -> coefficient of x, by ordinary least squares."""
    y, x, all_y, all_x = panels(table)
    solved = {}
    for name, (outcome, terms, within) in {"B": (y, x, False), "W": (all_y, all_x, True)}.items():
        data = panel(outcome, terms, ("x", "z"), within)
        solved[name] = float(np.linalg.lstsq(data.x.reshape(-1, 2), data.y.ravel(), rcond=None)[0][0])
    return solved


TERMS = {"x": {"x": 1.0}, "z": {"z": 1.0}, "x - z": {"x": 1.0, "z": -1.0}}
VARIANTS = {"wild bootstrap C": (False, False), "wild bootstrap V": (False, True), "wild bootstrap B": (True, True)}
"""Variants other than the default S -> (leave-one-group-out residuals, CRV3 standard errors)."""


def regressions(table: Table, world: World, target: dict[str, float], tallies: dict[Key, Tally], seed: int) -> None:
    """Estimate B and W by every method."""
    for estimand, fitted in zip(("B", "W"), fits(table), strict=True):
        truths = {"x": target[estimand], "z": 0.2, "x - z": target[estimand] - 0.2}
        for term in TERMS if world.name == "hard" else ("x",):
            key = (world.name, world.groups, estimand, term)
            _infer(fitted, term, truths[term], key, tallies, seed)
        if world.name == "hard":
            _variants(fitted, truths["x"], (world.name, world.groups, estimand, "x"), tallies, seed)


def _infer(
    fitted: Fit, term: str, truth: float, key: tuple[str, int, str, str], tallies: dict[Key, Tally], seed: int
) -> None:
    result, t = infer(fitted, TERMS[term], BOOTSTRAP, seed), t_quantile(0.95, fitted.groups - 1)
    b = result.coefficient
    tallies[*key, "default"].add(b, truth, result.low, result.high, result.p, (result.low_90, result.high_90))
    if key[0] == "noisy templates":
        tallies[*key, "default, for what templates measure"].add(b, SLOPE, result.low, result.high)
    for name, error, low, high in (
        ("CRV1, t", result.crv1_error, result.crv1_low, result.crv1_high),
        ("CRV3, t", result.standard_error, result.crv3_low, result.crv3_high),
    ):
        p = 2 * float(stats.t.sf(abs(b) / error, fitted.groups - 1))
        tallies[*key, name].add(b, truth, low, high, p, (b - t * error, b + t * error))
    tallies[*key, "permutation of groups"].rejected.append(result.p_permutation < 0.05)


def _variants(fitted: Fit, truth: float, key: tuple[str, int, str, str], tallies: dict[Key, Tally], seed: int) -> None:
    for name, (left_out, robust) in VARIANTS.items():
        boot = wild(fitted, fitted.weights(TERMS["x"]), BOOTSTRAP, seed, left_out, robust)
        tallies[*key, name].add(boot.estimate, truth, *boot.interval(), boot.p())


def of_templates(table: Table, world: World, target: dict[str, float], tallies: dict[Key, Tally]) -> None:
    """The replica of the poster's analysis, and the correction for the templates' noise."""
    scale = table.x[:, 0, 0].mean(axis=-1).std(ddof=1)
    by_template, z = table.x[:, 0, 0] / scale, table.z[:, 0] / table.z[:, 0].std(ddof=1)
    y = table.y[:, 0].mean(axis=-1)
    values, errors, freedom = repeated(y, z, by_template)
    reach = t_quantile(0.975, freedom) * errors[0]
    p = 2 * float(stats.t.sf(abs(values[0]) / errors[0], freedom))
    key = (world.name, world.groups, "B", "x")
    tallies[*key, "poster replica"].add(values[0], target["B"], values[0] - reach, values[0] + reach, p)
    value, error = errors_in_variables(y, z, by_template)
    reach = t_quantile(0.975, world.groups - 1) * error
    if world.latent:
        tallies[*key, "corrected for templates"].add(value, world.slope, value - reach, value + reach)


TRIALS = pd.MultiIndex.from_product([[0], [NO_DRAW], range(SEEDS)], names=REPEATS)
"""The seeds of one model."""


def effects(table: Table, world: World, tallies: dict[Key, Tally]) -> None:
    """A with t over seeds and over groups, and the size of bias."""
    for number, arm in enumerate(ARMS[1:], start=1):
        changed, truth = table.y[:, number] - table.y[:, 0], float(table.effects[number])
        for method, means in {"default": changed.mean(axis=0), "t over groups": changed.mean(axis=1)}.items():
            result = paired(means)
            tallies[world.name, world.groups, "A", arm, method].add(
                result.mean, truth, result.low, result.high, result.p
            )
    y = table.y[:, 0]
    square = mean_square(y, TRIALS, centred=True)
    error = jackknife(lambda kept: mean_square(y[:, kept], TRIALS[kept], centred=True), TRIALS)
    low, high = map(root, error.interval(square, 0.95))
    key = (world.name, world.groups, "size", "untouched")
    tallies[*key, "default"].add(root(square), table.size, low, high)
    means = table.y[:, 0].mean(axis=-1)
    tallies[*key, "SD of means, chi2 over groups"].add(float(means.std(ddof=1)), table.size, *_of_chi2(means))


def _of_chi2(means: np.ndarray) -> tuple[float, float]:
    """The textbook interval of an SD over groups."""
    freedom = len(means) - 1
    low, high = (
        float(means.std(ddof=1)) * math.sqrt(freedom / stats.chi2.ppf(level, freedom)) for level in (0.975, 0.025)
    )
    return low, high


def run(world: World, draws: int, seed: int, report: Report = silent) -> dict[Key, Tally]:
    """Apply all methods to `draws` tables of a model."""
    random = np.random.default_rng([seed, world.groups, *map(ord, world.name)])
    target, tallies = projected(world, random), defaultdict[Key, Tally](Tally)
    for done in range(1, draws + 1):
        table = draw(world, random)
        regressions(table, world, target, tallies, seed)
        of_templates(table, world, target, tallies)
        effects(table, world, tallies)
        report(f"{world.name}, {world.groups} groups", done, draws)
    return tallies


NULL_ARMS, AFFECTED = 6, 10


def corrections(groups: int, draws: int, seed: int) -> dict[str, float]:
    """Error rates with and without correction for multiple testing.

    Six arms without effect: how often any is significant, with Holm's correction and without. One arm with an effect on ten
    groups: the mean share of false discoveries among the groups that Benjamini and Hochberg's procedure finds, and the share
    of the ten that it finds.
    """
    random = np.random.default_rng([seed, groups])
    rates = defaultdict[str, list[float]](list)
    # statsmodels collects garbage at every call, which takes up to a second where many modules are loaded.
    gc.freeze()
    for _ in range(draws):
        y = _null_table(groups, random)
        p = pd.Series([paired((y[:, arm] - y[:, 0]).mean(axis=0)).p for arm in range(1, NULL_ARMS + 1)])
        rates["any arm, not corrected"].append(float((p < 0.05).any()))
        rates["any arm, Holm"].append(float((holm(p) < 0.05).any()))
        moved = y[:, 1] - y[:, 0] - 0.6 * (np.arange(groups) < AFFECTED)[:, None]
        q = benjamini_hochberg(pd.Series([paired(row).p for row in moved])).to_numpy() < 0.05
        rates["groups, false share (BH)"].append(q[AFFECTED:].sum() / max(q.sum(), 1))
        rates["groups, found (BH)"].append(q[:AFFECTED].mean())
        signs = sign_flip(moved[AFFECTED:].mean(axis=0))
        rates["one arm, signs of seeds"].append(float(signs < 0.05))
    gc.unfreeze()
    return {name: float(np.mean(values)) for name, values in rates.items()}


def _null_table(groups: int, random: np.random.Generator) -> np.ndarray:
    """ln FPR, (groups, arms, seeds), with a shock per trial and no effect of any arm."""
    shape = (groups, NULL_ARMS + 1, SEEDS)
    y = (
        -2
        + 0.4 * random.normal(size=(groups, 1, 1))
        + 0.05 * random.normal(size=shape[1:])[None]
        + 0.1 * random.normal(size=shape)
    )
    return np.asarray(np.log((random.binomial(PHRASES, np.exp(np.minimum(y, 0))) + 0.5) / (PHRASES + 0.5)))
