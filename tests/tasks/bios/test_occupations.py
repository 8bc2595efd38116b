"""The 28 occupations, and their names in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from bias_transfer.tasks.bios.occupations import OCCUPATIONS, article, names_itself, surface

SHARED = Path(__file__).parents[4] / "shared" / "data" / "bios" / "professions.txt"


def test_they_are_in_the_order_of_the_hubs_labels():
    assert len(OCCUPATIONS) == 28
    assert tuple(sorted(OCCUPATIONS)) == OCCUPATIONS
    if not SHARED.is_file():
        pytest.skip(f"no list to compare with at {SHARED}")
    assert tuple(SHARED.read_text().split()) == OCCUPATIONS


def test_in_a_sentence():
    called = {f"{article(name)} {surface(name)}" for name in OCCUPATIONS}
    assert {"a DJ", "an interior designer", "a yoga teacher", "an attorney", "a nurse"} <= called
    assert sum(text.startswith("an ") for text in called) == 4


@pytest.mark.parametrize(
    ("text", "occupation", "named"),
    [
        ("A Nurse.", "nurse", True),
        ("two nurses", "nurse", True),
        ("nursery", "nurse", False),
        ("djs at night", "dj", True),
        ("an interior-designer", "interior_designer", True),
        ("interior and designer", "interior_designer", False),
        ("yoga teacher", "teacher", True),
        ("teacher", "yoga_teacher", False),
    ],
)
def test_a_text_names_an_occupation(text, occupation, named):
    assert names_itself(text, occupation) is named
