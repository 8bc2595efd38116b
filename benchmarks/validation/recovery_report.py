"""docs/statistics.md: the results of `benchmarks.validation.recovery` as tables, a figure and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.estimands.reliability import RELIABLE
from benchmarks.validation.recovery_methods import AFFECTED, BOOTSTRAP, MARGIN, NULL_ARMS, Key, Tally
from benchmarks.validation.recovery_models import LEAK, PHRASES, SEEDS, TEMPLATES, WORLDS

GOAL = (0.93, 0.97)
"""Bounds of the coverage that the analysis' default methods should have."""

DEFAULTS = ("default", "corrected for templates")
LEVEL_OF = {world.name: world.slope for world in WORLDS}


def summary(tallies: Mapping[Key, Tally]) -> pd.DataFrame:
    """One row per model, number of groups, estimand, term and method.

    Columns: draws, truth, bias, covered (share of draws), width (median), rejected (share with p < .05), equivalent (share
    that passes the equivalence test). Values that a method does not give are NaN.
    """
    return pd.DataFrame([_row(key, tally) for key, tally in tallies.items()])


def _row(key: Key, tally: Tally) -> dict[str, Any]:
    names = dict(zip(("world", "groups", "estimand", "term", "method"), key, strict=True))
    draws = max(map(len, (tally.covered, tally.rejected)))
    errors = np.subtract(tally.estimate, tally.truth)
    shares = {name: _mean(getattr(tally, name)) for name in ("covered", "rejected", "equivalent")}
    width = float(np.median(tally.width)) if tally.width else math.nan
    return {**names, "draws": draws, "truth": _mean(tally.truth), "bias": _mean(errors), **shares, "width": width}


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def missed(frame: pd.DataFrame) -> list[str]:
    """A line for each default whose coverage is outside the goal."""
    defaults = frame[frame["method"].isin(DEFAULTS)]
    rows = defaults[(defaults["covered"] < GOAL[0]) | (defaults["covered"] > GOAL[1])]
    return [
        f"{row['estimand']}, {row['term']} ({row['world']}, {row['groups']} groups), {row['method']}: "
        f"{100 * row['covered']:.1f} %"
        for row in rows.to_dict("records")
    ]


def _table(rows: pd.DataFrame, columns: Mapping[str, str]) -> str:
    head = [list(columns.values()), ["---"] * len(columns)]
    body = [[_cell(row[name], name) for name in columns] for row in rows.to_dict("records")]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*head, *body])


def _cell(value: Any, name: str) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    if name == "covered":
        return f"{100 * value:.1f}" if GOAL[0] <= value <= GOAL[1] else f"**{100 * value:.1f}**"
    return f"{100 * value:.1f}" if name in PERCENT else f"{value:+.3f}" if name == "bias" else f"{value:.3f}"


PERCENT = ("rejected", "equivalent", "size", "power", "false")

COVERAGE = {
    "world": "model", "groups": "groups", "method": "method", "truth": "true", "bias": "bias", "covered": "coverage, %",
    "width": "median width", "rejected": "p < .05, %",
}  # fmt: skip
TERMS = {
    "groups": "groups",
    "estimand": "estimand",
    "term": "term",
    "method": "method",
    **dict(list(COVERAGE.items())[3:]),
}
ARMS = {"world": "model", "groups": "groups", "term": "arm", "method": "method", **dict(list(COVERAGE.items())[3:])}
NESTED = {"world": "models x seeds", "term": "SD between", "method": "method", **dict(list(COVERAGE.items())[4:])}
EQUIVALENCE = {
    "groups": "groups", "estimand": "estimand", "method": "method", "size": "passes at the margin, %",
    "power": "passes at 0, %", "false": "p < .05 at 0, %",
}  # fmt: skip


def equivalence(frame: pd.DataFrame) -> pd.DataFrame:
    """Size and power of the equivalence test by method, from the models with a slope at the margin and without a slope."""
    rows = frame[(frame["term"] == "x") & frame["world"].isin(("no slope", "slope at margin"))]
    key = ["groups", "estimand", "method"]
    at_0 = rows[rows["world"] == "no slope"].set_index(key)
    at_margin = rows[rows["world"] == "slope at margin"].set_index(key)["equivalent"]
    return at_0.assign(power=at_0["equivalent"], size=at_margin, false=at_0["rejected"]).reset_index()


