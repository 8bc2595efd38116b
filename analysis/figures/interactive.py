"""Charts that a reader can question: point at a group or an arm, and choose outcome, arm, seed and template.

They are Vega-Lite charts, made with Altair; the report has Vega's JavaScript inlined once, so that it fetches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from analysis.data.cells import Outcome, outcome_named
from analysis.estimands.arm_effects import trials_of
from analysis.figures.style import COLOURS, GREY, arm_label, arms_of, by_seed, group_means, interval

if TYPE_CHECKING:
    import altair

Chart: TypeAlias = "altair.LayerChart | altair.FacetChart"

ALL_SEEDS, ALL_TEMPLATES = "mean over seeds", "mean over templates"

MOST_ROWS = 30_000
"""Points that a chart holds; above that, single seeds are left out, and then single templates."""

HARM = "harm after fine-tuning (rates in %, gaps in points)"

WIDTH = 560
"""Of a chart, in pixels."""


def groups_chart(table: pd.DataFrame, outcomes: Sequence[pd.DataFrame], study: str) -> Chart | None:
    """The groups of one study: harm after fine-tuning against bias before it. None where no group has an outcome.

    table: `runs.Runs.table`; outcomes: the cells of each outcome. Names, n, values and intervals show under the pointer, and
    outcome, arm, seed and template can be chosen.
    """
    cells = [of_study for frame in outcomes if len(of_study := frame[frame["study"] == study])]
    after = pd.DataFrame([row for frame in cells for row in _outcomes(frame)])
    if after.empty:
        return None
    before = pd.DataFrame(_scores(table[table["study"] == study], cells[0]))
    if len(after) > MOST_ROWS:
        after = after[after["seed"] == ALL_SEEDS]
    if len(before) > MOST_ROWS:
        before = before[before["template"] == ALL_TEMPLATES]
    return _groups(before, after) if len(before) else None


def _outcomes(cells: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Outcome, arm, group and seed -> value, n and, for the mean over seeds, its interval."""
    outcome = outcome_named(str(cells["outcome"].iloc[0]))
    counted = cells.groupby(["arm", "group"])["y_n"].max().to_dict()
    for arm in arms_of(cells):
        for group, values in by_seed(cells, "y", arm).iterrows():
            known = values.dropna()
            key = {"outcome": outcome.label, "arm": arm_label(arm), "group": str(group), "n": int(counted[arm, group])}
            seeds = [seed for _, _, seed in trials_of(known.index)]
            for seed, value in zip(seeds, known.to_list(), strict=True) if len(known) > 1 else ():
                yield {**key, "seed": f"seed {seed}", "y": displayed(outcome, value), "shown": shown(outcome, value)}
            if len(known):
                mean, low, high = interval(known)
                yield {
                    **key, "seed": ALL_SEEDS, "y": displayed(outcome, mean), "shown": shown(outcome, mean),
                    **_ends(outcome, low, high),
                }  # fmt: skip


def _ends(outcome: Outcome, low: float, high: float) -> dict[str, Any]:
    if math.isnan(low):
        return {"interval": "no interval"}
    ends = {"low": displayed(outcome, low), "high": displayed(outcome, high)}
    return {**ends, "interval": f"{shown(outcome, low)} to {shown(outcome, high)}"}


