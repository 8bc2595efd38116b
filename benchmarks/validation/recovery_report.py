"""docs/statistics.md: what `benchmarks.recovery` found, in tables, a figure, and sentences that follow from the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.estimands.caveats import RELIABLE
from benchmarks.validation.recovery_methods import AFFECTED
from benchmarks.validation.recovery_methods import BOOTSTRAP
from benchmarks.validation.recovery_methods import MARGIN
from benchmarks.validation.recovery_methods import NULL_ARMS
from benchmarks.validation.recovery_methods import Key
from benchmarks.validation.recovery_methods import Tally
from benchmarks.validation.recovery_models import LEAK
from benchmarks.validation.recovery_models import PHRASES
from benchmarks.validation.recovery_models import SEEDS
from benchmarks.validation.recovery_models import TEMPLATES
from benchmarks.validation.recovery_models import WORLDS

GOAL = (0.93, 0.97)
DEFAULTS = ("default", "corrected for templates")
LEVEL_OF = {world.name: world.slope for world in WORLDS}


def summary(tallies: Mapping[Key, Tally]) -> pd.DataFrame:
    """A row a world, number of groups, estimand, term and method: draws, truth, bias, coverage, width (median), rejected (share
    of p < .05), equivalent (share that passes the equivalence test). NaN where a method does not give it."""
    return pd.DataFrame([_row(key, tally) for key, tally in tallies.items()])


def _row(key: Key, tally: Tally) -> dict[str, Any]:
    names = dict(zip(("world", "groups", "estimand", "term", "method"), key, strict=True))
    draws = max(map(len, (tally.covered, tally.rejected)))
    off = np.subtract(tally.estimate, tally.truth)
    shares = {name: _mean(getattr(tally, name)) for name in ("covered", "rejected", "equivalent")}
    width = float(np.median(tally.width)) if tally.width else math.nan
    return {**names, "draws": draws, "truth": _mean(tally.truth), "bias": _mean(off), **shares, "width": width}


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def missed(frame: pd.DataFrame) -> list[str]:
    """Defaults whose coverage lies outside the goal, in words."""
    own = frame[frame["method"].isin(DEFAULTS)]
    rows = own[(own["covered"] < GOAL[0]) | (own["covered"] > GOAL[1])]
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
EQUIVALENCE = {
    "groups": "groups", "estimand": "estimand", "method": "method", "size": "passes at the margin, %",
    "power": "passes at 0, %", "false": "p < .05 at 0, %",
}  # fmt: skip


def equivalence(frame: pd.DataFrame) -> pd.DataFrame:
    """Size and power of the test by method: the two models without and with a slope at the margin."""
    own = frame[(frame["term"] == "x") & frame["world"].isin(("no slope", "slope at margin"))]
    key = ["groups", "estimand", "method"]
    at_0 = own[own["world"] == "no slope"].set_index(key)
    at_margin = own[own["world"] == "slope at margin"].set_index(key)["equivalent"]
    return at_0.assign(power=at_0["equivalent"], size=at_margin, false=at_0["rejected"]).reset_index()


def report(
    frame: pd.DataFrame, corrected: Mapping[int, Mapping[str, float]], draws: int, seed: int, figure_name: str
) -> str:
    """The whole page."""
    of_x = frame[frame["term"] == "x"]
    slopes = {
        estimand: of_x[(of_x["estimand"] == estimand) & ~of_x["world"].isin(("no slope", "slope at margin"))]
        for estimand in ("B", "W")
    }
    hard = frame[(frame["world"] == "hard") & frame["estimand"].isin(("B", "W")) & frame["term"].isin(("z", "x - z"))]
    effects = frame[(frame["estimand"] == "A") & (frame["world"] == "hard")]
    size = frame[(frame["estimand"] == "size") & frame["world"].isin(("plain", "hard"))]
    names = list(next(iter(corrected.values())))
    shares = pd.DataFrame([{"what": name, **{str(n): own[name] for n, own in corrected.items()}} for name in names])
    percents = shares.assign(**{str(n): [f"{100 * value:.1f}" for value in shares[str(n)]] for n in corrected})
    return TEXT.format(
        draws=draws, seed=seed, bootstrap=BOOTSTRAP, margin=MARGIN, figure=figure_name, leak=LEAK, templates=TEMPLATES,
        seeds=SEEDS, phrases=PHRASES, arms=NULL_ARMS, affected=AFFECTED, reliable=RELIABLE,
        noise=f"{100 * 2 * math.sqrt(0.95 * 0.05 / draws):.1f}",
        worlds="\n".join(f"- **{world.name}**: {world.says}; slope {world.slope:g}." for world in WORLDS),
        b=_table(slopes["B"], COVERAGE), w=_table(slopes["W"], COVERAGE), hard=_table(hard, TERMS),
        effects=_table(effects, ARMS), size=_table(size, ARMS), equivalence=_table(equivalence(frame), EQUIVALENCE),
        corrections=_table(percents, {"what": "", **{str(n): f"{n} groups, %" for n in corrected}}),
        missed="\n".join(f"- {line}" for line in missed(frame)) or "None: every default's coverage lies within it.",
        permutation=_permutation(frame),
        others="\n".join(f"- {line}" for line in _others(frame)),
    )  # fmt: skip


def _permutation(frame: pd.DataFrame) -> str:
    """Its false positives, lowest to highest, in per cent."""
    own = frame[(frame["method"] == "permutation of groups") & (frame["world"] == "no slope")]["rejected"]
    return f"{100 * own.min():.1f} to {100 * own.max():.1f}"


def _others(frame: pd.DataFrame) -> list[str]:
    """The range of coverage of each method that is not the default."""
    own = frame[~frame["method"].isin(DEFAULTS) & frame["covered"].notna()]
    ranges = own.groupby(["estimand", "method"], sort=False)["covered"].agg(["min", "max"]).reset_index()
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
    """Coverage of x by model, number of groups and method, B and W side by side; the goal is shaded."""
    own = frame[(frame["term"] == "x") & frame["method"].isin(MARKS)]
    places = [(world.name, groups) for world in WORLDS for groups in sorted(own["groups"].unique())]
    with mpl.rc_context({"svg.hashsalt": "bias_transfer", "font.size": 9}):
        drawn = Figure(figsize=(10, 5), layout="constrained")
        FigureCanvasAgg(drawn)
        for axes, estimand in zip(drawn.subplots(1, 2, sharey=True), ("B", "W"), strict=True):
            axes.axvspan(100 * GOAL[0], 100 * GOAL[1], color="#009E73", alpha=0.15, label="goal: 93 to 97 %")
            for method, (colour, mark) in MARKS.items():
                rows = own[(own["estimand"] == estimand) & (own["method"] == method)]
                heights = [-places.index((row["world"], row["groups"])) for row in rows.to_dict("records")]
                axes.scatter(100 * rows["covered"], heights, c=colour, marker=mark, s=28, label=method, zorder=3)
            axes.set_yticks([-n for n in range(len(places))], [f"{name}, {groups} groups" for name, groups in places])
            axes.set_title(f"{estimand}: slope on x", loc="left")
            axes.set_xlabel("coverage of the 95 % interval, %")
            axes.grid(axis="x", alpha=0.3)
        drawn.axes[0].legend(loc="lower left", fontsize=8)
    return drawn


TEXT = """# Statistics: what the intervals cover

