"""All figures in the registry: they can be drawn, state n and units, are reproducible, and say why data are missing."""

import io
from types import SimpleNamespace

import matplotlib as mpl
import pandas as pd
import pytest

from analysis.estimands import ranking, slopes
from analysis.estimands.specification_curve import COLUMNS, specifications
from analysis.figures import registry
from analysis.figures.style import STYLE
from analysis.report import write

WIKI = {"figure_2_scrub", "figure_3_identities", "figure_4_coefficients", "transfer", "dose_response", "forest",
        "utility_and_bias", "specification_curve", "dominance"}  # fmt: skip
BIOS = WIKI - {"figure_2_scrub", "figure_3_identities"} | {"figure_1_distribution"}


def data(made, primary):
    table, cells = made
    return registry.Data(
        table, cells, slopes.estimate(cells), specifications(table, primary), ranking.ranking(table, cells)
    )


@pytest.fixture(scope="module")
def drawn(made_up, primary):
    """task -> name -> (entry, figure, caption)."""
    known = {task: data(made_up(task), primary) for task in ("wiki", "bios")}
    return {task: registry.draw(own, own.cells["study"].iloc[0]) for task, own in known.items()}


def texts(figure):
    return " ".join(" ".join(text.get_text() for text in figure.findobj(mpl.text.Text)).split())


def test_each_task_has_its_figures(drawn):
    assert set(drawn["wiki"]) == WIKI
    assert set(drawn["bios"]) == BIOS
    assert {entry.name for entry in registry.FIGURES} == WIKI | BIOS


@pytest.mark.parametrize("task", ["wiki", "bios"])
def test_captions_state_n_and_the_meaning_of_bars(drawn, task):
    for name, (_, _, caption) in drawn[task].items():
        assert "12 groups" in caption or "11 groups" in caption, (
            name
        )  # one group is mentioned too rarely for regressions
        assert "Bars:" in caption or "Box:" in caption, name
        assert "nan" not in caption, name


@pytest.mark.parametrize("task", ["wiki", "bios"])
def test_axes_state_their_unit(drawn, task):
    unit = {"wiki": "ln FPR", "bios": "TPR"}[task]
    for name, (_, figure, _) in drawn[task].items():
        assert unit in texts(figure), name
        assert figure.get_supxlabel() or any(axes.get_xlabel() or axes.get_ylabel() for axes in figure.axes), name


def test_an_arm_looks_the_same_in_every_figure(drawn):
    seen = {}
    for name in ("figure_2_scrub", "utility_and_bias"):
        _, figure, _ = drawn["wiki"][name]
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                seen.setdefault(label, set()).add((handle.lines[0].get_color(), handle.lines[0].get_marker()))
    assert {"scrub=1", "scrub=0.5", "untouched"} <= set(seen)
    assert all(len(looks) == 1 for looks in seen.values())


def test_figures_are_reproducible_and_leave_the_users_settings_unchanged(made_up, primary):
    before, own = dict(mpl.rcParams), data(made_up("bios"), primary)
    contents = [[_bytes(figure) for _, figure, _ in _draw(own)] for _ in range(2)]
    assert contents[0] == contents[1]
    assert dict(mpl.rcParams) == before


def _draw(own):
    return registry.draw(own, own.cells["study"].iloc[0]).values()


def _bytes(figure):
    png, svg = io.BytesIO(), io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(png, dpi=50)
        figure.savefig(svg, format="svg", metadata={"Date": None})
    assert png.getvalue().startswith(b"\x89PNG")
    return png.getvalue(), svg.getvalue()


CUTS = {
    "one seed": lambda frame: frame["seed"] == 0,
    "only the untouched arm": lambda frame: frame["arm"] == "none + none",
    "no untouched arm": lambda frame: frame["arm"] != "none + none",
    "five groups": lambda frame: frame["group"].isin(["", *(f"group {g}" for g in range(5))]),
    "no shared seed": lambda frame: (frame["arm"] == "none + none") == (frame["seed"] == 0),
}


@pytest.mark.parametrize(("task", "cut"), [*(("wiki", cut) for cut in CUTS), ("bios", "one seed")])
def test_every_figure_says_why_data_are_missing(made_up, primary, task, cut):
    table, cells = made_up(task)
    cells = cells[CUTS[cut](cells)].assign(**({"x_scale": float("nan")} if cut == "no untouched arm" else {}))
    own = data((table[CUTS[cut](table)], cells), primary)
    looks = registry.arm_style(cells["arm"].unique())
    for entry in registry.FIGURES:
        figure, caption = entry.draw(own, looks), entry.caption(own)
        figure.savefig(io.BytesIO(), dpi=20)
        assert len(texts(figure)) > 20, entry.name
        assert caption, entry.name


@pytest.mark.parametrize("column", ["x", "y"])
def test_a_measure_that_is_missing_everywhere_raises_no_error(made_up, primary, column):
    table, cells = made_up("wiki")
    cells = cells.assign(**{column: float("nan")})
    own = registry.Data(table, cells, slopes.estimate(cells), pd.DataFrame(columns=list(COLUMNS)))
    for entry in registry.FIGURES:
        entry.draw(own, registry.arm_style(cells["arm"].unique())).savefig(io.BytesIO(), dpi=20)
        assert "nan" not in entry.caption(own).split()


def test_each_task_of_an_experiment_is_drawn_with_the_outcome_of_that_task(made_up, monkeypatch, tmp_path):
    parts = [made_up(task) for task in ("wiki", "bios")]
    cells = pd.concat([own for _, own in parts], ignore_index=True)
    found = pd.DataFrame([{"study": study, "outcome": outcome, "estimand": "B"} for study, outcome in
                          cells[["study", "outcome"]].drop_duplicates().itertuples(index=False)])  # fmt: skip
    table = pd.concat([table for table, _ in parts], ignore_index=True)
    frames = {"ranking": ranking.ranking(table, cells)}
    findings = SimpleNamespace(
        runs=SimpleNamespace(table=table), coefficients=found, cells=[cells], evaluated=[], frames=frames
    )
    drawn = {}
    monkeypatch.setattr(
        registry,
        "draw",
        lambda data, study, styles, chosen=None: drawn.update({study: data.of(study)}) or {},
    )
    write.draw(findings, pd.DataFrame({"study": []}), tmp_path)
    assert [list(own.coefficients["outcome"]) for own in drawn.values()] == [["fpr"], ["tpr_gap"]]
    assert [set(own.ranking["outcome"]) for own in drawn.values()] == [{"fpr"}, {"tpr_gap"}]
