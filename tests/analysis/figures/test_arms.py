"""Figures of arms: the number and positions of marks, for tables with known effects."""

import numpy as np
import pytest

from analysis.data.cells import OUTCOMES
from analysis.estimands.bias_size import size_of_bias
from analysis.figures import arms
from analysis.figures.style import by_seed


def points(axes):
    """(x, y) of the marks of all error bars."""
    return [(bar.lines[0].get_xdata()[0], bar.lines[0].get_ydata()[0]) for bar in axes.containers]


def test_the_distribution_has_one_mark_per_group_and_arm(made_up):
    _, cells = made_up("bios", groups=28)
    (axes,) = arms.distribution(cells).axes
    drawn = [len(marks.get_offsets()) for marks in axes.collections]
    assert drawn == [28] * 6
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["untouched", "perturb=0.25"]
    first = np.sort(np.asarray(axes.collections[0].get_offsets())[:, 0])
    np.testing.assert_allclose(first, np.sort(by_seed(cells, "y", "none + none").mean(axis=1)))
    assert "28 groups under 6 upstream arms" in arms.distribution_caption(cells)


def test_scrub_shows_each_arm_with_and_without_pre_training_and_the_difference(made_up):
    _, cells = made_up("wiki", seeds=4)
    (axes,) = arms.scrub(cells).axes
    assert len(axes.containers) == 3 * 3
    assert sum(len(dots.get_offsets()) for dots in axes.collections if len(dots.get_offsets()) == 4) == 4 * 9
    pairs = arms.pretrained_pairs(cells)["none + scrub=1"]
    assert pairs["pre-trained"].mean() == pytest.approx(-0.15, abs=0.15)
    assert pairs["not pre-trained"].mean() == pytest.approx(-0.8, abs=0.15)
    heights = [y for x, y in points(axes) if abs(x - 2) < 0.01]  # the middle arm of three
    assert heights == pytest.approx([(pairs["pre-trained"] - pairs["not pre-trained"]).mean()])
    assert "4 seeds" in arms.scrub_caption(cells)


def test_the_column_of_reinitialised_trials_says_so_if_there_are_none(made_up):
    _, cells = made_up("wiki")
    (axes,) = arms.scrub(cells[cells["upstream"] == "none"]).axes
    assert len(axes.containers) == 3
    assert [text.get_text() for text in axes.texts] == ["not run", "not run"]


def test_doses_include_only_single_interventions(made_up):
    _, cells = made_up("wiki")
    assert arms.doses(cells) == {
        "perturb": [(0.0, "none + none"), *((dose, f"perturb={dose:g} + none") for dose in (0.25, 0.5, 1.0))],
        "scrub": [(0.0, "none + none"), (0.5, "none + scrub=0.5"), (1.0, "none + scrub=1")],
    }


def test_dose_response_grows_with_the_dose(made_up):
    _, cells = made_up("wiki", groups=40, seeds=5)
    figure = arms.dose_response(cells)
    above, _, _, below = figure.axes
    heights = [y for _, y in points(above)]
    assert heights == pytest.approx([0, 0.25, 0.5, 1.0], abs=0.15)
    assert heights == sorted(heights)
    assert points(below)[2][1] == pytest.approx(-0.15, abs=0.15)


def test_utility_is_drawn_at_the_noise_free_size_of_bias(made_up):
    table, cells = made_up("wiki")
    axes = arms.utility_and_bias(table, cells).axes[0]
    assert len(axes.containers) == cells["arm"].nunique()
    known = size_of_bias(by_seed(cells, "y", "none + none"), OUTCOMES["fpr"])[0]
    assert points(axes)[0][0] == pytest.approx(known)
    assert points(axes)[0][1] == pytest.approx(0.955, abs=0.01)
