"""The report on the controls: what counts, and what is said first."""

import pandas as pd

from benchmarks.validation.control_checks import Check
from benchmarks.validation.controls import failed, report, summary

ROWS = pd.DataFrame({"task": ["wiki", "bios"], "trial": ["a", "b"]})
HOLDS = Check("2 x 2", "above 0", "+0.2", True)
FAILS = Check("negative: rejections", "near 5 %", "10 of 20", False)
LATER = Check("why: own x", "none: reported only", "7 of 20", True, fixed=False)
LATER_FAILS = Check("why: another x", "at most 5 %", "77 of 380", False, fixed=False)


def test_only_controls_that_were_fixed_before_the_runs_count():
    assert summary([HOLDS, LATER, LATER_FAILS]) == "1 of the 1 controls that were fixed before the runs hold."
    assert failed([HOLDS, LATER, LATER_FAILS]) == []
    said = summary([HOLDS, FAILS, LATER])
    assert said.startswith("**What does not hold: negative: rejections (10 of 20).**")
    assert said.endswith("1 of the 2 controls that were fixed before the runs hold.")


def test_the_report_says_first_what_does_not_hold_and_shows_later_rows_apart():
    text = report(ROWS, [HOLDS, FAILS, LATER], ROWS)
    fixed, later = text.index("| 2 x 2 |"), text.index("| why: own x |")
    assert text.index("What does not hold") < fixed < text.index("## Exploratory rows") < later
    assert "| why: own x | none: reported only | 7 of 20 |\n" in text
    assert "## Exploratory rows" not in report(ROWS, [HOLDS, FAILS], ROWS)
