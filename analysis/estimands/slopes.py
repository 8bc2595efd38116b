"""Estimands B and W of SCIENCE.md, never mixed with each other or with A (`analysis.compare`).

B, between groups of the untouched model, is associational; W, displacement within groups over the arms, is causal only if
the arms reach y through x alone. Each takes the frame of `load.cells` and gives rows of one coefficients frame
(`sentences.COLUMNS`), with a plain sentence or, where the data do not allow a number, the reason. y is in the outcome's
unit (`load.OUTCOMES`), x and z in SD of the untouched model.

The slope on x is that on the *measured* mean over templates. Noise of templates pulls it towards 0 against the slope on
what they measure; `robustness.corrected` estimates that one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.estimands.arm_effects import arm_effects
from analysis.stats.inference import infer
from analysis.stats.inference import method
from analysis.data.runs import LEAST_MENTIONS
from analysis.data.runs import UNTOUCHED
from analysis.data.runs import cells
from analysis.stats.regression import Fit
from analysis.stats.regression import RefusedError
from analysis.stats.regression import beyond
from analysis.stats.regression import fit
from analysis.stats.regression import from_rows
from analysis.estimands.saturation import saturation
from analysis.estimands.sentences import PER
from analysis.estimands.sentences import Context
from analysis.estimands.sentences import association
from analysis.estimands.sentences import frame
from analysis.estimands.sentences import regressor
from analysis.estimands.sentences import studies
from analysis.estimands.bias_size import sizes
from analysis.stats.wild_bootstrap import DRAWS

CHANGE_WHAT_IS_LEARNED = ("reinitialise", "permute")
"""Upstream arms that reach y by other ways than x, and are left out of W."""

NO_UNTOUCHED = f"no finished untouched trial ({UNTOUCHED})"
ONE_ARM = "one arm alone displaces nothing"
NO_STANDARD = f"{NO_UNTOUCHED} to standardise by, or no spread over its groups"

SHOWN: dict[tuple[str, ...], tuple[str, ...]] = {
    ("x", "z"): ("x", "z", "x - z"),
    ("x", "z_level"): ("z_level",),
    ("x", "z_log"): ("z_log",),
}
"""Terms of a fit -> what is shown of it: the main fit, then dataset bias as a level and as a log, since the poster's
"10 %" may be either."""
WITHOUT_Z: dict[tuple[str, ...], tuple[str, ...]] = {("x",): ("x",)}
"""The same where the fine-tuning set names no group, so that there is no dataset bias."""

WORDS = "words"
"""How many words a group's name has. Terms of two words stand out in x and in y for that alone (docs/controls.md), so B has
a fit that counts them beside the main one (exploratory, ours)."""


def outcomes(
    table: pd.DataFrame, primary: Mapping[str, Mapping[str, str]], least: int = LEAST_MENTIONS
) -> list[pd.DataFrame]:
    """Cells on the primary outcome, and on the logit gap for studies with a saturated trial, if they measured it (said to be
    exploratory). Arguments as for `cells`."""
    own = cells(table, primary, least)
    blunt = table[table["study"].isin(set(saturation(own)["study"]))]
    if not (blunt["metric"] == "logit_gap").any():
        return [own]
    secondary = {task: {**stages, "downstream": "logit_gap"} for task, stages in primary.items()}
    return [own, cells(blunt, secondary, least)]


def estimate(cells: pd.DataFrame, draws: int = DRAWS, two_way: bool = False) -> pd.DataFrame:
    """All three estimands and the size of bias, of all studies: the coefficients frame."""
    found = between(cells, draws), displacement(cells, draws, two_way), arm_effects(cells, draws), sizes(cells)
    return pd.concat([one for one in found if len(one)] or found[:1], ignore_index=True)


def between(cells: pd.DataFrame, draws: int = DRAWS) -> pd.DataFrame:
    """B: one row a group of the untouched model, means over seeds: mean y = a + beta x + gamma z. Associational. Its CRV1
    is HC1: robust to errors that differ in size."""
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "B"):
        found = _regress(group_means(own), context, False, draws)
        untouched = (own["arm"] == UNTOUCHED).any()
        rows += found if untouched else [context.row(row["term"], reason=NO_UNTOUCHED) for row in found]
    return frame(rows)


def displacement(cells: pd.DataFrame, draws: int = DRAWS, two_way: bool = False) -> pd.DataFrame:
    """W: y = group effect + trial effect + beta x + gamma z, over the arms but `CHANGE_WHAT_IS_LEARNED`.

    Causal only if the arms reach y through x alone. two_way: errors clustered by group and seed as well (exploratory: few
    seeds make few clusters).
    """
    rows = list[dict[str, Any]]()
    for context, own in studies(cells, "W"):
        moved = displaced(own)
        found = _regress(moved, context, True, draws, two_way)
        several = len(set(moved["arm"])) > 1
        rows += found if several else [context.row(row["term"], reason=ONE_ARM) for row in found]
    return frame(rows)


def group_means(cells: pd.DataFrame) -> pd.DataFrame:
    """One study's rows for B: group, x, z, z_level, z_log, y of the untouched arm, means over seeds, without thin groups, and
    `WORDS`. A group that lacks its outcome in one seed is missing in all, so that groups share their seeds."""
    own = cells[(cells["arm"] == UNTOUCHED) & ~cells["thin"]]
    columns = ["x", "z", "z_level", "z_log", "y"]
    means = own.groupby("group")[columns].mean()
    found = means.mask(own[columns].isna().groupby(own["group"]).any()).reset_index()
    return found.assign(**{WORDS: [float(words(str(group))) for group in found["group"]]})


def words(name: str) -> int:
    """How many words a group's name has."""
    return len(re.split(r"[\s_-]+", name))


