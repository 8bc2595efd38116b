import time
from pathlib import Path

import pytest

from bias_transfer.tasks.wiki.identity_terms import TERMS, mentioned

SOURCE = Path(__file__).parents[4] / "shared/data/wiki/identity_terms.txt"


def test_there_are_50_distinct_terms_in_lower_case() -> None:
    assert len(TERMS) == len(set(TERMS)) == 50
    assert all(term == term.lower().strip() for term in TERMS)


def test_terms_equal_the_source_file() -> None:
    if not SOURCE.exists():
        pytest.skip(f"the source's list of terms is not here: {SOURCE}")
    assert tuple(SOURCE.read_text(encoding="utf-8").split("\n"))[:50] == TERMS


@pytest.mark.parametrize("term", TERMS)
def test_each_term_is_found_alone_and_nothing_else_with_it(term: str) -> None:
    for text in (term, term.upper(), term.title(), f"({term})", f'a "{term}", b', f"{term}'s", f"non-{term}.\n"):
        assert mentioned(text) == (term,)


@pytest.mark.parametrize("term", TERMS)
def test_a_term_inside_another_word_is_not_a_mention(term: str) -> None:
    for text in (f"{term}s", f"x{term}", f"{term}2", f"é{term}", f"{term}_"):
        assert term not in mentioned(text)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("an african american writer", ("african american",)),
        ("African-American", ("african american",)),
        ("AFRICAN \n\t AMERICAN", ("african american",)),
        ("african\u00a0american", ("african american",)),
        ("african, american", ("african", "american")),
        ("african american and african", ("african", "african american")),
        ("african african american american", ("african", "african american", "american")),
        ("african americans", ("african",)),
        ("middle-aged in the middle east", ("middle aged",)),
        ("middleaged and middle", ()),
        ("transgender", ("transgender",)),
        ("trans gender, LGBTQ", ("trans", "lgbtq")),
        ("older than the old", ("old", "older")),
        ("she is female", ("female",)),
        ("", ()),
    ],
)
def test_longest_term_wins_and_mentions_do_not_overlap(text: str, terms: tuple[str, ...]) -> None:
    assert mentioned(text) == terms


def test_each_term_is_reported_once_in_the_order_of_terms() -> None:
    assert mentioned(" ; ".join(reversed(TERMS * 2))) == TERMS


def test_long_white_space_takes_linear_time() -> None:
    started = time.perf_counter()
    assert mentioned("african" + " " * 100_000 + "x " + "african " * 20_000) == ("african",)
    assert time.perf_counter() - started < 2
