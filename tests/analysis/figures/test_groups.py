"""Figures with one row per group: marks, their order, and which are filled."""

import numpy as np
import pytest

from analysis.estimands import slopes
from analysis.estimands.pooling import pooled
from analysis.figures import arms, groups, transfer
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


def test_captions_say_whom_gaps_of_both_signs_favour(made_up):
    """With gaps of one sign alone, the other side is not named; ln FPR has no sides."""
    _, cells = made_up("bios", groups=12)
    y = dict(zip(cells["group"].unique(), [0.2] * 7 + [-0.1] * 4 + [0.0], strict=True))
    both = cells.assign(y=cells["group"].map(y))
    said = (
        "Of the 12 groups under the untouched arm: she/her biographies are recognised more often in 7 (above 0); he/him "
        "biographies are recognised more often in 4 (below 0); no difference in 1 (at 0)."
    )
    captions = (groups.identities_caption, groups.forest_caption, arms.distribution_caption)
    assert all(said in caption(both) for caption in captions)
    assert said in transfer.caption(both, slopes.estimate(cells))
    assert groups.WIDENED in groups.forest_caption(both)
    above = both.assign(y=both["y"].abs() + 0.1)
    assert all("in 12 (above 0)." in caption(above) and "he/him" not in _after(caption(above)) for caption in captions)
    assert groups.WIDENED not in groups.forest_caption(above)
    assert all("under the untouched arm" not in caption(made_up("wiki")[1]) for caption in captions)


def _after(caption: str) -> str:
    """Without the axis label, which names both pronouns."""
    return caption.partition("under the untouched arm")[2]


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
