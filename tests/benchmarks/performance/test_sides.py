"""Wall time by stage: the stages add up to the total, and different tables are reported."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks.performance.sides import STAGES, Side, largest, sentences, table
from benchmarks.performance.sweep_walltime import summed

MEASURES = {
    ("a", "upstream", "negative_sentiment", "gay", "t"): 0.5,
    ("a", "dataset", "toxic_share", "deaf", ""): math.nan,
    ("a", "utility", "accuracy", "", ""): 0.9,
    ("a", "utility", "roc_auc", "", ""): 0.8,
}
USUAL = Side(100.0, 2, {"start-up": 20.0, "fine-tune": 100.0, "evaluate": 40.0}, 100.0, MEASURES)
SWEEP = Side(
    50.0, 2, {"start-up": 30.0, "data": 5.0, "fine-tune": 45.0, "evaluate": 15.0, "record": 1.0}, 35.0, MEASURES
)


def test_the_stages_add_up_to_the_time_of_all_slots():
    for side in (USUAL, SWEEP):
        assert math.fsum(side.seconds(stage) for stage in STAGES) == pytest.approx(side.slots * side.wall)
    assert USUAL.seconds("idle") == 40.0
    assert SWEEP.useful(SWEEP.working) == pytest.approx(60 / 70)
    assert "| idle | 40.0 | 20.0% | 4.0 | 4.0% |" in table(USUAL, SWEEP)
    assert sentences(USUAL, SWEEP)[0].startswith("2.0 times")


def test_different_and_missing_measures_are_reported():
    for value, expected in ((0.25, 0.25), (math.nan, math.inf)):
        other = dataclasses.replace(SWEEP, measures={**MEASURES, next(iter(MEASURES)): value})
        assert largest(USUAL, other, ("upstream", "dataset")) == expected
    assert largest(USUAL, SWEEP, ("upstream", "dataset")) == 0.0
    fewer = dataclasses.replace(SWEEP, measures=dict(list(MEASURES.items())[1:]))
    with pytest.raises(ValueError, match="1 measures are in one table only"):
        sentences(USUAL, fewer)


def test_stages_are_summed_over_trials():
    given = [{"data": 1.0, "model": 2.0, "finetune": 3.0}, {"data": 4.0, "evaluate": 5.0}]
    assert summed(given) == {"data": 7.0, "fine-tune": 3.0, "evaluate": 5.0}
    with pytest.raises(ValueError, match="stages without a row: lunch"):
        summed([{"lunch": 1.0}])