def report(
    frame: pd.DataFrame,
    corrected: Mapping[int, Mapping[str, float]],
    discrete: Mapping[int, Mapping[str, float]],
    draws: int,
    seed: int,
    figure_name: str,
) -> str:
    """The text of docs/statistics.md."""
    of_x = frame[frame["term"] == "x"]
    slopes = {
        estimand: of_x[(of_x["estimand"] == estimand) & ~of_x["world"].isin(("no slope", "slope at margin"))]
        for estimand in ("B", "W")
    }
    hard = frame[(frame["world"] == "hard") & frame["estimand"].isin(("B", "W")) & frame["term"].isin(("z", "x - z"))]
    effects = frame[(frame["estimand"] == "A") & (frame["world"] == "hard")]
    size = frame[(frame["estimand"] == "size") & frame["world"].isin(("plain", "hard"))]
    return TEXT.format(
        draws=draws, seed=seed, bootstrap=BOOTSTRAP, margin=MARGIN, figure=figure_name, leak=LEAK, templates=TEMPLATES,
        seeds=SEEDS, phrases=PHRASES, arms=NULL_ARMS, affected=AFFECTED, reliable=RELIABLE,
        noise=f"{100 * 2 * math.sqrt(0.95 * 0.05 / draws):.1f}",
        worlds="\n".join(f"- **{world.name}**: {world.description}; slope {world.slope:g}." for world in WORLDS),
        b=_table(slopes["B"], COVERAGE), w=_table(slopes["W"], COVERAGE), hard=_table(hard, TERMS),
        effects=_table(effects, ARMS), size=_table(size, ARMS), equivalence=_table(equivalence(frame), EQUIVALENCE),
        corrections=_percents(corrected, "groups"), discrete=_percents(discrete, "seeds"),
        models=_table(frame[frame["estimand"] == "A, models"], NESTED),
        drawn=_table(frame[frame["estimand"] == "A, draws"], NESTED | {"world": "draws x seeds"}),
        sizes=_table(frame[frame["estimand"].isin(["size, level", "size, gap"])], {"estimand": "outcome", **NESTED}),
        missed="\n".join(f"- {line}" for line in missed(frame)) or "None: the coverage of every default meets the goal.",
        permutation=_permutation(frame),
        others="\n".join(f"- {line}" for line in _others(frame)),
    )  # fmt: skip


def _percents(rates: Mapping[int, Mapping[str, float]], of: str) -> str:
    """A table of shares in per cent: one row per name, one column per number of groups or seeds."""
    names = list(next(iter(rates.values())))
    rows = [{"what": name, **{str(n): f"{100 * of_n[name]:.1f}" for n, of_n in rates.items()}} for name in names]
    return _table(pd.DataFrame(rows), {"what": "", **{str(n): f"{n} {of}, %" for n in rates}})


def _permutation(frame: pd.DataFrame) -> str:
    """The range of the permutation test's false positive rates, in per cent."""
    rates = frame[(frame["method"] == "permutation of groups") & (frame["world"] == "no slope")]["rejected"]
    return f"{100 * rates.min():.1f} to {100 * rates.max():.1f}"


def _others(frame: pd.DataFrame) -> list[str]:
    """A line with the range of coverage for each method that is not a default."""
    others = frame[~frame["method"].isin(DEFAULTS) & frame["covered"].notna()]
    ranges = others.groupby(["estimand", "method"], sort=False)["covered"].agg(["min", "max"]).reset_index()
    return [
        f"{row['estimand']}, {row['method']}: {100 * row['min']:.1f} to {100 * row['max']:.1f} %"
        + ("" if row["min"] >= GOAL[0] and row["max"] <= GOAL[1] else ", misses the goal")
        for row in ranges.to_dict("records")
    ]


MARKS = {
    "default": ("#0072B2", "o"),
    "CRV3, t": ("#E69F00", "s"),
    "CRV1, t": ("#D55E00", "^"),
    "poster replica": ("#666666", "x"),
}


def figure(frame: pd.DataFrame) -> Figure:
    """Draw the coverage for x by model, number of groups and method, for B and W side by side. The goal is shaded."""
    of_x = frame[(frame["term"] == "x") & frame["method"].isin(MARKS)]
    places = [(world.name, groups) for world in WORLDS for groups in sorted(of_x["groups"].unique())]
    with mpl.rc_context({"svg.hashsalt": "bias_transfer", "font.size": 9}):
        drawn = Figure(figsize=(10, 5), layout="constrained")
        FigureCanvasAgg(drawn)
        for axes, estimand in zip(drawn.subplots(1, 2, sharey=True), ("B", "W"), strict=True):
            axes.axvspan(100 * GOAL[0], 100 * GOAL[1], color="#009E73", alpha=0.15, label="goal: 93 to 97 %")
            for method, (colour, mark) in MARKS.items():
                rows = of_x[(of_x["estimand"] == estimand) & (of_x["method"] == method)]
                heights = [-places.index((row["world"], row["groups"])) for row in rows.to_dict("records")]
                axes.scatter(100 * rows["covered"], heights, c=colour, marker=mark, s=28, label=method, zorder=3)
            axes.set_yticks([-n for n in range(len(places))], [f"{name}, {groups} groups" for name, groups in places])
            axes.set_title(f"{estimand}: slope on x", loc="left")
            axes.set_xlabel("coverage of the 95 % interval, %")
            axes.grid(axis="x", alpha=0.3)
        drawn.axes[0].legend(loc="lower left", fontsize=8)
    return drawn


