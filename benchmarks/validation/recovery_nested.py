"""Recovery where trials are not independent: seeds within models, draws crossed with seeds; and rates of few counts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.data.runs import NO_DRAW, REPEATS
from analysis.estimands.arm_effects import q_values
from analysis.estimands.bias_size import jackknife, mean_square, root
from analysis.stats.multiple_testing import benjamini_hochberg
from analysis.stats.paired import nested, paired
from benchmarks.validation.recovery_methods import Key, Tally
from benchmarks.validation.recovery_models import CELL, SHOCK
from bias_transfer.console import Report, silent

NESTED = ((2, 10), (3, 10), (4, 5), (5, 4))
"""Models and fine-tuning seeds of each."""

DRAWN = ((3, 10), (4, 5), (5, 4))
"""Draws of a random arm, and the seeds that they share."""

BETWEEN = (0.0, 0.5, 1.0)
"""SD between models, or draws, as a share of the SD between the paired differences of seeds (A) or between seeds (size)."""

ONE_MODEL = (5, 10)
"""Seeds of one model, for sizes that are not centred."""

SPREAD, GAP = 0.3, 0.1
"""SD over groups of what all models share, and its mean where y has a natural zero."""

GROUPS = 28


def run(draws: int, seed: int, report: Report = silent) -> dict[Key, Tally]:
    """Apply the analysis' intervals for A and for sizes to `draws` tables of each design."""
    random, tallies = np.random.default_rng([seed, 2]), defaultdict[Key, Tally](Tally)
    designs = [
        *((_effect_over_models, *design, between) for design in NESTED for between in BETWEEN),
        *((_effect_over_draws, *design, between) for design in DRAWN for between in BETWEEN),
        *((_size, *design, between) for design in NESTED for between in BETWEEN),
        *((_size, 1, seeds, 0.0) for seeds in ONE_MODEL),
    ]
    for number, (add, units, seeds, between) in enumerate(designs, start=1):
        for _ in range(draws):
            add(units, seeds, between, random, tallies)
        report("nested designs", number, len(designs))
    return dict(tallies)


def trials(models: int, draws: int, seeds: int) -> pd.MultiIndex:
    """The columns of a balanced design; seeds of different models differ, draws share them."""
    drawn = range(draws) if draws > 1 else (NO_DRAW,)
    named = [(m, d, seeds * m + s) for m in range(models) for d in drawn for s in range(seeds)]
    return pd.MultiIndex.from_tuples(named, names=REPEATS)


def _effect_over_models(
    models: int, seeds: int, between: float, random: np.random.Generator, tallies: dict[Key, Tally]
) -> None:
    noise = SHOCK * (random.normal(size=(models, seeds)) - random.normal(size=(models, seeds)))
    of_models = between * math.sqrt(2) * SHOCK * random.normal(size=(models, 1))
    differences = pd.Series((noise + of_models).ravel(), trials(models, 1, seeds))
    _tally(differences, ("A, models", f"{models} x {seeds}", between), "flattened: t over all seeds", tallies)


def _effect_over_draws(
    draws: int, seeds: int, between: float, random: np.random.Generator, tallies: dict[Key, Tally]
) -> None:
    """The untouched trial of a seed is the same for all draws."""
    noise = SHOCK * (random.normal(size=(draws, seeds)) - random.normal(size=seeds))
    of_draws = between * math.sqrt(2) * SHOCK * random.normal(size=(draws, 1))
    differences = pd.Series((noise + of_draws).ravel(), trials(1, draws, seeds))
    name = ("A, draws", f"{draws} x {seeds}", between)
    _tally(differences, name, "flattened: t over all seeds", tallies)
    over_draws = paired(differences.groupby(level="draw").mean().to_numpy(float))
    tallies[_key(*name, "t over the draws' means")].add(
        over_draws.mean, 0.0, over_draws.low, over_draws.high, over_draws.p
    )


