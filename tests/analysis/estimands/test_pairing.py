"""Pairs of trials that differ in more than the arm are counted, and named in the report."""

from __future__ import annotations

import pandas as pd

from analysis.data.runs import UNTOUCHED
from analysis.estimands.pairing import MixedPairs, mixed_pairs
from analysis.report.limitations import mixed
from bias_transfer.tracking.runs import Conditions

TABLE = pd.DataFrame(
    [(arm, seed, f"{arm} {seed}", metric) for arm in (UNTOUCHED, "a", "b") for seed in range(3) for metric in "xy"],
    columns=["arm", "seed", "trial", "metric"],
)
SAME = dict.fromkeys(TABLE["trial"], Conditions("intel", "torch 1"))


def test_pairs_on_one_machine_with_one_set_of_packages_are_not_mixed():
    assert mixed_pairs(TABLE, SAME) == ()
    assert mixed_pairs(TABLE, dict.fromkeys(SAME, Conditions("amd", "torch 2"))) == ()
    assert mixed([]) == []


def test_each_arm_is_held_against_the_untouched_trial_of_its_seed():
    ran = SAME | {"a 0": Conditions("amd", "torch 1"), "a 1": Conditions("intel", "torch 2")}
    assert mixed_pairs(TABLE, ran) == (MixedPairs("a", machines=1, versions=1, of=3),)
    # The untouched trial of seed 2 on another machine concerns both arms.
    ran |= {f"{UNTOUCHED} 2": Conditions("amd", "torch 1")}
    found = mixed_pairs(TABLE, ran)
    assert found == (MixedPairs("a", 2, 1, 3), MixedPairs("b", 1, 0, 3))
    (sentence,) = mixed(found)
    assert "a (3 pairs: 2 on two machines, 1 with two sets of package versions); b (3 pairs: 1 " in sentence


def test_a_trial_whose_machine_was_not_recorded_is_left_out():
    ran = SAME | {"a 0": Conditions("", ""), "b 0": Conditions("amd", "torch 1")}
    del ran["a 1"]
    assert mixed_pairs(TABLE, ran) == (MixedPairs("b", 1, 0, 3),)
