"""W where an arm scrubs: z is what the texts still show."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.data import cells as data_cells
from analysis.data import runs
from analysis.estimands import slopes
from bias_transfer.spec import Trial

ARMS = {
    "untouched": {},
    "sent_debias": {"upstream": "sent_debias", "upstream_dose": 1.0},
    "all": {"downstream": "scrub", "downstream_dose": 1.0},
    "female": {"downstream": "scrub", "downstream_dose": 0.5},
}


def table(arms=tuple(ARMS), groups=28, seeds=6, bios=400):
    """TPR gaps that follow the visible share and never x. `sent_debias` shrinks x, which goes with the share of she."""
    draw = np.random.default_rng(3)
    z0 = draw.normal(0, 1, groups)
    x0 = 0.7 * z0 + 0.7 * draw.normal(0, 1, groups)
    she = np.round(bios / (1 + np.exp(-z0)))
    trials, rows = [], []
    for arm in arms:
        for seed in range(seeds):
            trial = Trial(task="bios", data_digest="d", model_digest="m", seed=seed, **ARMS[arm])
            trials.append(trial)
            x = x0 * (0.3 if arm == "sent_debias" else 1.0) + 0.05 * draw.normal(0, 1, groups)
            # "female" takes most of the words for she where they are frequent, and none of those for he
            share = {"all": 0.0 * z0, "female": np.where(z0 > 0, 0.3, 0.9)}.get(arm, 1.0 + 0 * z0)
            left = np.round(she * share)
            shown = left + (0 if arm == "all" else bios - she)
            visible = np.divide(left, shown, out=np.full(groups, np.nan), where=shown > 0)
            gap = 0.084 * np.log((left + 0.5) / (shown - left + 0.5)) + 0.01 * draw.normal(0, 1, groups)
            for g in range(groups):
                name = f"g{g:02}"
                rows += [
                    (trial.id, "upstream", "pronoun_score", name, "", x[g], 5),
                    (trial.id, "dataset", "she_share", name, "", she[g] / bios, bios),
                    (trial.id, "dataset", "visible_she_share", name, "", visible[g], int(3 * shown[g])),
                    (trial.id, "downstream", "tpr_gap", name, "", gap[g], 600),
                ]
    columns = ["trial", "stage", "metric", "group", "template", "value", "n"]
    return runs.tidy(trials, pd.DataFrame(rows, columns=columns))


def test_w_reads_what_a_scrub_leaves_visible_and_finds_no_transfer_where_there_is_none(primary):
    """The share of she/her biographies does not see the scrub: with it, W credits x with what the scrub did."""
    cells = data_cells.cells(table(), primary)
    assert set(cells["z_metric"]) == {"visible_she_share"}
    found = slopes.displacement(cells).set_index("term")
    assert found.loc["x", "low"] < 0 < found.loc["x", "high"]
    assert found.loc["x", "coefficient"] == pytest.approx(0, abs=0.005)
    assert found.loc["z", "coefficient"] / found.loc["z", "scale"] == pytest.approx(0.084, abs=0.005)
    blind = data_cells.cells(table().query("metric != 'visible_she_share'"), primary)
    wrong = slopes.displacement(blind).set_index("term").loc["x"]
    assert wrong["coefficient"] == pytest.approx(-0.05, abs=0.02)
    assert wrong["p"] < 0.001


def test_a_scrub_that_leaves_nothing_visible_is_left_out_of_w_and_named(primary):
    cells = data_cells.cells(table(), primary)
    scrubbed = cells[cells["downstream_dose"] == 1.0]
    assert scrubbed["z"].isna().all()
    assert not cells["thin"].any()  # the biographies are still there
    assert (cells["z_n"] == 400).all()
    found = slopes.displacement(cells).set_index("term").loc["x"]
    assert found["n"] == 28 * 6 * 3
    assert found["reason"] == "without none + scrub=1, whose texts show no dataset bias"
    alone = data_cells.cells(table(("untouched", "all")), primary)
    assert slopes.ONE_ARM in slopes.displacement(alone).set_index("term").loc["x", "reason"]


def test_groups_with_few_visible_words_in_a_trial_lack_z_there(primary):
    few = table()
    few.loc[(few["metric"] == "visible_she_share") & (few["group"] == "g03") & (few["downstream_dose"] == 0.5), "n"] = 4
    cells = data_cells.cells(few, primary)
    lacking = cells[cells["z"].isna() & (cells["downstream_dose"] != 1.0)]
    assert set(lacking["group"]) == {"g03"}
    assert "left out: g03" in slopes.displacement(cells).set_index("term").loc["x", "reason"]


def test_without_a_scrub_z_is_the_share_of_biographies(primary):
    cells = data_cells.cells(table(("untouched", "sent_debias")), primary)
    assert set(cells["z_metric"]) == {"she_share"}
    assert math.isfinite(slopes.displacement(cells).set_index("term").loc["x", "coefficient"])


def test_x_and_z_are_standardised_over_the_same_groups(simulate, primary):
    """A group without z is not in the regression: its x must not set the SD that the others' coefficients are given in."""
    table = simulate(unseen=5)
    extreme = (table["group"] == "g0") & (table["metric"] == "negative_sentiment")
    cells = data_cells.cells(table.assign(value=table["value"] + 5.0 * extreme), primary)
    used = cells[(cells["arm"] == runs.UNTOUCHED) & ~cells["thin"]].groupby("group")[["x", "z"]].mean()
    assert len(used) == 35
    assert cells["x_scale"].unique() == pytest.approx([used["x"].std()])
    assert cells["z_scale"].unique() == pytest.approx([used["z"].std()])
    rows = slopes.between(cells).set_index("term")
    raw = rows.loc["x", "coefficient"] / rows.loc["x", "scale"]
    assert raw == pytest.approx(rows.loc["x", "coefficient"] / used["x"].std())
