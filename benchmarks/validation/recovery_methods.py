"""The analysis' own functions applied to drawn tables, and how often they were right."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from analysis.stats.multiple_testing import benjamini_hochberg
from analysis.stats.multiple_testing import holm
from analysis.estimands.arm_effects import paired
from analysis.estimands.equivalence import passes
from analysis.stats.inference import infer
from analysis.stats.regression import Fit
from analysis.stats.regression import fit
from analysis.stats.regression import panel
from analysis.stats.permutation import sign_flip
from analysis.stats.quantiles import t_quantile
from analysis.estimands.bias_size import jackknifed
from analysis.estimands.bias_size import root
from analysis.estimands.template_sensitivity import errors_in_variables
from analysis.estimands.template_sensitivity import repeated
from analysis.stats.wild_bootstrap import wild
from benchmarks.validation.recovery_models import ARMS
from benchmarks.validation.recovery_models import PHRASES
from benchmarks.validation.recovery_models import SEEDS
from benchmarks.validation.recovery_models import Table
from benchmarks.validation.recovery_models import World
from benchmarks.validation.recovery_models import draw
from bias_transfer.console import Report
from bias_transfer.console import silent

BOOTSTRAP = 399
"""Bootstrap samples and permutations a table; the analysis takes 9,999, which makes intervals a little shorter."""

MARGIN, SLOPE = 0.10, 0.3

Key = tuple[str, int, str, str, str]
"""World, groups, estimand, term, method."""


@dataclass
class Tally:
    """One entry a draw."""

    estimate: list[float] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    rejected: list[bool] = field(default_factory=list)
    """p of 0 below .05."""
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
        """One draw's estimate, truth and interval; narrow: its 90 % interval."""
        self.estimate.append(estimate)
        self.truth.append(truth)
        self.covered.append(low <= truth <= high)
        self.width.append(high - low)
        if not math.isnan(p):
            self.rejected.append(p < 0.05)
        if narrow:
            self.equivalent.append(bool(passes(*narrow, MARGIN)))


