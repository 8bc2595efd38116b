"""B holds the groups' names fixed, and so does everything that comes from it."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.data import cells as data_cells
from analysis.data import names, runs
from analysis.estimands import caveats, influence, interactions, slopes, specification_curve, template_sensitivity
from analysis.report import limitations, wording
from bias_transfer.errors import UserError
from bias_transfer.spec import AnalysisPlan, Trial, parse

MEASURES = {"words": "name_words", "tokens": "name_tokens", "log_frequency": "name_log_frequency"}


def table(groups=40, seeds=3, cause="tokens", beta=0.0, recorded=tuple(MEASURES), arms=("none",)):
    """ln FPR follows x by beta and one property of the name by a lot; x follows that property too, and nothing else does."""
    draw = np.random.default_rng(5)
    of_name = {
        "words": 1.0 + (np.arange(groups) % 3 == 0),
        "tokens": draw.integers(1, 6, groups).astype(float),
        "log_frequency": draw.normal(-9, 1.5, groups),
    }
    effect = of_name[cause] - of_name[cause].mean()
    effect = effect / effect.std()
    x0, z0 = effect + draw.normal(0, 1, groups), draw.normal(-1.5, 0.4, groups)
    trials, rows = [], []
    for arm in arms:
        for seed in range(seeds):
            trial = Trial(
                upstream=arm, upstream_dose=None if arm == "none" else 1.0, seed=seed, data_digest="d", model_digest="m"
            )
            trials.append(trial)
            k = np.round(200 / (1 + np.exp(-z0)))
            y = -1.5 + 0.3 * effect + beta * x0 / x0.std(ddof=1) + 0.2 * z0 + 0.1 * draw.normal(0, 1, groups)
            for g in range(groups):
                name = f"g{g:02}"
                rows += [(trial.id, "upstream", "negative_sentiment", name, t, x0[g] + e, 9) for t, e in TEMPLATES]
                rows += [(trial.id, "upstream", MEASURES[m], name, "", of_name[m][g], 1) for m in recorded]
                rows.append((trial.id, "dataset", "toxic_share", name, "", k[g] / 200, 200))
                rows.append((trial.id, "downstream", "fpr", name, "", round(10**6 * math.exp(y[g])) / 10**6, 10**6))
    columns = ["trial", "stage", "metric", "group", "template", "value", "n"]
    return runs.tidy(trials, pd.DataFrame(rows, columns=columns))


TEMPLATES = (("s", -0.01), ("t", 0.01))


def row(frame, term, estimand="B"):
    (found,) = frame[(frame["estimand"] == estimand) & (frame["term"] == term)].to_dict("records")
    return found


@pytest.mark.parametrize("cause", MEASURES)
def test_a_property_of_names_is_not_taken_for_transfer(cause, primary):
    found = slopes.between(data_cells.cells(table(cause=cause), primary))
    main, plain = row(found, "x"), row(found, "x | plain")
    assert main["low"] < 0 < main["high"]
    assert plain["low"] > 0.05  # all that B had before
    assert main["adjusted_for"] == "z, words, tokens, log_frequency"
    assert plain["adjusted_for"] == "z"
    assert list(found["term"]) == ["x", "z", "x - z", "z_level", "z_log", "x | plain", "z | plain", "x - z | plain"]
    held = "with the group's name held fixed (words, sub-tokens, log frequency), 0.1 SD"
    assert held in wording.association(main)
    assert "in the plain fit that leaves the group's name free (exploratory), 0.1 SD" in wording.association(plain)


def test_true_transfer_is_found_with_the_names_held_fixed(primary):
    main = row(slopes.between(data_cells.cells(table(beta=0.2), primary)), "x")
    assert main["coefficient"] == pytest.approx(0.2, abs=0.05)
    assert main["low"] > 0


def test_w_has_no_covariates_since_names_do_not_change_within_groups(simulate, primary):
    found = slopes.displacement(data_cells.cells(simulate(), primary))
    assert not found["term"].str.contains("plain").any()
    assert set(found["adjusted_for"]) == {"z", "x", ""}


def test_all_that_comes_from_b_holds_the_names_fixed(primary):
    made = table(cause="tokens", arms=("none", "reinitialise"))
    cells = data_cells.cells(made, primary)
    untouched = row(slopes.between(cells), "x")
    one = template_sensitivity.per_template(made, cells, 99)
    assert one["coefficient"].tolist() == pytest.approx([untouched["coefficient"]] * 2, rel=1e-6)
    corrected = template_sensitivity.corrected(made, cells).iloc[0]
    assert corrected["coefficient"] == pytest.approx(untouched["coefficient"], abs=0.005)
    of_groups = influence.influence(cells).query("estimand == 'B'").set_index("term")
    assert of_groups.loc["x", "coefficient"] == pytest.approx(untouched["coefficient"])
    assert set(of_groups.index) == {"x", "z"}
    assert influence.inflation(cells).query("estimand == 'B'")["inflation"].iloc[0] > 1.3  # x goes with the name
    z = interactions.pretrained_by_dataset(cells, 99).set_index("term").loc["z | pre-trained"]
    assert z["coefficient"] == pytest.approx(row(slopes.between(cells), "z")["coefficient"])
    curve = specification_curve.specifications(made, primary)
    sides = curve[curve["estimator"] == "OLS, HC3"].groupby("name")["estimate"].median()
    assert abs(sides[specification_curve.HELD]) < 0.15 < 0.5 < sides[specification_curve.FREE]
    assert curve.loc[curve["primary"], "name"].tolist() == [specification_curve.HELD]


def test_which_covariates_b_has_by_the_number_of_groups_and_the_config(primary):
    assert names.chosen(15, None) == ("words", "tokens", "log_frequency")
    assert names.chosen(14, None) == ("words",)
    assert names.chosen(50, []) == ()
    assert names.chosen(12, ["tokens"]) == ("tokens",)
    few = data_cells.cells(table(groups=14), primary)
    assert row(slopes.between(few, 99), "x")["adjusted_for"] == "z, words"
    none = slopes.between(data_cells.cells(table(), primary, covariates=[]), 99)
    assert row(none, "x")["adjusted_for"] == "z"
    assert not none["term"].str.contains("plain").any()
    assert parse(AnalysisPlan, {"covariates": ["tokens"]}, "analysis.").covariates == ["tokens"]
    with pytest.raises(UserError, match=r"analysis.covariates"):
        parse(AnalysisPlan, {"covariates": ["letters"]}, "analysis.")


def test_old_runs_count_the_words_of_the_name_and_the_report_says_what_they_lack(primary):
    old = table(recorded=())
    old["group"] = old["group"].astype(str).replace({f"g{g:02}": f"g{g:02} person" for g in range(0, 40, 2)})
    cells = data_cells.cells(old, primary)
    assert row(slopes.between(cells, 99), "x")["adjusted_for"] == "z, words"
    said = limitations.names(caveats.names(cells))
    assert [text.split(" of the")[0] for text in said] == [
        "B does not hold the sub-tokens", "B does not hold the log frequency"
    ]  # fmt: skip
    assert all("did not record it" in text for text in said)


@pytest.mark.parametrize("words", [1.0, "one group", "as the tokens"])
def test_covariates_that_cannot_be_told_apart_are_left_out(words, primary):
    """Constant, set apart by a single group alone, or the same as another: the fit and its interval stand."""
    made = table()
    value = {"one group": 1.0 + (made["group"] == "g03"), "as the tokens": None}.get(words, words)
    if value is None:
        tokens = made[made["metric"] == "name_tokens"].groupby("group")["value"].first()
        value = 3 - 2 * made["group"].map(tokens).astype(float)
    made["value"] = made["value"].where(made["metric"] != "name_words", value)
    cells = data_cells.cells(made, primary)
    main = row(slopes.between(cells, 99), "x")
    assert math.isfinite(main["low"])
    held = "z, words, log_frequency" if words == "as the tokens" else "z, tokens, log_frequency"
    assert main["adjusted_for"] == held
    said = " ".join(limitations.names(caveats.names(cells)))
    assert ("sets a single group apart" in said) == (words != 1.0)
