"""The placebo of B: what other pre-trained models learned must not go with this one's outcome."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.data import cells as data_cells
from analysis.data import runs
from analysis.estimands import placebo, slopes
from analysis.report import wording
from bias_transfer.spec import Trial


def table(models=6, own=0.0, shared=0.0, groups=40, seeds=2, named=True):
    """y of a model follows `own` x what that model learned, and `shared` x what the text says of a group in all models."""
    draw = np.random.default_rng(2)
    text, words = draw.normal(0, 1, groups), 1.0 + (np.arange(groups) % 4 == 0)
    trials, rows = [], []
    for model in range(models):
        learned = draw.normal(0, 1, groups)
        for seed in range(seeds):
            options = {"model.seed": model} if model else {}
            trial = Trial(seed=seed, options=options, data_digest="d", model_digest="m")
            trials.append(trial)
            noise = 0.1 * draw.normal(0, 1, groups)
            y = -1.5 + own * learned + shared * text + 0.5 * words * named + noise
            x = learned + (text if shared else 0) + 1.0 * words * named
            for g in range(groups):
                name = f"g{g:02}"
                rows += [
                    (trial.id, "upstream", "negative_sentiment", name, "s", x[g], 9),
                    (trial.id, "upstream", "name_words", name, "", words[g], 1),
                    (trial.id, "dataset", "toxic_share", name, "", (5 + g) / 100, 100),
                    (trial.id, "downstream", "fpr", name, "", round(10**6 * math.exp(y[g] - 2)) / 10**6, 10**6),
                ]
    columns = ["trial", "stage", "metric", "group", "template", "value", "n"]
    return runs.tidy(trials, pd.DataFrame(rows, columns=columns))


def found(primary, covariates=None, **settings):
    cells = data_cells.cells(table(**settings), primary, covariates=covariates)
    return placebo.placebo(cells).set_index("term")


def test_what_a_model_learned_by_itself_is_in_its_own_slope_and_not_in_the_placebo(primary):
    rows = found(primary, own=0.3)
    others, own = rows.loc[placebo.OTHERS], rows.loc[placebo.OWN]
    assert others["low"] < 0 < others["high"]
    assert own["low"] > 0.2
    assert (others["n"], others["clusters"], own["n"]) == (30, 6, 6)


def test_what_groups_share_in_all_models_shows_in_the_placebo(primary):
    assert found(primary, shared=0.3).loc[placebo.OTHERS, "low"] > 0.05


def test_names_alone_fail_the_placebo_until_they_are_held_fixed(primary):
    assert found(primary, covariates=[]).loc[placebo.OTHERS, "low"] > 0.02
    held = found(primary).loc[placebo.OTHERS]
    assert held["low"] < 0 < held["high"]


def test_the_placebo_is_the_mean_of_b_over_pairs_by_hand(primary):
    made = table(models=3, own=0.2)
    cells = data_cells.cells(made, primary)
    by_model = {model: cells[cells["replicate"] == model] for model in range(3)}
    slopes_by_hand = []
    for y, x in ((y, x) for y in range(3) for x in range(3) if x != y):
        crossed = by_model[y].assign(
            x=by_model[x]["x"].to_numpy(), x_scale=by_model[x].groupby("group")["x"].mean().std()
        )
        slopes_by_hand.append(slopes.between(crossed, 9).set_index("term").loc["x", "coefficient"])
    assert placebo.placebo(cells).set_index("term").loc[placebo.OTHERS, "coefficient"] == pytest.approx(
        np.mean(slopes_by_hand)
    )


def test_one_model_has_no_placebo_and_two_have_no_interval(primary):
    (one,) = placebo.placebo(data_cells.cells(table(models=1), primary)).to_dict("records")
    assert one["reason"] == placebo.ONE_MODEL
    assert wording.sentences("placebo", pd.DataFrame([one])) == [""]
    two = found(primary, models=2).loc[placebo.OTHERS]
    assert math.isfinite(two["coefficient"])
    assert math.isnan(two["low"])
    assert two["reason"] == placebo.TWO_MODELS


def test_the_placebo_in_words(primary):
    texts = wording.sentences("placebo", found(primary, own=0.3).reset_index())
    assert texts[0].startswith("Placebo: 0.1 SD higher upstream bias of the other pre-trained models")
    assert "6 models, 30 slopes; 95 % interval" in texts[0]
    assert texts[1].startswith("0.1 SD higher upstream bias of the same model")
