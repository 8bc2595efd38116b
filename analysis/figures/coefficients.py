"""Figure 4 (the coefficients of upstream and dataset bias) and the specification curve."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.data.cells import is_outcome, outcome_named
from analysis.estimands.slopes import PLAIN
from analysis.estimands.specification_curve import CHOICES
from analysis.figures.style import BLACK, COLOURS, ESTIMANDS, GREY, TERMS, error_bar, explanation, new_figure, styled

HOLLOW = "Hollow: B without the covariates of the groups' names, which its main fit holds fixed."


def coefficients(frame: pd.DataFrame) -> Figure:
    """Figure 4: coefficients of upstream and dataset bias, per SD, with their intervals.

    frame: the coefficients of one study and outcome (`slopes.estimate`). Of several rows for an estimand and term, the first
    is drawn.
    """
    drawn = drawn_coefficients(frame)
    if drawn.empty:
        reasons = sorted(set(frame.get("reason", pd.Series(dtype=str))) - {""})
        return explanation("No coefficient could be estimated" + (f": {reasons[0]}" if reasons else "."))
    with styled():
        figure = new_figure(8, 1.6 + 0.75 * drawn["drawn"].nunique())
        axes = figure.subplots()
        terms = [term for term in TERMS if term in set(drawn["drawn"])]
        for estimand, (name, colour, mark) in ESTIMANDS.items():
            for is_plain, more, shift in ((False, "", 0.0), (True, ", the group's name left free", 0.16)):
                rows = drawn[(drawn["estimand"] == estimand) & (drawn["plain"] == is_plain)]
                for number, row in enumerate(rows.to_dict("records")):
                    height = -terms.index(row["drawn"]) + (0.14 if estimand == "B" else -0.16) + shift
                    bar = error_bar(row["coefficient"], row["low"], row["high"])
                    axes.errorbar(
                        row["coefficient"], height, xerr=bar, fmt=mark, color=colour, ms=7, capsize=3,
                        mfc="white" if is_plain else colour, label=f"{estimand}: {name}{more}" if number == 0 else None,
                    )  # fmt: skip
        axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
        axes.set_yticks([-place for place in range(len(terms))], [TERMS[term] for term in terms])
        axes.set_ylim(-len(terms) + 0.5, 0.5)
        axes.set_xlabel(f"change of {_axis(frame)} per SD")
        axes.set_title("Coefficients of upstream and dataset bias")
        figure.legend(loc="outside lower center", ncols=1)
    return figure


def drawn_coefficients(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that the figure shows. drawn: their term; plain: whether they are of B's fit without the groups' names."""
    rows: pd.DataFrame = frame[frame["estimand"].isin([*ESTIMANDS])]
    parts = rows["term"].astype(str).str.partition(" | ")
    rows = rows.assign(drawn=parts[0], plain=parts[2] == PLAIN)
    shown = rows["drawn"].isin([*TERMS]) & ((parts[2] == "") | rows["plain"])
    rows = rows[shown & np.isfinite(rows["coefficient"].astype(float))]
    return rows.drop_duplicates(["estimand", "term"])


def _axis(frame: pd.DataFrame) -> str:
    name = str(frame["outcome"].iloc[0])
    return outcome_named(name).axis if is_outcome(name) else name


def coefficients_caption(frame: pd.DataFrame) -> str:
    """The number of rows and groups, and the meaning of the bars."""
    drawn = drawn_coefficients(frame)
    upstream = drawn[drawn["term"] == "x"]
    plain = f" {HOLLOW}" if drawn["plain"].any() else ""
    sizes = [f"{row.estimand}: {row.n} rows, {row.clusters} groups" for row in upstream.itertuples()]
    return (
        f"Coefficients of upstream bias at equal dataset bias and of dataset bias at equal upstream bias, per SD over groups "
        f"of the untouched model ({'; '.join(sizes) or 'none estimated'}). Bars: 95 % intervals, as in the table of "
        f"coefficients.{plain} B is an association; W is causal only if the arms affect the outcome through x and z alone."
    )


