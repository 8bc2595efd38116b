"""Figure 4, the coefficients of upstream and dataset bias, and the specification curve."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import BLACK
from analysis.figures.style import COLOURS
from analysis.figures.style import GREY
from analysis.figures.style import blank
from analysis.figures.style import reach
from analysis.figures.style import saying
from analysis.figures.style import styled
from analysis.data.runs import OUTCOMES
from analysis.estimands.specification_curve import CHOICES

ESTIMANDS = {
    "B": ("between groups of the untouched model (association)", COLOURS[0], "o"),
    "W": ("within groups, over the arms' displacements", COLOURS[1], "s"),
}
TERMS = {"x": "upstream bias", "z": "dataset bias", "x - z": "upstream less\ndataset bias"}


def coefficients(frame: pd.DataFrame) -> Figure:
    """Figure 4: coefficients of upstream and dataset bias, per SD, with their intervals. frame: the coefficients of one study
    and outcome, as `regress` gives them; of several rows an estimand and term the first is drawn."""
    found = drawn_coefficients(frame)
    if found.empty:
        reasons = sorted(set(frame.get("reason", pd.Series(dtype=str))) - {""})
        return saying("No coefficient could be estimated" + (f": {reasons[0]}" if reasons else "."))
    with styled():
        figure = blank(8, 1.6 + 0.75 * found["term"].nunique())
        axes = figure.subplots()
        terms = [term for term in TERMS if term in set(found["term"])]
        for estimand, (name, colour, mark) in ESTIMANDS.items():
            own = found[found["estimand"] == estimand]
            for number, row in enumerate(own.to_dict("records")):
                height = -terms.index(row["term"]) + (0.16 if estimand == "B" else -0.16)
                bar = reach(row["coefficient"], row["low"], row["high"])
                label = f"{estimand}: {name}" if number == 0 else None
                axes.errorbar(
                    row["coefficient"], height, xerr=bar, fmt=mark, color=colour, ms=7, capsize=3, label=label
                )
        axes.axvline(0, color=GREY, lw=0.8, ls=":", zorder=0)
        axes.set_yticks([-place for place in range(len(terms))], [TERMS[term] for term in terms])
        axes.set_ylim(-len(terms) + 0.5, 0.5)
        axes.set_xlabel(f"change of {_axis(frame)} per SD")
        axes.set_title("Coefficients of upstream and dataset bias")
        figure.legend(loc="outside lower center", ncols=1)
    return figure


def drawn_coefficients(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that the figure shows."""
    own: pd.DataFrame = frame[frame["estimand"].isin([*ESTIMANDS]) & frame["term"].isin([*TERMS])]
    own = own[np.isfinite(own["coefficient"].astype(float))]
    return own.drop_duplicates(["estimand", "term"])


def _axis(frame: pd.DataFrame) -> str:
    name = str(frame["outcome"].iloc[0])
    return OUTCOMES[name].axis if name in OUTCOMES else name


def coefficients_caption(frame: pd.DataFrame) -> str:
    """n, and what bars are."""
    own = drawn_coefficients(frame)
    own = own[own["term"] == "x"]
    sizes = [f"{row.estimand}: {row.n} rows, {row.clusters} groups" for row in own.itertuples()]
    return (
        f"Coefficients per SD over groups of the untouched model, of upstream bias at equal dataset bias and the other way "
        f"round ({'; '.join(sizes) or 'none estimated'}). Bars: 95 % intervals as in the table of coefficients. B is an "
        f"association; W is causal only if the arms reach the outcome through x and z alone."
    )


def specification_curve(frame: pd.DataFrame) -> Figure:
    """Estimates of one study in ascending order with intervals, and below what each specification chose. frame:
    `specifications.COLUMNS`, or any frame with estimate, low, high, and a column a choice."""
    own = frame.dropna(subset=["estimate"]).sort_values("estimate", kind="stable", ignore_index=True)
    if own.empty:
        return saying(
            "No specification could be fitted: it takes ten groups of the untouched model with all three measures."
        )
    choices = [(name, value) for name in CHOICES if name in own for value in _values(own[name])]
    with styled():
        figure = blank(11, 3.6 + 0.19 * len(choices))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.0, 0.19 * len(choices)))
        _estimates(above, own)
        _dots(below, own, choices)
        below.set_xlabel(f"{len(own)} specifications, in the order of their estimates")
        figure.legend(loc="outside upper right", ncols=3)
    return figure


def _values(column: pd.Series) -> list[str]:
    """A choice with one value is no choice."""
    values = sorted(map(str, column.unique()))
    return values if len(values) > 1 else []


def _estimates(axes: Axes, own: pd.DataFrame) -> None:
    for clear, colour, name in ((False, GREY, "interval holds 0"), (True, COLOURS[0], "interval excludes 0")):
        rows = own[((own["low"] > 0) | (own["high"] < 0)) == clear]
        axes.vlines(rows.index, rows["low"], rows["high"], color=colour, lw=1, alpha=0.45)
        mark = "o" if clear else "x"
        axes.plot(rows.index, rows["estimate"], mark, color=colour, ms=2.6, label=f"{name}: {len(rows)} of {len(own)}")
    primary = own[own["primary"].astype(bool)] if "primary" in own else own.iloc[:0]
    for place in primary.index:
        row = own.loc[place]
        axes.errorbar(
            place, row["estimate"], yerr=reach(row["estimate"], row["low"], row["high"]), fmt="D", color=COLOURS[1], ms=6,
            label="primary specification",
        )  # fmt: skip
    axes.axhline(0, color=BLACK, lw=0.8, ls=":", zorder=0)
    axes.set_ylabel("upstream coefficient\n(SD of y per SD of x)")
    axes.set_title("Specification curve of estimand B (association between groups)")


def _dots(axes: Axes, own: pd.DataFrame, choices: list[tuple[str, str]]) -> None:
    names, last, shade = list[str](), "", False
    for row, (name, value) in enumerate(choices):
        shade = shade != (name != last)
        colour = BLACK if shade else COLOURS[0]
        chosen = own.index[own[name].astype(str) == value]
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
    """n, and what bars are."""
    own = frame.dropna(subset=["estimate"])
    if own.empty:
        return "No specification could be fitted."
    clear = int(((own["low"] > 0) | (own["high"] < 0)).sum())
    groups = sorted(set(own["n"])) if "n" in own else []
    over = f" on {groups[0]} to {groups[-1]} groups" if len(groups) > 1 else f" on {groups[0]} groups" if groups else ""
    return (
        f"Coefficient of upstream bias under {len(own)} specifications{over}, in SD of the outcome per SD of the score: median "
        f"{own['estimate'].median():+.2f}, range {own['estimate'].min():+.2f} to {own['estimate'].max():+.2f}; {clear} "
        f"intervals exclude 0. Bars: 95 % intervals of each fit. They share the same data, so how "
        f"many exclude 0 is no test; a denominator that all groups share changes no slope."
    )