def _tally(differences: pd.Series, name: tuple[str, str, float], flattened: str, tallies: dict[Key, Tally]) -> None:
    for method, test in {"default": nested(differences), flattened: paired(differences.to_numpy(float))}.items():
        tallies[_key(*name, method)].add(test.mean, 0.0, test.low, test.high, test.p)


def _key(estimand: str, design: str, between: float, method: str) -> Key:
    return design, GROUPS, estimand, f"{between:g}", method


def _size(models: int, seeds: int, between: float, random: np.random.Generator, tallies: dict[Key, Tally]) -> None:
    """Of a level (centred) and of a gap (not centred). Groups are fixed; models differ from each other in each group."""
    steady = random.normal(size=(GROUPS, 1, 1))
    steady = SPREAD * (steady - steady.mean()) / steady.std()
    of_models = between * CELL * random.normal(size=(GROUPS, models, 1))
    shocks = SHOCK / 3 * random.normal(size=(models, seeds))
    y = (steady + of_models + shocks + CELL * random.normal(size=(GROUPS, models, seeds))).reshape(GROUPS, -1)
    columns = trials(models, 1, seeds)
    share = between * CELL
    for name, values, centred, truth in (
        ("size, level", y, True, math.sqrt(SPREAD**2 + share**2 * (1 - 1 / GROUPS))),
        ("size, gap", y + GAP, False, math.sqrt(SPREAD**2 + GAP**2 + share**2)),
    ):
        square = mean_square(values, columns, centred)
        error = jackknife(_statistic(values, columns, centred), columns)
        low, high = map(root, error.interval(square, 0.95))
        tallies[_key(name, f"{models} x {seeds}", between, "default")].add(root(square), truth, low, high)


def _statistic(y: np.ndarray, columns: pd.MultiIndex, centred: bool) -> Callable[[np.ndarray], float]:
    return lambda kept: mean_square(y[:, kept], columns[kept], centred)


FEWEST, MOST = 5, 40
"""Test examples of each pronoun in an occupation."""

EASY = (0.1, 0.05)
"""Beta distribution of the examples' chances of being recognised: seeds agree on most of them."""

TIED_SEEDS = (2, 3, 4, 5, 10)


def discrete(draws: int, seed: int) -> dict[int, dict[str, float]]:
    """Seeds -> how often a null table of TPR gaps has a q < .05 in any of 28 occupations, by rule.

    All seeds and both arms are tested on the same 5 to 40 examples of each pronoun. Most examples are recognised nearly always
    or hardly ever, so that counts, and with them differences, often tie.
    """
    rates = {}
    for seeds in TIED_SEEDS:
        random = np.random.default_rng([seed, seeds, 3])
        any_q = defaultdict[str, list[bool]](list)
        for _ in range(draws):
            moved = _null_gaps(seeds, random)
            tests = [paired(row) for row in moved]
            p = pd.Series([test.p for test in tests])
            certain = p.mask(p.isna(), [float(test.mean == 0) for test in tests])
            any_q["any q, as the analysis gives it"].append(bool((q_values(p, pd.Series(seeds, p.index)) < 0.05).any()))
            any_q["any q, ties missing, with any number of seeds"].append(bool((benjamini_hochberg(p) < 0.05).any()))
            any_q["any q, ties certain (p = 0)"].append(bool((benjamini_hochberg(certain) < 0.05).any()))
        rates[seeds] = {name: float(np.mean(hits)) for name, hits in any_q.items()}
    return rates


def _null_gaps(seeds: int, random: np.random.Generator) -> np.ndarray:
    """(occupations, seeds): the differences of TPR gaps between two arms that do not differ."""
    moved = np.zeros((GROUPS, seeds))
    for group, (she, he) in enumerate(random.integers(FEWEST, MOST + 1, (GROUPS, 2))):
        for count, sign in ((she, 1), (he, -1)):
            easy = random.beta(*EASY, count)
            hits = random.random((2, seeds, count)) < easy
            moved[group] += sign * (hits[1].mean(axis=1) - hits[0].mean(axis=1))
    return moved
