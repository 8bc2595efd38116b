"""The validation of the statistics: its models have the stated properties, and it writes a complete report."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.validation import recovery
from benchmarks.validation.recovery_methods import MARGIN, Tally, corrections, fits_of_population, panels
from benchmarks.validation.recovery_models import ARMS, EFFECT, SEEDS, TEMPLATES, WORLDS, draw
from benchmarks.validation.recovery_nested import discrete
from benchmarks.validation.recovery_report import GOAL, missed, summary
from bias_transfer.console import application

WORLD = {world.name: world for world in WORLDS}


def test_models_have_the_stated_slopes_in_a_large_population():
    slopes = {
        name: fits_of_population(draw(world.sized(20_000), np.random.default_rng(0))) for name, world in WORLD.items()
    }
    for name in ("plain", "hard", "no slope", "slope at margin"):
        assert slopes[name]["B"] == pytest.approx(WORLD[name].slope, abs=0.015), name
        assert slopes[name]["W"] == pytest.approx(WORLD[name].slope, abs=0.015), name
    assert slopes["noisy templates"]["B"] < 0.9 * WORLD["noisy templates"].slope
    assert slopes["exclusion broken"]["W"] > WORLD["exclusion broken"].slope + 0.03
    assert WORLD["slope at margin"].slope == MARGIN


def test_a_table_has_the_documented_shapes_and_unbiased_effects():
    table = draw(WORLD["hard"].sized(28), np.random.default_rng(0))
    assert table.x.shape == (28, len(ARMS), SEEDS, TEMPLATES)
    assert table.y.shape == (28, len(ARMS), SEEDS)
    assert table.effects[0] == 0
    y, x, all_y, all_x = panels(table)
    assert (y.shape, x.shape, all_y.shape, all_x.shape) == ((28, 1), (28, 1, 2), (28, 20), (28, 20, 2))
    assert x[:, 0, 0].std(ddof=1) == pytest.approx(1.0)
    means = np.mean([_error(number) for number in range(300)], axis=0)
    assert np.abs(means).max() < 0.03
    assert EFFECT[2] == -0.2


def _error(number):
    table = draw(WORLD["plain"].sized(28), np.random.default_rng(number))
    return (table.y - table.y[:, :1]).mean(axis=(0, 2)) - table.effects


def test_x_is_skewed_in_the_hard_model_only():
    for name, skewed in (("plain", False), ("hard", True)):
        x = draw(WORLD[name].sized(50_000), np.random.default_rng(0)).x[:, 0, 0].mean(axis=-1)
        assert (pd.Series(x).skew() > 1) == skewed


def test_holms_correction_keeps_its_level_and_no_correction_does_not():
    rates = corrections(28, 150, 1)
    assert rates["any arm, Holm"] <= 0.10 < rates["any arm, not corrected"]
    assert rates["groups, false share (BH)"] < 0.08
    assert rates["one arm, signs of seeds"] == 0  # five seeds: p is at least 2/32


def test_ties_of_few_counts_look_certain_only_where_they_are_taken_for_it():
    rates = discrete(60, 1)
    assert rates[2]["any q, ties certain (p = 0)"] > 0.5
    assert all(of_seeds["any q, as the analysis gives it"] < 0.15 for of_seeds in rates.values())
    assert rates[3]["any q, as the analysis gives it"] == 0


def test_tallies_are_summarised_as_by_hand_and_misses_are_named():
    tally = Tally()
    tally.add(0.4, 0.3, 0.1, 0.6, 0.01, (-0.05, 0.05))
    tally.add(0.1, 0.3, 0.0, 0.2, 0.2, (-0.2, 0.05))
    (row,) = summary({("hard", 28, "B", "x", "default"): tally}).to_dict("records")
    assert (row["covered"], row["rejected"], row["equivalent"], row["draws"]) == (0.5, 0.5, 0.5, 2)
    assert row["bias"] == pytest.approx(-0.05)
    assert row["width"] == pytest.approx(0.35)
    assert missed(pd.DataFrame([row])) == ["B, x (hard, 28 groups), default: 50.0 %"]
    assert not missed(pd.DataFrame([{**row, "covered": sum(GOAL) / 2}]))


@pytest.mark.long
def test_the_command_writes_its_report_with_a_figure(tmp_path):
    result = CliRunner().invoke(
        application(recovery.main), ["--draws", "10", "--out", str(tmp_path / "deep" / "statistics.md")]
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {
        "statistics.md",
        "statistics.png",
        "statistics.svg",
    }
    text = (tmp_path / "deep" / "statistics.md").read_text(encoding="utf-8")
    for part in (
        "--draws 10`",
        "variant S",
        "poster replica",
        "corrected for templates",
        "Holm",
        "passes at the margin",
        "| 5 x 4 | 0.5 | flattened: t over all seeds |",
        "any q, as the analysis gives it",
    ):
        assert part in text, part
    assert "nan" not in text.lower().split()


def test_a_mistake_gives_one_paragraph_and_help_has_examples(tmp_path):
    wrong = CliRunner().invoke(application(recovery.main), ["--out", str(tmp_path)])
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("Error: --out names the report")
    assert (
        "python -m benchmarks.validation.recovery" in CliRunner().invoke(application(recovery.main), ["--help"]).output
    )