def panels(table: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y and x of B, (groups, 1) and (groups, 1, 2), then of W, (groups, trials) and (groups, trials, 2), per SD."""
    x, z = table.x.mean(axis=-1), np.repeat(table.z[:, :, None], SEEDS, axis=2)
    both = np.stack([x / x[:, 0, 0].std(ddof=1), z / table.z[:, 0].std(ddof=1)], axis=-1)
    groups = len(x)
    return (
        table.y[:, 0].mean(axis=-1, keepdims=True), both[:, 0].mean(axis=1, keepdims=True),
        table.y.reshape(groups, -1), both.reshape(groups, -1, 2),
    )  # fmt: skip


def fits(table: Table) -> tuple[Fit, Fit]:
    """Of B and W."""
    y, x, all_y, all_x = panels(table)
    return fit(panel(y, x, ("x", "z"), within=False)), fit(panel(all_y, all_x, ("x", "z"), within=True))


def projected(world: World, random: np.random.Generator) -> dict[str, float]:
    """Estimand -> slope on the measured x. Where the templates' noise is measurement error this is less than the slope on what
    they measure, and is found in a population of 100,000 groups; elsewhere it is the true slope."""
    if not world.latent:
        return {"B": world.slope, "W": world.slope}
    return fits_of_population(draw(world.sized(100_000), random))


def fits_of_population(table: Table) -> dict[str, float]:
    """Estimand -> coefficient of x, by plain least squares."""
    y, x, all_y, all_x = panels(table)
    solved = {}
    for name, (own_y, own_x, within) in {"B": (y, x, False), "W": (all_y, all_x, True)}.items():
        own = panel(own_y, own_x, ("x", "z"), within)
        solved[name] = float(np.linalg.lstsq(own.x.reshape(-1, 2), own.y.ravel(), rcond=None)[0][0])
    return solved


TERMS = {"x": {"x": 1.0}, "z": {"z": 1.0}, "x - z": {"x": 1.0, "z": -1.0}}
VARIANTS = {"wild bootstrap C": (False, False), "wild bootstrap V": (False, True), "wild bootstrap B": (True, True)}
"""Beside the default, S: left-out residuals, errors CRV3."""


def regressions(table: Table, world: World, target: dict[str, float], tallies: dict[Key, Tally], seed: int) -> None:
    """B and W by every method."""
    for estimand, found in zip(("B", "W"), fits(table), strict=True):
        truths = {"x": target[estimand], "z": 0.2, "x - z": target[estimand] - 0.2}
        for term in TERMS if world.name == "hard" else ("x",):
            key = (world.name, world.groups, estimand, term)
            _infer(found, term, truths[term], key, tallies, seed)
        if world.name == "hard":
            _variants(found, truths["x"], (world.name, world.groups, estimand, "x"), tallies, seed)


def _infer(
    found: Fit, term: str, truth: float, key: tuple[str, int, str, str], tallies: dict[Key, Tally], seed: int
) -> None:
    own, t = infer(found, TERMS[term], BOOTSTRAP, seed), t_quantile(0.95, found.groups - 1)
    b = own.coefficient
    tallies[*key, "default"].add(b, truth, own.low, own.high, own.p, (own.low_90, own.high_90))
    if key[0] == "noisy templates":
        tallies[*key, "default, for what templates measure"].add(b, SLOPE, own.low, own.high)
    for name, error, low, high in (
        ("CRV1, t", own.crv1_error, own.crv1_low, own.crv1_high),
        ("CRV3, t", own.standard_error, own.crv3_low, own.crv3_high),
    ):
        p = 2 * float(stats.t.sf(abs(b) / error, found.groups - 1))
        tallies[*key, name].add(b, truth, low, high, p, (b - t * error, b + t * error))
    tallies[*key, "permutation of groups"].rejected.append(own.p_permutation < 0.05)


def _variants(found: Fit, truth: float, key: tuple[str, int, str, str], tallies: dict[Key, Tally], seed: int) -> None:
    for name, (left_out, robust) in VARIANTS.items():
        boot = wild(found, found.weights(TERMS["x"]), BOOTSTRAP, seed, left_out, robust)
        tallies[*key, name].add(boot.estimate, truth, *boot.interval(), boot.p())


def of_templates(table: Table, world: World, target: dict[str, float], tallies: dict[Key, Tally]) -> None:
    """The poster replica, and the correction for the templates' noise."""
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


def effects(table: Table, world: World, tallies: dict[Key, Tally]) -> None:
    """A by seeds and by groups, and the size of bias."""
    for number, arm in enumerate(ARMS[1:], start=1):
        changed, truth = table.y[:, number] - table.y[:, 0], float(table.effects[number])
        for method, means in {"default": changed.mean(axis=0), "t over groups": changed.mean(axis=1)}.items():
            own = paired(means)
            tallies[world.name, world.groups, "A", arm, method].add(own.mean, truth, own.low, own.high, own.p)
    square, error = jackknifed(table.y[:, 0])
    low, high = (root(square + error * t_quantile(level, SEEDS - 1)) for level in (0.025, 0.975))
    key = (world.name, world.groups, "size", "untouched")
    tallies[*key, "default"].add(root(square), table.size, low, high)
    means = table.y[:, 0].mean(axis=-1)
    tallies[*key, "SD of means, chi2 over groups"].add(float(means.std(ddof=1)), table.size, *_of_chi2(means))


def _of_chi2(means: np.ndarray) -> tuple[float, float]:
    """The textbook's interval of an SD over groups."""
    freedom = len(means) - 1
    low, high = (
        float(means.std(ddof=1)) * math.sqrt(freedom / stats.chi2.ppf(level, freedom)) for level in (0.975, 0.025)
    )
    return low, high


def run(world: World, draws: int, seed: int, tell: Report = silent) -> dict[Key, Tally]:
    """All methods on so many draws."""
    random = np.random.default_rng([seed, world.groups, *map(ord, world.name)])
    target, tallies = projected(world, random), defaultdict[Key, Tally](Tally)
    for done in range(1, draws + 1):
        table = draw(world, random)
        regressions(table, world, target, tallies, seed)
        of_templates(table, world, target, tallies)
        effects(table, world, tallies)
        tell(f"{world.name}, {world.groups} groups", done, draws)
    return tallies


NULL_ARMS, AFFECTED = 6, 10


def corrections(groups: int, draws: int, seed: int) -> dict[str, float]:
    """Six arms that do nothing: how often any is found, by Holm and without. One arm that acts on ten groups: the mean share of
    false ones among the groups found by Benjamini and Hochberg, and the share of the ten that are found."""
    random = np.random.default_rng([seed, groups])
    found = defaultdict[str, list[float]](list)
    for _ in range(draws):
        y = _null_table(groups, random)
        p = pd.Series([paired((y[:, arm] - y[:, 0]).mean(axis=0)).p for arm in range(1, NULL_ARMS + 1)])
        found["any arm, not corrected"].append(float((p < 0.05).any()))
        found["any arm, Holm"].append(float((holm(p) < 0.05).any()))
        moved = y[:, 1] - y[:, 0] - 0.6 * (np.arange(groups) < AFFECTED)[:, None]
        q = benjamini_hochberg(pd.Series([paired(row).p for row in moved])).to_numpy() < 0.05
        found["groups, false share (BH)"].append(q[AFFECTED:].sum() / max(q.sum(), 1))
        found["groups, found (BH)"].append(q[:AFFECTED].mean())
        signs = sign_flip(moved[AFFECTED:].mean(axis=0))
        found["one arm, signs of seeds"].append(float(signs < 0.05))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _null_table(groups: int, random: np.random.Generator) -> np.ndarray:
    """(groups, arms, seeds), ln FPR, with shocks of trials and no effect of any arm."""
    shape = (groups, NULL_ARMS + 1, SEEDS)
    y = (
        -2
        + 0.4 * random.normal(size=(groups, 1, 1))
        + 0.05 * random.normal(size=shape[1:])[None]
        + 0.1 * random.normal(size=shape)
    )
    return np.asarray(np.log((random.binomial(PHRASES, np.exp(np.minimum(y, 0))) + 0.5) / (PHRASES + 0.5)))
