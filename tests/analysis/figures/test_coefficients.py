"""Coefficients and the specification curve: the drawn values are those of the tables."""

import numpy as np
import pandas as pd
import pytest

from analysis.estimands import slopes
from analysis.estimands.specification_curve import COLUMNS, specifications
from analysis.figures import coefficients


def test_there_is_one_bar_per_estimand_and_term(made_up):
    _, cells = made_up("wiki", groups=20)
    frame = slopes.estimate(cells)
    (axes,) = coefficients.coefficients(frame).axes
    assert len(axes.containers) == 9  # x, z and x - z of B, plain B and W
    assert "Hollow" in coefficients.coefficients_caption(frame)
    known = frame[(frame["estimand"] == "B") & (frame["term"] == "x")].iloc[0]
    assert axes.containers[0].lines[0].get_xdata()[0] == known["coefficient"]
    ends = axes.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert ends == pytest.approx([known["low"], known["high"]])
    assert "B: 19 rows, 19 groups" in coefficients.coefficients_caption(frame)


def test_the_curve_is_sorted_and_has_one_tick_per_specification_and_choice(made_up, primary):
    frame = specifications(made_up("wiki", groups=20)[0], primary)
    above, below = coefficients.specification_curve(frame).axes
    (excluding,) = [line for line in above.lines if "excludes" in str(line.get_label())]
    (containing,) = [line for line in above.lines if "contains" in str(line.get_label())]
    assert len(excluding.get_xdata()) + len(containing.get_xdata()) == len(frame)
    assert (np.diff(excluding.get_ydata()) >= 0).all()
    ticks = sum(len(line.get_xdata()) for line in below.lines if line.get_marker() == "|")
    assert ticks == len(frame) * 7  # each choice varies, and each specification has one value of it
    assert f"{len(frame)} specifications on 19 groups" in coefficients.specification_caption(frame)


def test_any_table_with_estimates_and_a_choice_can_be_drawn():
    frame = pd.DataFrame({"metric": ["a", "b"], "estimate": [0.2, -0.1], "low": [0.1, -0.3], "high": [0.3, 0.1]})
    assert len(coefficients.specification_curve(frame).axes) == 2
    assert len(coefficients.specification_curve(frame.iloc[:0]).axes) == 1
    assert set(COLUMNS) > {"metric", "estimate"}