def displaced(cells: pd.DataFrame) -> pd.DataFrame:
    """One study's rows for W."""
    return cells[~cells["thin"] & ~cells["upstream"].isin(CHANGE_WHAT_IS_LEARNED)]


def standardised(rows: pd.DataFrame, context: Context) -> pd.DataFrame:
    """x and z in SD of the untouched model."""
    return rows.assign(**{name: rows[name] / (scale if scale > 0 else 1.0) for name, scale in context.scales.items()})


def _shown(rows: pd.DataFrame) -> dict[tuple[str, ...], tuple[str, ...]]:
    main = main_terms(rows)
    counted = {(*main, WORDS): (f"x | {WORDS}",)} if WORDS in rows and len(set(rows[WORDS])) > 1 else {}
    return (WITHOUT_Z if main == ("x",) else SHOWN) | counted


def main_terms(rows: pd.DataFrame) -> tuple[str, ...]:
    """The main fit's: x and z, or x alone where z is missing in all rows."""
    return ("x",) if len(rows) and rows["z"].isna().all() else ("x", "z")


def _regress(
    rows: pd.DataFrame, context: Context, within: bool, draws: int, two_way: bool = False
) -> list[dict[str, Any]]:
    rows = standardised(rows, context)
    found = [
        row
        for terms, shown in _shown(rows).items()
        for row in _fitted(rows, terms, shown, context, within, draws, two_way)
    ]
    unscaled = {name for name, scale in context.scales.items() if not scale > 0}
    return [_withheld(row, context) if unscaled & contrast_of(row["term"]).keys() else row for row in found]


def _withheld(row: dict[str, Any], context: Context) -> dict[str, Any]:
    return context.row(row["term"], reason=row["reason"] or NO_STANDARD)


def _fitted(
    rows: pd.DataFrame,
    terms: Sequence[str],
    shown: Sequence[str],
    context: Context,
    within: bool,
    draws: int,
    two_way: bool,
) -> list[dict[str, Any]]:
    try:
        found = fit(from_rows(rows, terms, within))
    except RefusedError as refusal:
        return [context.row(term, reason=str(refusal)) for term in shown]
    return [_line(found, term, context, within, draws, two_way) for term in shown]


def contrast_of(term: str) -> dict[str, float]:
    """A shown term's weights: `x - z` is a difference, `x | words` x with the words counted."""
    first, _, second = regressor(term).partition(" - ")
    return {first: 1.0, second: -1.0} if second else {first: 1.0}


def _line(found: Fit, term: str, context: Context, within: bool, draws: int, two_way: bool) -> dict[str, Any]:
    weights, size = contrast_of(term), {"n": found.panel.n, "clusters": found.groups}
    if lost := [name for name in weights if name in found.panel.constant]:
        return context.row(term, **size, reason=f"{' and '.join(lost)} does not vary{beyond(within)}")
    values: dict[str, Any] = {"coefficient": float(found.weights(weights) @ found.coefficients)}
    reason = f"left out: {', '.join(found.panel.dropped)} (missing in some trial)" if found.panel.dropped else ""
    try:
        values = infer(found, weights, draws, two_way=two_way).columns | {"method": method(found.groups, draws)}
    except RefusedError as refusal:
        reason = "; ".join(filter(None, [str(refusal), reason]))
    told = (values["coefficient"], values.get("low", math.nan), values.get("high", math.nan))
    unit = f"{context.outcome.unit} per {PER.get(term, 'SD')}"
    sentence = association(term, told, found.groups, context)
    scale = context.scales.get(regressor(term), math.nan)
    return context.row(term, **values, **size, unit=unit, scale=scale, sentence=sentence, reason=reason)