TEXT = """# Statistics: coverage of the intervals

Written by `python -m benchmarks.validation.recovery --draws {draws}` (seed {seed}), which applies the analysis' own functions.
The goal, fixed beforehand: a 95 % interval covers the truth in 93 to 97 % of draws; values that miss it are **bold**. With this
number of draws, a share of 95 % is known to within +-{noise} points. Bootstraps and permutations take {bootstrap} samples here
and 9,999 in the analysis.

## Simulated data
Tables of 28 and of 50 groups, with {templates} upstream templates that have noise of their own and four arms (none, two
perturbations, scrub) of {seeds} seeds. x and z are correlated. There are fixed effects of groups, effects of arms on single
groups, and a shock per trial. Downstream counts are binomial with n = {phrases}, and y is the smoothed logarithm of their rate.

{worlds}

## Estimands
- Slopes are per SD of the untouched model's mean over templates. That unit is taken as given (raw units are printed as well):
  its own uncertainty is not part of the interval.
- **B and W are slopes on the measured x**, the mean over the templates at hand. If these templates measure something else with
  noise, that slope is smaller than the slope on what they measure (attenuation), by construction and for any number of groups.
  "True" in the tables is the slope on the measured x and, in the rows "for what templates measure", the other one; no standard
  error can correct for the difference. `template_sensitivity.corrected` estimates the latter for B if the reliability of x is
  {reliable} or more (exploratory).
- **W** is causal only if arms affect y through x and z alone. In the model "exclusion broken", one arm changes y by {leak} per
  SD of x in another way: W is then biased and its coverage is wrong, for every method. The data cannot reveal this.
- **A** and the size of bias refer to these groups and other seeds; B and W treat groups as a sample.

## The default methods
- B and W: a restricted wild cluster bootstrap by group, variant S (MacKinnon, Nielsen and Webb 2023): residuals of the
  restricted fit that leave out their own group, CRV1's t ratio, Rademacher weights (all 2^groups of them for 13 groups
  or fewer, and 9,999 random ones for more), and an interval by test inversion. A permutation test over groups is
  reported next to it. C is the classic variant; V and B use CRV3's t ratio. All four meet the goal; a pilot of 600
  draws with another seed selected S, the shortest on average of those with the best coverage. CRV1 and CRV3 with t are
  reported next to the default.
- A: t over models (pre-training seeds), each the mean of its paired seeds; with one model, t over its seeds. Draws of a random
  arm: the variance of crossed draws and seeds. Size of bias: jackknife over models or, with one model, over seeds, on its
  square.

The permutation test rejects a true slope of 0 (p < .05) in {permutation} % of draws: because errors grow with |x|, it rejects
slightly more often than its nominal level, and is therefore not the default.

Defaults that miss the goal (no error bar can correct for "exclusion broken"; see W above):

{missed}

The range of coverage over all models, for methods that are not the default:

{others}

![Coverage by model and method]({figure}.png)

## B: slope on x, between groups
"p < .05" is power, except where the true slope is 0.

{b}

## W: slope on x, within groups over arms

{w}

## z, and the difference of x and z, in the model "hard"

{hard}

## A: arm effects, and the size of bias
Over groups, shocks to trials are mistaken for effects, so t over groups does not give an interval for an arm's effect. The SD
of means over groups counts noise as bias; its textbook interval is for other groups and is too wide for these.

{effects}

{size}

## Seeds within models, and draws crossed with seeds
Fine-tuning seeds of one pre-trained model share what its pre-training seed did, and draws of a random arm share the untouched
trial of their seed. "SD between" is that between models (or draws), as a share of the SD between the paired differences of
seeds (size: of the SD between seeds in a group). Flattened, all seeds count as independent. In every design the true effect is
0, so "p < .05" is the rate of false positives.

{models}

Draws of one model. t over the draws' means takes the noise of the untouched trials, which all draws share, for none.

{drawn}

Sizes of a level (centred over groups) and of a gap (not centred), averaged over models. 1 x 5 and 1 x 10: seeds of one
model.

{sizes}

## Equivalence at a margin of {margin} per SD
The test is two one-sided tests at 5 %: it passes if the 90 % interval is within the margin. It should pass in at most 5 % of
draws if the slope is at the margin, and often if it is 0. In these models groups differ little (SD .12 apart from x and z).
With the .35 of the other models, B has no power at this margin, and the smallest margin that would pass is all that can be
reported.

{equivalence}

## False positives after correction
{arms} arms without effect and {seeds} seeds: how often any is called an effect. Then one arm with an effect on {affected}
groups: the mean share of false discoveries among the groups found (goal: at most 5 %), and how many of the {affected} are
found. With {seeds} seeds, signs alone can never give p < .05: the smallest possible p is 2/2^{seeds}.

{corrections}

TPR gaps of 28 occupations with 5 to 40 test examples of either pronoun, two arms that do not differ: how often any occupation
has q < .05. Counts of few examples tie; identical differences have no p value, and there is no q value with fewer than four
seeds.

{discrete}
"""
