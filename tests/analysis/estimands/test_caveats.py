"""Caveats as numbers: thin data, saturation, what few seeds can detect, one checkpoint, an uninformed model."""

import math

import pandas as pd
import pytest

from analysis.data import cells as data_cells
from analysis.data import runs
from analysis.estimands import caveats
from analysis.estimands.rows import saturation
from analysis.report import limitations


def test_a_single_saturated_trial_is_counted(cells_of):
    cells = cells_of()
    floor = (cells["arm"] == runs.UNTOUCHED) & (cells["seed"] == 1)
    (found,) = saturation(cells.assign(y_rate=cells["y_rate"].mask(floor, 0.0))).to_dict("records")
    assert (found["arm"], found["saturated"], found["trials"]) == (runs.UNTOUCHED, 1, 4)
    assert (found["lowest"], found["highest"]) == (0.0, 0.0)


def test_groups_are_left_out_by_their_examples_and_the_others_are_counted(make_cells):
    cells = make_cells()
    cells = cells.assign(z_n=cells["group"].map({"g00": 0, "g01": 4}).fillna(100).astype(int))
    found = caveats.left_out(cells)
    assert (found.never, found.rarely, found.remaining, found.median) == (("g00",), ("g01",), 18, 100.0)
    assert not caveats.left_out(cells.assign(z_n=0)).mentioned
    without = cells.assign(few=cells["group"] == "g02")
    assert (caveats.left_out(without).remaining, caveats.few_groups(without)[0]) == (17, 19)


def test_the_fewest_paired_seeds_count(make_cells):
    cells = make_cells([("none", None, "none", None), ("perturb", 0.5, "none", None), ("perturb", 1.0, "none", None)])
    lost = cells[~((cells["arm"] == "perturb=1 + none") & (cells["seed"] > 1))]
    assert caveats.paired_seeds(cells) == caveats.PairedSeeds(2, 4)
    assert caveats.paired_seeds(lost) == caveats.PairedSeeds(2, 2)
    assert caveats.paired_seeds(lost[lost["arm"] != runs.UNTOUCHED]).fewest == 0


@pytest.mark.parametrize(("loss", "uninformed"), [(5.6, True), (3.0, False), (math.nan, False)])
def test_a_model_that_is_no_better_than_word_frequencies_is_found(simulate, loss, uninformed):
    table = simulate(groups=10, seeds=1)
    base = {**table.iloc[0].to_dict(), "stage": "upstream", "group": "", "template": "", "n": 9}
    rows = [{**base, "metric": "masked_lm_loss", "value": loss}, {**base, "metric": "unigram_loss", "value": 5.8}]
    found = caveats.uninformed_losses(pd.concat([table, pd.DataFrame(rows)]))
    assert found == (pytest.approx((loss, 5.8)) if uninformed else None)


def test_several_pre_training_seeds_are_several_checkpoints(simulate, primary):
    table = simulate(seeds=2, arms=[("none", "none")])
    cells = data_cells.cells(table, primary)
    assert caveats.caveats(table, cells).studies[0].only_checkpoint == "tiny"
    assert not caveats.caveats(table.assign(replicate=table["seed"]), cells).studies[0].only_checkpoint


def test_models_are_counted_where_there_are_several(make_cells):
    cells = make_cells([("none", None, "none", None), ("perturb", 0.5, "none", None)], seeds=6)
    nested = cells.assign(replicate=cells["seed"] // 2)
    assert caveats.paired_seeds(nested) == caveats.PairedSeeds(1, 6, models=3)
    (text,) = limitations.power(caveats.paired_seeds(nested), "none + none")
    assert text.startswith("3 models (pre-training seeds) detect an arm effect (A) of 3.3 SD")


def test_an_arm_that_left_the_prompt_alone_is_counted_and_named(simulate, primary):
    table = simulate(groups=10, seeds=3)
    scrubbed = table[table["downstream"] == "scrub"].drop_duplicates("trial").assign(group="", template="", n=4)
    rows = scrubbed.assign(stage="dataset", metric="prompt_changed", value=[0.0, 0.25, 0.0])
    found = caveats.unreached(pd.concat([table, rows]))
    assert found == (caveats.Unreached("none + scrub=1", 2, 3),)
    text = " ".join(
        limitations.limitations(caveats.caveats(pd.concat([table, rows]), data_cells.cells(table, primary)))
    )
    assert "none + scrub=1 did not reach the prompt in 2 of 3 trials" in text
    assert caveats.unreached(pd.concat([table, rows.assign(value=0.5)])) == ()
    assert caveats.unreached(table) == ()
