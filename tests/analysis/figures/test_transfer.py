"""The main figure: what it shows, what it says if there is nothing to show, and that it leaves settings unchanged."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from analysis.estimands import slopes
from analysis.figures import style, transfer


@pytest.fixture
def cells():
    """(groups, slope, arms) -> cells as `cells.cells` returns them, with three seeds per arm."""

    def build(groups=20, slope=0.3, arms=("none", "perturb"), level=-1.5):
        draw = np.random.default_rng(3)
        x0, z0 = draw.normal(0, 0.1, groups), draw.normal(-2, 0.5, groups)
        rows = []
        for arm in arms:
            for seed in range(3):
                x = x0 + (draw.normal(0, 0.1, groups) if arm != "none" else 0)
                y = level + slope * x / x0.std(ddof=1) + draw.normal(0, 0.05, groups)
                rows += [
                    (f"{arm}{seed}", arm, f"{arm} + none", seed, f"group {g}", x[g], z0[g] + draw.normal(0, 0.1), y[g])
                    for g in range(groups)
                ]
        frame = pd.DataFrame(rows, columns=["trial", "upstream", "arm", "seed", "group", "x", "z", "y"])
        share = 1 / (1 + np.exp(-frame["z"]))
        return frame.assign(
            replicate=0, draw=-1, study="wiki small tiny", outcome="fpr", x_metric="negative_sentiment",
            z_metric="toxic_share", downstream="none",
            z_level=share, z_log=np.log(share), y_rate=np.exp(frame["y"]), x_scale=x0.std(ddof=1), z_scale=z0.std(ddof=1),
            z_n=np.where(frame["group"] == "group 0", 2, 50), thin=frame["group"] == "group 0",
        )  # fmt: skip

    return build


def texts(axes):
    return " ".join(text.get_text() for text in axes.texts)


def test_the_figure_shows_each_group_the_line_and_four_intervals(cells):
    frame = cells()
    left, right = transfer.transfer(frame, slopes.estimate(frame)).axes
    drawn = sum(len(points.get_offsets()) for points in left.collections)
    assert drawn == 20
    assert len(left.collections[1].get_offsets()) == 1  # the thin group, hollow
    (line,) = left.lines
    slope = np.diff(line.get_ydata())[0] / np.diff(line.get_xdata())[0]
    assert slope == pytest.approx(0.3 / frame["x_scale"].iloc[0], rel=0.2)
    assert len(right.containers) == 4
    assert "upstream" in left.get_xlabel()
    assert "ln FPR" in left.get_ylabel()
    assert "95 %" in right.get_xlabel()
    named = [text.get_text() for text in left.texts]
    assert 4 <= len(named) <= 12
    assert len(set(named)) == len(named)


def test_groups_are_named_for_any_range_of_the_data(cells):
    """If labels were compared before the limits of the axes are set, all would seem to overlap."""
    frame = cells(groups=40)
    near = frame.assign(x=frame["x"] / 1000, x_scale=frame["x_scale"] / 1000, y=frame["y"] - 40)
    left = transfer.transfer(near, slopes.estimate(near)).axes[0]
    assert len(left.texts) >= 4


def test_the_caption_states_n_and_the_meaning_of_bars(cells):
    frame = cells()
    caption = transfer.caption(frame, slopes.estimate(frame))
    for part in (
        "20 groups",
        "3 seeds",
        "left out of regressions (1)",
        "19 rows, 19 groups",
        "114 rows",
        "95 %",
        "wild cluster bootstrap by group",
        "association",
    ):
        assert part in caption, part


def test_a_coefficient_that_was_refused_is_replaced_by_the_reason(cells):
    frame = cells(groups=8)
    left, right = transfer.transfer(frame, slopes.estimate(frame)).axes
    assert not left.lines
    assert not right.containers
    assert texts(right).replace("\n", " ").count("fewer than 10 are refused") == 4


def test_a_sweep_without_the_untouched_arm_is_drawn_with_an_explanation(cells):
    frame = cells(arms=("perturb",)).assign(x_scale=np.nan, z_scale=np.nan)
    left, right = transfer.transfer(frame, slopes.estimate(frame)).axes
    assert "no finished untouched trial" in texts(left)
    assert "no finished untouched" in texts(right).replace("\n", " ")


def test_saturation_is_mentioned_in_the_title(cells):
    frame = cells(level=-9.0, slope=0.0)
    left = transfer.transfer(frame, slopes.estimate(frame)).axes[0]
    assert "SATURATED" in left.get_title(loc="left")


def test_files_are_reproducible_and_the_users_settings_unchanged(cells, tmp_path):
    before, frame = dict(mpl.rcParams), cells()
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths = style.save(transfer.transfer(frame, slopes.estimate(frame)), tmp_path / name, "figure")
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert contents[0][0].startswith(b"\x89PNG")
    assert b"<svg" in contents[0][1]
    assert dict(mpl.rcParams) == before
