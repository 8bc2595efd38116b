"""Slope and level of each adaptation: the same slope at a third of the level is seen as that, and said in one sentence."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.estimands import adaptations, slopes
from analysis.report import wording
from analysis.report.findings import _adaptations


def of(make_cells, study, shift, shock=0.05, noise=0.0, **settings):
    """y = shift + 0.3 per SD of x, a shock that all groups of a seed share, and noise."""

    def y(arm, x, z, seed, draw):
        return shift + 0.3 * x + shock * (seed - 1.5) + noise * draw.normal(size=len(x))

    return make_cells(y=y, study=study, **settings)


@pytest.fixture
def found(make_cells):
    """(cells of several studies, study -> adaptation) -> the frame."""

    def build(names, *cells):
        both = pd.concat(cells, ignore_index=True)
        return adaptations.adaptations([both], slopes.estimate(both, draws=99), names)

    return build


NAMES = {"a": "full", "b": "prompt(shots=4)"}


def test_slope_size_and_level_by_hand(make_cells, found):
    full, prompted = of(make_cells, "a", -1.0), of(make_cells, "b", -1.0 - math.log(3))
    frame = found(NAMES, full, prompted)
    first, second = frame.to_dict("records")
    assert (first["adaptation"], second["adaptation"]) == ("full", "prompt(shots=4)")
    assert first["slope"] == pytest.approx(0.3) == second["slope"]
    rates = full.groupby("seed")["y_rate"].mean()
    assert first["level"] == pytest.approx(rates.mean()) == pytest.approx(3 * second["level"])
    reach = 3.182 * rates.std() / 2  # the t quantile of 3 degrees of freedom, over the root of four seeds
    assert (first["level_low"], first["level_high"]) == pytest.approx(
        (rates.mean() - reach, rates.mean() + reach), rel=1e-3
    )
    x = full[full["seed"] == 0].set_index("group")["x"]
    assert first["size"] == pytest.approx(0.3 * x.std(ddof=0) / x.std(), rel=1e-6)
    assert (first["n_groups"], first["seeds"], first["models"]) == (20, 4, 1)


def test_the_sentence_has_both_and_so_has_the_report(make_cells, found):
    frame = found(NAMES, of(make_cells, "a", -1.0, noise=0.02), of(make_cells, "b", -2.0, noise=0.02))
    _, text = wording.sentences("adaptations", frame)
    level, low, high = (f"{100 * frame[name][1]:.1f} %" for name in ("level", "level_low", "level_high"))
    assert text.startswith("prompt(shots=4) (b): 0.1 SD higher upstream bias goes with +3.1 % FPR (95 % interval +")
    assert (
        f"; FPR is {level} on average over 20 groups (95 % interval {low} to {high}; 4 seeds), and the size of" in text
    )
    (section,) = _adaptations(frame)
    assert [*section.blocks[1].frame["adaptation"]] == ["full", "prompt(shots=4)"]
    assert {"slope, 95 %", "size, 95 %", "level, 95 %", "n_groups"} <= {*section.blocks[1].frame}
    assert section.blocks[2].items == wording.sentences("adaptations", frame)
    assert "sentence" in wording.published("adaptations", frame)


def test_one_adaptation_needs_no_comparison(make_cells, found):
    frame = found({"a": "full", "b": "full"}, of(make_cells, "a", -1.0), of(make_cells, "b", -2.0))
    assert [*frame.columns] == [*adaptations.COLUMNS]
    assert frame.empty
    assert _adaptations(frame) == []
    assert "sentence" in wording.published("adaptations", frame)


def test_what_is_missing_has_its_reason(make_cells, found):
    single = of(make_cells, "a", -1.0, seeds=1)
    treated = of(make_cells, "b", -1.0, arms=[("perturb", 0.5, "none", None)])
    first, second = found(NAMES, single, treated).to_dict("records")
    assert math.isnan(first["level_low"])
    assert "level: one seed gives no interval" in first["reason"]
    assert "size: one seed" in first["reason"]
    assert math.isnan(second["level"])
    assert "level: no finished untouched trial" in second["reason"]
    same = of(make_cells, "a", -1.0, shock=0.0)
    assert "level: all seeds give the same" in found(NAMES, same, single.assign(study="b"))["reason"][0]
    few = of(make_cells, "a", -1.0, groups=8)
    row = found(NAMES, few, of(make_cells, "b", -1.0)).to_dict("records")[0]
    assert np.isnan(row["slope"])
    assert wording.adaptation(row).startswith("full (a): there is no slope; FPR is ")
