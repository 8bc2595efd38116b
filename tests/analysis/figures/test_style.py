"""The appearance of arms, and intervals over seeds."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.data import runs
from analysis.figures import style


def test_arms_look_the_same_in_any_order_and_no_two_look_alike():
    arms = [f"perturb={dose} + none" for dose in range(30)] + ["none + none"]
    looks = style.arm_style(arms)
    assert looks == style.arm_style(reversed(arms))
    assert len({(look.colour, look.mark) for look in looks.values()}) == len(arms)
    assert (looks["none + none"].colour, looks["none + none"].mark) == ("#000000", "o")
    assert all(look.mark != "o" for arm, look in looks.items() if arm != "none + none")


def test_eleven_arms_differ_in_their_marks_alone():
    looks = style.arm_style([f"perturb={dose} + none" for dose in range(11)])
    assert len({look.mark for look in looks.values()}) == 12


@pytest.mark.parametrize(
    ("arm", "name"),
    [
        ("none + none", "untouched"),
        ("perturb=0.5 + none", "perturb=0.5"),
        ("none + scrub=1(control)", "scrub=1 (control)"),
        ("sent_debias=1(components=2,kept) + scrub=1", "sent_debias=1 (components=2, kept) + scrub=1"),
    ],
)
def test_names_of_arms(arm, name):
    assert style.arm_label(arm) == name


def trials(seeds):
    return pd.MultiIndex.from_product([[0], [-1], range(seeds)], names=runs.REPEATS)


def test_the_interval_is_students_t_interval():
    values = pd.Series([0.1, 0.4, 0.3, np.nan], trials(4))
    interval = style.interval(values)
    known = stats.ttest_1samp(values[:3], 0).confidence_interval()
    assert interval == pytest.approx((values[:3].mean(), known.low, known.high))
    assert style.interval(values[:1])[0] == 0.1
    assert math.isnan(style.interval(values[:1])[1])
    assert all(map(math.isnan, style.interval(values[3:])))
    assert style.error_bar(0.5, math.nan, math.nan) == [[0.0], [0.0]]


def test_changes_are_paired_by_seed_and_group():
    cells = pd.DataFrame(
        [("a + none", seed, group, 10 * seed + g) for seed in (1, 2) for g, group in enumerate("pq")]
        + [("none + none", seed, "p", float(seed)) for seed in (3, 1, 2)],
        columns=["arm", "seed", "group", "y"],
    )
    changes = style.change(cells.assign(replicate=0, draw=-1), "y", "a + none")
    assert changes.droplevel(["replicate", "draw"], axis=1).to_dict() == {1: {"p": 9.0}, 2: {"p": 18.0}}


def test_a_duplicate_trial_raises():
    cells = pd.DataFrame({"arm": "none + none", "replicate": 0, "draw": -1, "seed": 0, "group": "p", "y": [1.0, 2.0]})
    with pytest.raises(ValueError, match="duplicate"):
        style.by_seed(cells, "y", "none + none")
