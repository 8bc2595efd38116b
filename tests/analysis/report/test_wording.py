"""Sentences state the numbers of their rows, claim no more than the estimand supports, and leave the tables as they are."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from analysis.data.cells import OUTCOMES
from analysis.estimands import dose_response, rows, slopes
from analysis.estimands.positive_control import ControlResult
from analysis.findings import TrialWarning
from analysis.report import wording


@pytest.fixture(scope="module")
def found(cells_of):
    return slopes.estimate(cells_of())


def row(frame, estimand, term):
    (only,) = frame[(frame["estimand"] == estimand) & (frame["term"] == term)].to_dict("records")
    return only


def test_a_huge_difference_of_logs_is_a_factor_and_a_small_one_keeps_its_digits():
    assert wording.changes(OUTCOMES["fpr"], -4.7, 13.2, -0.0003, -math.inf) == [
        "-99.1 %", "a factor of 540,000", "-0.03 %", "no bound",
    ]  # fmt: skip
    assert wording.changes(OUTCOMES["logit_gap"], 0.25) == ["+0.25 logits"]
    assert wording.changes(OUTCOMES["tpr_gap"], 0.032) == ["+3.2 points"]


def interaction(outcome, term):
    """A difference of .2844 between the pre-trained model and one that was not, with its interval from 0.1 to 0.4."""
    context = rows.RowContext("s", "", outcome)
    return rows.frame([context.row(term, coefficient=0.2844, low=0.1, high=0.4, n_groups=20, clusters=4)])


@pytest.mark.parametrize(
    ("frame", "term", "outcome", "said"),
    [
        (
            "arm_by_pretrained", "scrub=1 | difference", "fpr",
            "The factor by which scrub=1 changed FPR is 1.33 times as large on the pre-trained model as on one that was not "
            "pre-trained (a ratio of two ratios; 95 % interval 1.11 to 1.49).",
        ),
        (
            "arm_by_pretrained", "scrub=1 | difference", "tpr_gap",
            "The change in the TPR gap by scrub=1 differs by +28.4 points between the pre-trained model and one that was not "
            "pre-trained (95 % interval +10 to +40 points).",
        ),
        (
            "pretrained_by_dataset", "z | difference", "logit_gap",
            "Across 20 groups, the association of the logit gap with 0.1 SD higher dataset bias, at equal upstream bias, "
            "differs by +0.0284 logits between the pre-trained model and one that was not pre-trained (95 % interval +0.01 to "
            "+0.04 logits).",
        ),
        (
            "pretrained_by_dataset", "z | difference", "fpr",
            "Across 20 groups, the factor in FPR that goes with 0.1 SD higher dataset bias, at equal upstream bias, is 1.03 "
            "times as large on the pre-trained model as on one that was not pre-trained (a ratio of two ratios; 95 % interval "
            "1.01 to 1.04).",
        ),
    ],
)  # fmt: skip
def test_a_difference_of_two_changes_in_per_cent_is_a_ratio_and_is_named(frame, term, outcome, said):
    """The "+32.9 %" of a ratio of ratios was read as points between two percentages."""
    assert wording.sentences(frame, interaction(outcome, term)) == [said]


def test_a_difference_of_two_coefficients_has_their_unit():
    """x - z of ln FPR is no percentage."""
    (text,) = wording.sentences("coefficients", interaction("fpr", "x - z").assign(estimand="B"))
    assert "minus that of dataset bias is +0.284 ln FPR per SD" in text


def test_every_outcome_is_explained_in_words():
    for outcome in OUTCOMES.values():
        assert outcome.meaning.lower().startswith(outcome.label.removesuffix(" on natural text").lower())
    said = OUTCOMES["tpr_gap"].meaning
    assert all(part in said for part in ("she/her biographies", "minus", "he/him biographies", "percentage points"))
    (text,) = wording.sentences("coefficients", interaction("tpr_gap", "scrub=1").assign(estimand="A"))
    assert text.startswith("scrub=1 changed the TPR gap by +28.4 points on average over 20 groups")


def test_associations_state_their_numbers(found):
    x = row(found, "B", "x")
    text = wording.association(x)
    assert text.startswith(f"Across {x['clusters']} groups of the untouched model, ")
    assert f"0.1 SD (= {0.1 * x['scale']:.3g} in raw units) higher upstream bias, at equal dataset bias," in text
    assert f"goes with {100 * math.expm1(0.1 * x['coefficient']):+.1f} % FPR (95 % interval " in text
    ten_points, relative = row(found, "B", "z_level"), row(found, "B", "z_log")
    assert f"goes with {100 * math.expm1(0.1 * ten_points['coefficient']):+.1f} % FPR" in wording.association(
        ten_points
    )
    assert f"goes with {100 * (1.1 ** relative['coefficient'] - 1):+.1f} % FPR" in wording.association(relative)


def test_associations_claim_no_cause_and_arms_do(found):
    texts = {
        estimand: wording.sentences("coefficients", found[found["estimand"] == estimand])
        for estimand in ("A", "B", "W")
    }
    for text in (*texts["B"], *texts["W"]):
        assert not any(word in text for word in ("rais", "chang", "effect"))
    assert not any("caus" in text for text in texts["B"])
    assert all(
        text.endswith("; causal only if the arms reach the outcome through x and z alone.") for text in texts["W"]
    )
    assert any(text.startswith("none + scrub=1 changed FPR by -") for text in texts["A"])


def test_without_dataset_bias_nothing_is_said_to_be_at_equal_dataset_bias(make_cells):
    cells = make_cells(y=lambda arm, x, z, seed, draw: 0.3 * x + draw.normal(0, 0.1, len(x)))
    only_x = slopes.between(cells.assign(z=math.nan, z_level=math.nan, z_log=math.nan, z_scale=math.nan), 99)
    (text,) = wording.sentences("coefficients", only_x)
    assert "(the fine-tuning set mentions no group)" in text
    assert "at equal dataset bias" not in text


def test_a_row_without_a_number_has_no_sentence():
    empty = rows.frame([rows.RowContext("s", "B", "fpr").row("x", reason="why")])
    assert wording.sentences("coefficients", empty) == [""]


def test_slopes_over_doses_count_the_doses(make_cells):
    arms = [("none", None, "none", None), ("perturb", 0.5, "none", None), ("perturb", 1.0, "none", None)]
    cells = make_cells(arms, lambda arm, x, z, seed, draw: -0.3 * (arm[1] or 0) + 0.01 * draw.normal(size=len(x)))
    (text,) = wording.sentences("dose_slopes", dose_response.slopes(cells))
    assert text.startswith("perturb + none: a dose that is higher by 1 changed FPR by -")
    assert "least squares over 2 doses and the untouched arm, 4 paired seeds; 95 % interval" in text


def test_published_tables_have_sentences_and_no_columns_that_only_wording_needs(found):
    compared = found.assign(smallest_margin=np.nan, margin=np.nan, equivalent=None)
    table = wording.published("coefficients", compared)
    kept = [name for name in rows.COLUMNS if name not in wording.NOT_PUBLISHED]
    at = kept.index("reason")
    added = ["smallest_margin", "margin", "equivalent", "equivalence"]
    assert list(table.columns) == [*kept[:at], "sentence", *kept[at:], *added]
    numbers = list(rows.NUMBERS)
    pd.testing.assert_frame_equal(table[numbers], found[numbers])
    assert "sentence" not in compared
    pd.testing.assert_frame_equal(wording.published("power", found), found)


def test_the_positive_control_in_words():
    assert wording.positive_control(ControlResult(None)).startswith("There is no positive control")
    passed = ControlResult("controls", True, 0.45, 0.3, 0.6, 20)
    assert "found what was planted: slope +0.45 (95 % interval +0.3 to +0.6, 20 groups)" in wording.positive_control(
        passed
    )
    failed = ControlResult("controls", False, 0.0, -0.1, 0.1, 20)
    assert "'controls' did not find what was planted" in wording.positive_control(failed)
    injected = ControlResult("pairs", True, 0.45, 0.3, 0.6, 20, injected=True, models=1, seeds=4)
    said = wording.positive_control(injected)
    assert said.startswith(
        "The positive control 'pairs' found what was injected, for this checkpoint: half the outcome's change"
    )
    assert "is +0.45 (95 % interval +0.3 to +0.6, 20 groups, 4 seeds)" in said
    several = wording.positive_control(
        ControlResult("pairs", False, 0.1, -0.3, 0.6, 20, injected=True, models=3, seeds=4)
    )
    assert "'pairs' did not find what was injected: " in several
    assert "20 groups, 3 models)" in several
    unknown = ControlResult("controls", reason="cannot be read: no such file.")
    assert wording.positive_control(unknown) == "The positive control 'controls' cannot be read: no such file."


def test_machines_and_imports_in_words():
    frame = pd.DataFrame({"trial": ["a", "b", "c"], "machine": ["intel", "amd", "intel"], "imported": ["", "", ""]})
    (one,) = wording.machines(frame)
    assert "recorded: intel (2 of 3 trials); amd (1 of 3 trials: b); all are" in one
    _, imported = wording.machines(frame.assign(imported=["f" * 64, "", "f" * 64]))
    assert imported == "Imported from another MLflow store, from a file with digest ffffffffffff: 2 of 3 trials: a, c."
    assert "a machine that was not recorded (3 of 3 trials)" in wording.machines(frame.assign(machine=""))[0]
    assert wording.machines(frame.head(0)) == []


def test_package_versions_in_words():
    same = {"numpy": Counter({"2.3": 4}), "torch": Counter({"2.9.1": 4})}
    assert wording.package_versions(same, 4) == (
        "Package versions, as recorded with the trials: numpy 2.3; torch 2.9.1."
    )
    assert "numpy 2.3 (4 of 5 trials)" in wording.package_versions(same, 5)
    assert wording.package_versions({}, 4) == "Package versions: the trials recorded none."


def test_warnings_of_trials_in_words():
    assert wording.trial_warning(TrialWarning("The loss (0.5) is high.", 3, 6, True)) == (
        "3 of 6 trials warn: The loss (0.5) is high. (numbers differ between trials)"
    )
    assert wording.trial_warning(TrialWarning("a", 1, 1, False)) == "1 of 1 trials warn: a"
