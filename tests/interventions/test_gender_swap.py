"""Swapped gendered words: whole words, both ways, in their case, and her as him or his."""

from __future__ import annotations

import pytest

from bias_transfer.interventions.gender_swap import PERSONS, swapped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She said that HE hurt himself.", "He said that SHE hurt herself."),
        ("Mr. Lee, Ms. Lee and Mrs. Lee have an MS.", "Ms. Lee, Mr. Lee and Mr. Lee have an MS."),
        ("Mary knows mary and John.", "John knows mary and Mary."),
        ("The heroine's sheet, a themed hymn; mankind", "The heroine's sheet, a themed hymn; mankind"),
        ("The women's choir and a man's job", "The men's choir and a woman's job"),
        ("They saw her. Her work took her to Rome.", "They saw him. His work took him to Rome."),
        ("It gave her the chance; it is hers, not his.", "It gave him the chance; it is his, not hers."),
        ("his now-famous book, and him", "her now-famous book, and her"),
        ("She sent her his letters\nand her\n3 maps", "He sent him her letters\nand his\n3 maps"),
    ],
)
def test_by_hand(text, expected):
    assert swapped(text) == expected


def test_twice_is_once_but_for_titles_and_possessives_alone():
    text = "; ".join(f"the {word} of a {other}" for word, other in PERSONS) + "; she likes his dog, and he likes her"
    assert swapped(swapped(text)) == text != swapped(text)