Written by `python -m benchmarks.recovery --draws {draws}` (seed {seed}), with the analysis' own functions. Goal, set
beforehand: a 95 % interval covers the truth in 93 to 97 % of draws; **bold** misses it. With so many draws a share of
95 % is known to +-{noise} points. Bootstraps and permutations take {bootstrap} samples here, 9,999 in the analysis.

## What is drawn
Tables of 28 and of 50 groups; {templates} upstream templates with noise of their own; four arms (none, two
perturbations, scrub) of {seeds} seeds; x and z correlated; what a group has of its own, what an arm does to a group, a
shock to each trial; downstream counts binomial with n = {phrases}, and y the smoothed log of their rate.

{worlds}

## What is estimated
- Slopes are per SD of the untouched model's mean over templates. That unit is taken as given (raw units are printed):
  its own uncertainty is not in the interval.
- **B and W are slopes on the measured x**, the mean over the templates at hand. Where these templates measure
  something else with noise, that slope is smaller than the slope on what they measure (attenuation), by construction
  and at any number of groups. "True" in the tables is the slope on the measured x, and for the rows "for what
  templates measure" the other one: no standard error mends that. `templates.corrected` estimates the latter for B, if
  the reliability of x is {reliable} or more (exploratory).
- **W** is causal only if arms reach y through x and z alone. In the model "exclusion broken" one arm moves y by
  {leak} per SD of x on another way: W is then off, and so is its coverage, for every method. It cannot be seen from
  the data.
- **A** and the size of bias are for these groups and other seeds; B and W take groups for draws.

## The defaults
- B and W: a restricted wild cluster bootstrap by group, variant S (MacKinnon, Nielsen and Webb 2023): residuals of
  the restricted fit that leave their own group out, CRV1's t ratio, Rademacher weights (Webb's for fewer than 12
  groups), interval by test inversion. A permutation test over groups stands beside it. C is the classic variant; V
  and B take CRV3's t ratio: all four meet the goal (a pilot of 600 draws with another seed chose S, the shortest
  on average of those that covered best). CRV1 and CRV3 with t stand beside the default.
- A: t over paired seeds. Size of bias: jackknife over seeds on its square.

The permutation test finds a slope of 0 (p < .05) in {permutation} % of draws: errors that grow with |x| make it err a
little more often than it says, so that it is not the default.

Defaults that miss the goal ("exclusion broken" cannot be mended by an error bar; see W above):

{missed}

The range over all models of what is not the default:

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
Over groups, shocks to trials are taken for effects: t over groups is not an interval for an arm's effect. The SD of
means over groups counts noise as bias; its textbook interval is for other groups, and wide for these.

{effects}

{size}

## Equivalence at a margin of {margin} per SD
Two one-sided tests at 5 %, that is a 90 % interval within the margin. It should pass in at most 5 % of draws where
the slope lies at the margin, and often where it is 0. These models let groups differ by little (SD .12 beside x and
z): with the .35 of the others, B has no power at this margin, and the smallest margin that would pass is what can be
said.

{equivalence}

## False positives after correction
{arms} arms that do nothing, {seeds} seeds: how often any is called an effect. Then one arm that acts on {affected}
groups: the mean share of false ones among the groups found (goal: at most 5 %), and how many of the {affected} are found.
Signs of {seeds} seeds alone can never give p < .05: the smallest possible is 2/2^{seeds}.

{corrections}
"""