def _scores(table: pd.DataFrame, cells: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Arm, group and template -> upstream score, mean over trials."""
    measured = (table["stage"] == "upstream") & (table["metric"] == str(cells["x_metric"].iloc[0]))
    rows = table[measured & (table["group"] != "") & (table["template"] != "")]
    by_template = rows.groupby(["arm", "group", "template"], observed=True)["value"].mean().dropna().reset_index()
    for row in by_template.to_dict("records"):
        names = {"group": str(row["group"]), "template": str(row["template"])}
        yield {"arm": arm_label(str(row["arm"])), **names, "x": row["value"]}
    for arm in arms_of(cells):
        for group, value in group_means(by_seed(cells, "x", arm)).dropna().items():
            yield {"arm": arm_label(arm), "group": str(group), "template": ALL_TEMPLATES, "x": value}


def displayed(outcome: Outcome, value: float) -> float:
    """An outcome's value as axes show it: a logarithm of a rate as the rate, in per cent, and of a ratio as the ratio."""
    if outcome.logs:
        return (100 if outcome.rate else 1) * math.exp(value)
    return 100 * value if outcome.points else value


def moved(outcome: Outcome, value: float) -> float:
    """A change of an outcome as axes show it: of a logarithm in per cent, of a gap in points."""
    return 100 * math.expm1(value) if outcome.logs else 100 * value if outcome.points else value


def shown(outcome: Outcome, value: float) -> str:
    """An outcome's value in words."""
    unit = ("%" if outcome.rate else "times") if outcome.logs else "points" if outcome.points else outcome.unit
    return f"{displayed(outcome, value):{'.3g' if outcome.logs else '+.3g'}} {unit}"


def _groups(before: pd.DataFrame, after: pd.DataFrame) -> Chart:
    import altair as alt

    chosen = {
        "outcome": _choice("outcome", after["outcome"]), "arm": _choice("arm", after["arm"]),
        "seed": _choice("seed", sorted(after["seed"], key=lambda name: (name != ALL_SEEDS, name))),
        "template": _choice("template", sorted(before["template"], key=lambda name: (name != ALL_TEMPLATES, name))),
    }  # fmt: skip
    joined = " + '|' + ".join(("outcome", "datum.arm", "datum.group", "seed"))
    # Each point is looked up by what is chosen, so that templates and seeds are stored once, and not as a product.
    known = after.assign(key=after[["outcome", "arm", "group", "seed"]].agg("|".join, axis=1))
    fields = ["y", "low", "high", "n", "shown", "interval"]
    base = (
        alt.Chart(before)
        .transform_filter("datum.arm == arm && datum.template == template")
        .transform_calculate(key=joined)
        .transform_lookup("key", alt.LookupData(known.reindex(columns=["key", *fields]), "key", fields))
        .transform_filter("isValid(datum.y)")
    )
    x = alt.X("x:Q", title="bias before fine-tuning (upstream score)", scale=alt.Scale(zero=False))
    y = alt.Y("y:Q", title=HARM, scale=alt.Scale(zero=False))
    bars = base.transform_filter("isValid(datum.low)").mark_rule(color=GREY, opacity=0.45)
    points = base.mark_point(filled=True, size=55, color=COLOURS[0], opacity=0.9)
    tooltips = [alt.Tooltip(f"{field}:N", title=title) for field, title in TOOLTIPS.items()]
    layers = bars.encode(x=x, y=alt.Y("low:Q", title=HARM), y2="high:Q"), points.encode(x=x, y=y, tooltip=tooltips)
    return alt.layer(*layers).add_params(*chosen.values()).properties(width=WIDTH, height=360)


TOOLTIPS = {"group": "group", "shown": "value", "interval": "95 % interval", "n": "n", "x": "upstream score"}
"""Field of a point -> what it is called under the pointer."""


def _choice(name: str, values: Iterable[str]) -> Any:
    """A menu of the values; the first is chosen."""
    import altair as alt

    options = list(dict.fromkeys(map(str, values)))
    return alt.param(name=name, value=options[0], bind=alt.binding_select(options=options, name=f"{name} "))


def arms_chart(rows: pd.DataFrame, worded: Mapping[str, Mapping[str, str]]) -> Chart | None:
    """The arms of one study, the largest reduction of harm on top; None where no arm has a change of harm.

    rows: `answer.answer` of one study; worded: arm -> what shows under the pointer, by name.
    """
    import altair as alt

    known = rows[rows["harm"].notna()]
    if known.empty:
        return None
    outcome = outcome_named(str(known["outcome"].iloc[0]))
    frame = pd.DataFrame([_arm(row, outcome) | dict(worded[row["arm"]]) for row in known.to_dict("records")])
    order = alt.Y("arm:N", sort=list(frame["arm"]), title=None, axis=alt.Axis(labelLimit=260))
    scale = alt.Scale(domain=list(CHANGES.values()), range=list(COLOURS[:3]))
    colour = alt.Color("changes:N", scale=scale, title="changes")
    title = f"change of harm ({'%' if outcome.logs else 'points' if outcome.points else outcome.unit})"
    chart = alt.Chart(frame).encode(
        y=order,
        color=colour,
        tooltip=[alt.Tooltip(f"{name}:N") for name in ("arm", "changes", *next(iter(worded.values())))],
    )
    points = chart.mark_point(filled=True, size=70).encode(x=alt.X("value:Q", title=title))
    bars = chart.transform_filter("isValid(datum.low)").mark_rule().encode(x=alt.X("low:Q", title=title), x2="high:Q")
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(color=GREY, strokeDash=[3, 3]).encode(x="zero:Q")
    return alt.layer(zero, bars, points).properties(width=WIDTH)


CHANGES = {"model": "the model", "data": "the data", "both": "both"}
"""Side -> what its arms change."""


def _arm(row: Any, outcome: Outcome) -> dict[str, Any]:
    value, low, high = (moved(outcome, row[name]) for name in ("harm", "harm_low", "harm_high"))
    ends = {} if math.isnan(low) else {"low": low, "high": high}
    return {"arm": arm_label(str(row["arm"])), "changes": CHANGES[row["side"]], "value": value, **ends}


def script() -> str:
    """Vega, Vega-Lite and Vega-Embed as one piece of JavaScript, which defines `vegaEmbed`."""
    import vl_convert

    # Within a page, the text of a script ends at the first "</script".
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg] # its stub lacks the default
    return bundle.replace("</script", "<\\/script")


def specification(chart: Chart) -> str:
    """A chart as Vega-Lite's JSON, for a script element of a page."""
    return str(chart.to_json(indent=None)).replace("<", "\\u003c")
