"""The first screen says what the numbers license, and no more."""

import math
import shlex
from types import SimpleNamespace

import pandas as pd
import pytest

from analysis.estimands.answer import COLUMNS
from analysis.report import answer


def arms(*rows):
    """Rows (arm, side, effect, harm, low, high) as `estimands.answer.answer` gives them, for ln FPR."""
    made = [
        dict.fromkeys(COLUMNS, math.nan)
        | {
            "study": "wiki",
            "outcome": "fpr",
            "arm": arm,
            "side": side,
            "effect": effect,
            "mitigation": "reinit" not in arm,
        }
        | {
            "standing": "ranked",
            "harm": harm,
            "harm_low": low,
            "harm_high": high,
            "utility": "roc_auc",
            "utility_change": 0.0,
        }
        | {
            "margin": 0.05 if effect == "none" else math.nan,
            "target": 0.2,
            "seeds_needed": 8.0,
            "seeds": 5,
            "models": 1,
        }
        | {"n_groups": 50, "reason": ""}
        for arm, side, effect, harm, low, high in rows
    ]
    return pd.DataFrame(made, columns=list(COLUMNS))


SCRUB = ("none + scrub=1", "data", "reduced", -0.4, -0.6, -0.2)
DEBIAS = ("sent_debias=1 + none", "model", "none", 0.01, -0.03, 0.04)
VAGUE = ("sent_debias=1 + none", "model", "unclear", -0.1, -0.9, 0.7)


def test_the_headline_answers_model_or_data():
    text = answer.headline(arms(SCRUB, DEBIAS), "fpr")
    assert text == (
        "Changing the model did not change the harm, within -4.9 % to +5.1 %. Changing the data reduced the harm: scrub=1 "
        "changed it by -33.0 % (95 % interval -45.1 % to -18.1 %)."
    )


def test_a_side_that_is_not_clear_is_said_to_be():
    text = answer.headline(arms(SCRUB, VAGUE), "fpr")
    assert "Whether changing the model reduces the harm is not clear" in text
    assert "Changing the data reduced the harm" in text


def test_too_few_seeds_are_the_headline_with_the_number_that_would_do():
    text = answer.headline(arms(VAGUE), "fpr")
    assert text == (
        "Not enough seeds to tell: 8 per arm would show a change of harm by -18.1 % or +22.1 %, and each arm has 5."
    )


def test_enough_seeds_that_show_nothing_are_not_called_too_few():
    text = answer.headline(arms(VAGUE).assign(seeds_needed=4.0), "fpr")
    assert text.startswith("No arm changed the harm clearly: 5 seeds per arm would show a change of harm")
    none = answer.headline(arms(VAGUE).assign(seeds_needed=math.nan, seeds=1), "fpr")
    assert none == "Not enough seeds to tell: with 1 seed per arm there is no interval. Start with 5 per arm."


def test_an_experiment_without_mitigations_says_so():
    assert "compares no mitigations" in answer.headline(
        arms(("reinitialise=1 + none", "model", "reduced", -1, -2, -0.5)), "fpr"
    )


def test_a_side_without_arms_is_named():
    assert answer.headline(arms(SCRUB), "fpr").endswith("No arm that changes the model alone was compared.")


@pytest.mark.parametrize(
    ("effect", "beginning"),
    [("reduced", "At least in part"), ("raised", "No"), ("none", "No"), ("unclear", "Not clear")],
)
def test_whether_it_takes_pretraining_follows_the_arm_without_it(effect, beginning):
    assert answer.pretraining(arms(("reinitialise=1 + none", "model", effect, -0.4, -0.6, -0.2)), "fpr").startswith(
        beginning
    )
    assert answer.pretraining(arms(SCRUB), "fpr").startswith("Unknown")


def made_up(command="bias-transfer sweep small.yaml", missing=(), passed=None):
    trial = SimpleNamespace(task="wiki", data="my data", model="tiny")
    sweep = SimpleNamespace(experiment="small", command=command)
    runs = SimpleNamespace(sweep=sweep, missing=missing, trials=(trial,))
    return SimpleNamespace(runs=runs, controls={("wiki", "fpr"): SimpleNamespace(passed=passed)})


def test_the_next_step_is_missing_trials_then_seeds_then_a_control_then_the_model():
    unclear, clear = arms(VAGUE), arms(SCRUB)
    assert answer.next_step(made_up(missing=(1, 2)), unclear)[1] == "bias-transfer sweep small.yaml"
    text, command = answer.next_step(made_up(), unclear)
    assert text.startswith("Run 8 seeds per arm")
    assert shlex.split(command)[-2:] == ["--set", "seed=[0, 1, 2, 3, 4, 5, 6, 7]"]
    assert shlex.split(answer.next_step(made_up(), clear)[1])[4:6] == ["task=wiki", "--set"]
    assert "'data=my data'" in answer.next_step(made_up(), clear)[1]
    assert "export" in answer.next_step(made_up(passed=True), clear)[1]


@pytest.mark.parametrize("stored", ["", "rm -rf /", "bias-transfer sweep 'open", "bias-transfer analyse x"])
def test_only_a_sweep_command_of_the_store_is_shown(stored):
    assert answer.sweep_command(made_up(stored)) == "bias-transfer sweep small.yaml"


def test_a_shell_would_take_the_stores_command_for_words():
    command = answer.sweep_command(made_up("bias-transfer sweep small.yaml ; touch $(pwd)"))
    assert command == "bias-transfer sweep small.yaml ';' touch '$(pwd)'"