def specification_curve(frame: pd.DataFrame) -> Figure:
    """Specification curve: the estimates of one study in ascending order with intervals; below, each specification's choices.

    frame: a table with `specification_curve.COLUMNS`, or any with estimate, low, high and one column per choice.
    """
    fitted = frame.dropna(subset=["estimate"]).sort_values("estimate", kind="stable", ignore_index=True)
    if fitted.empty:
        return explanation(
            "No specification could be fitted: this requires ten groups of the untouched model with all three measures."
        )
    choices = [(name, value) for name in CHOICES if name in fitted for value in _values(fitted[name])]
    with styled():
        figure = new_figure(11, 3.6 + 0.19 * len(choices))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.0, 0.19 * len(choices)))
        _estimates(above, fitted)
        _dots(below, fitted, choices)
        below.set_xlabel(f"{len(fitted)} specifications, sorted by estimate")
        figure.legend(loc="outside upper right", ncols=3)
    return figure


def _values(column: pd.Series) -> list[str]:
    """The values that were chosen; none if there was no choice."""
    values = sorted(map(str, column.unique()))
    return values if len(values) > 1 else []


def _estimates(axes: Axes, fitted: pd.DataFrame) -> None:
    for excludes_0, colour, name in ((False, GREY, "interval contains 0"), (True, COLOURS[0], "interval excludes 0")):
        rows = fitted[((fitted["low"] > 0) | (fitted["high"] < 0)) == excludes_0]
        axes.vlines(rows.index, rows["low"], rows["high"], color=colour, lw=1, alpha=0.45)
        mark = "o" if excludes_0 else "x"
        axes.plot(
            rows.index, rows["estimate"], mark, color=colour, ms=2.6, label=f"{name}: {len(rows)} of {len(fitted)}"
        )
    primary = fitted[fitted["primary"].astype(bool)] if "primary" in fitted else fitted.iloc[:0]
    for place in primary.index:
        row = fitted.loc[place]
        axes.errorbar(
            place, row["estimate"], yerr=error_bar(row["estimate"], row["low"], row["high"]), fmt="D", color=COLOURS[1], ms=6,
            label="primary specification",
        )  # fmt: skip
    axes.axhline(0, color=BLACK, lw=0.8, ls=":", zorder=0)
    axes.set_ylabel("upstream coefficient\n(SD of y per SD of x)")
    axes.set_title("Specification curve of estimand B (association between groups)")


def _dots(axes: Axes, fitted: pd.DataFrame, choices: list[tuple[str, str]]) -> None:
    names, last, is_black = list[str](), "", False
    for row, (name, value) in enumerate(choices):
        is_black = is_black != (name != last)  # the colour alternates from choice to choice
        colour = BLACK if is_black else COLOURS[0]
        chosen = fitted.index[fitted[name].astype(str) == value]
        axes.plot(chosen, np.full(len(chosen), -row), "|", color=colour, ms=5, mew=0.8)
        names.append(f"{name}:  {_cut(value)}" if name != last else _cut(value))
        if name != last and row:
            axes.axhline(0.5 - row, color="0.8", lw=0.8)
        last = name
    axes.set_yticks([-row for row in range(len(choices))], names, fontsize=8)
    axes.set_ylim(0.6 - len(choices), 0.6)
    axes.tick_params(axis="y", length=0)


def _cut(value: str) -> str:
    return fill(value, 46).split("\n")[0] + (" ..." if len(value) > 46 else "")


def specification_caption(frame: pd.DataFrame) -> str:
    """The number of specifications and groups, the range of estimates, and the meaning of the bars."""
    fitted = frame.dropna(subset=["estimate"])
    if fitted.empty:
        return "No specification could be fitted."
    excluding_0 = int(((fitted["low"] > 0) | (fitted["high"] < 0)).sum())
    groups = sorted(set(fitted["n"])) if "n" in fitted else []
    over = f" on {groups[0]} to {groups[-1]} groups" if len(groups) > 1 else f" on {groups[0]} groups" if groups else ""
    return (
        f"Coefficient of upstream bias under {len(fitted)} specifications{over}, in SD of the outcome per SD of the score: "
        f"median {fitted['estimate'].median():+.2f}, range {fitted['estimate'].min():+.2f} to "
        f"{fitted['estimate'].max():+.2f}; {excluding_0} intervals exclude 0. Bars: 95 % interval of each fit. All fits share "
        f"the same data, so the number that excludes 0 is not a test. A denominator common to all groups changes no slope."
    )
