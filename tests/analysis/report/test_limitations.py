"""Limitations are stated where they apply, and only there."""

import numpy as np
import pandas as pd
import pytest

from analysis.data import cells as data_cells
from analysis.data import runs
from analysis.estimands.caveats import PairedSeeds, caveats
from analysis.report import limitations
from bias_transfer.spec import Trial


@pytest.fixture
def stated(primary):
    """(table, settings of `caveats`) -> all limitations in one text."""

    def build(table, **settings):
        return " ".join(limitations.limitations(caveats(table, data_cells.cells(table, primary), **settings)))

    return build


def test_thin_data_are_named_and_good_data_are_not(simulate, stated):
    text = stated(simulate(groups=60, seeds=12, unseen=0))
    for absent in ("Left out", "few clusters", "reliability", "Saturated", "noise."):
        assert absent not in text, absent
    for always in ("'No transfer' cannot be claimed", "One checkpoint (tiny)", "variance inflation", "12 paired seeds"):
        assert always in text, always
    table = simulate(groups=20, unseen=2)
    noisy = table["metric"] == "negative_sentiment"
    table.loc[noisy, "value"] += np.random.default_rng(0).normal(0, 0.5, noisy.sum())
    text = stated(table)
    for part in ("Left out", "18 groups are few clusters", "The reliability of x over 2 templates", "4 paired seeds"):
        assert part in text, part


def test_saturated_trials_are_counted_in_words(simulate, stated):
    text = stated(simulate(level=-9.0, beta=0.1, gamma=0.1))
    assert "Saturated: in 4 of 4 trials of none + none the FPR of all groups is between 0.000 and" in text


def test_an_outcome_that_has_no_logarithm_for_want_of_phrases_is_named(simulate, stated):
    table = simulate()
    assert "logarithms" not in stated(table)
    table.loc[table["metric"] == "fpr", "n"] = 40
    assert (
        "ln FPR is missing in all groups: logarithms are given for 100 or more examples of a group (here 40 at"
        in stated(table)
    )


def test_groups_that_are_left_out_are_named(simulate, stated):
    assert "5 that the fine-tuning set never mentions (g0, g1, g2, g3, g4)" in stated(simulate(unseen=5))


def test_occupations_with_too_few_biographies_of_a_pronoun_are_named(made_up, primary):
    table = made_up("bios", 12, 2)[0].copy()
    rapper = (table["metric"] == "tpr_she") & (table["group"] == "group 3")
    table.loc[rapper, "n"] = 9
    text = " ".join(limitations.limitations(caveats(table, data_cells.cells(table, primary))))
    assert (
        "Left out of everything about the TPR gap: 1 group with fewer than 10 she/her or fewer than 10 he/him biographies in "
        "the test set (group 3)." in text
    )


@pytest.mark.parametrize(
    ("seeds", "part"),
    [
        (PairedSeeds(0, 0), "There is a single arm (none + none)"),
        (PairedSeeds(1, 1), "1 paired seed: no interval"),
        (PairedSeeds(1, 3), "3 paired seeds detect an arm effect (A) of 3.3 SD"),
        (PairedSeeds(2, 10), "corrects for the 2 arms (Holm)"),
    ],
)
def test_what_the_seeds_can_detect(seeds, part):
    (text,) = limitations.power(seeds, runs.UNTOUCHED)
    assert part in text


def test_unfinished_trials_are_named(simulate, stated):
    lost = Trial(seed=9, data_digest="d", model_digest="m")
    assert f"have not finished, and are left out: {lost.id}" in stated(
        simulate(seeds=1), missing=[(lost.id, lost.name)]
    )


def test_what_holds_for_several_studies_is_said_once(simulate, primary):
    table = simulate(groups=20)
    table = table.assign(study=table["study"].astype(str))
    tables = pd.concat([table, table.assign(study="another")], ignore_index=True)
    texts = limitations.limitations(caveats(tables, data_cells.cells(tables, primary)))
    assert sum("4 paired seeds" in text for text in texts) == 1
    assert any(text.startswith("All studies: 4 paired seeds") for text in texts)
