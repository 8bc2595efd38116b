"""Figures with one row per group: marks, their order, and which are filled."""

import numpy as np
import pytest

from analysis.estimands.pooling import pooled
from analysis.figures import groups
from analysis.figures.style import by_seed, change


def test_identities_have_one_mark_per_group_and_arm_in_both_panels(made_up):
    _, cells = made_up("wiki", groups=50)
    left, right = groups.identities(cells).axes
    for axes, column in ((left, "x"), (right, "y")):
        assert [len(bar.lines[0].get_xdata()) for bar in axes.containers] == [50] * 4
        known = np.sort(by_seed(cells, column, "none + none").mean(axis=1))
        assert np.sort(axes.containers[0].lines[0].get_xdata()) == pytest.approx(known)
    assert (np.diff(left.containers[0].lines[0].get_xdata()) >= 0).all()  # sorted by the untouched score
    names = [label.get_text() for label in left.get_yticklabels()]
    assert len(names) == 50
    assert names[0] == by_seed(cells, "x", "none + none").mean(axis=1).idxmin()
    assert "50 groups under 4 upstream arms" in groups.identities_caption(cells)
    assert "2 more upstream arms are not drawn" in groups.identities_caption(cells)


def test_random_changes_come_first_at_their_strongest_dose(made_up):
    _, cells = made_up("wiki")
    assert groups.shown_upstream(cells) == [
        "none + none", "reinitialise=1 + none", "perturb=1 + none", "sent_debias=1(components=2,kept) + none",
    ]  # fmt: skip
    assert groups.shown_effects(cells)[-1] == "none + scrub=1"


def test_the_forest_has_one_mark_per_group_that_is_filled_if_the_interval_excludes_0(made_up):
    _, cells = made_up("wiki", groups=20, seeds=5)
    panels = groups.forest(cells).axes
    assert [len(axes.containers) for axes in panels] == [20] * 4
    changes = change(cells, "y", groups.shown_effects(cells)[-1])
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    drawn = pooled(changes)
    for bar, group in zip(panels[-1].containers, names, strict=True):
        middle, low, high = drawn.loc[group, ["coefficient", "low", "high"]]
        assert bar.lines[0].get_xdata()[0] == pytest.approx(middle)
        assert (bar.lines[0].get_markerfacecolor() != "white") == (low > 0 or high < 0)
