"""What data lack, and that other languages than English are recognised."""

from __future__ import annotations

import pytest

from bias_transfer.tasks import data_checks, languages
from bias_transfer.tasks.wiki.data import CommentOptions
from bias_transfer.tasks.wiki.task import WIKI

GERMAN = "Der Bäcker ist heute wieder sehr freundlich gewesen und hat Zeit für uns alle"


@pytest.fixture
def splits(tmp_path):
    """texts -> WIKI's splits of a file that has each of them 16 times in train, and twice in dev and in test."""

    def load(*texts: str):
        names = [*["train"] * 16, *["dev"] * 2, *["test"] * 2]
        rows = [f'"{text} {row}",{row % 2},{names[row]}' for text in texts for row in range(20)]
        (tmp_path / "a.csv").write_text("\n".join(["text,label,split", *rows]), encoding="utf-8")
        return WIKI.load(str(tmp_path / "a.csv"), CommentOptions())

    return load


def test_ordinary_data_have_no_warning(splits):
    assert data_checks.warnings(WIKI, splits("the gay man is here", "an old friend of the family")) == []


def test_data_in_another_language_and_without_groups_are_warned_of(splits):
    no_group, foreign = data_checks.warnings(WIKI, splits("这个面包师很好", GERMAN))
    assert no_group.startswith("No training example belongs to any of the 50 groups")
    assert "training texts do not look like English (16 in Han script, 16 of 16 in Latin script" in foreign


def test_counts_of_groups_by_hand(splits):
    counts = {group.name: group for group in data_checks.of_groups(WIKI, splits("the gay man is here", "nobody"))}
    assert (counts["gay"].train, counts["gay"].test, counts["gay"].thin) == (16, 2, False)
    assert counts["gay"].share == 0.5
    assert (counts["old"].train, counts["old"].thin) == (0, True)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain", "Latin"), ("Grüße", "Latin"), ("12 !", ""), ("这个 ok", "Han"), ("ひらがな漢", "Hiragana"),
        ("काला", "Devanagari"), ("مسلم", "Arabic"), ("흑인", "Hangul"), ("Привет", "Cyrillic"), ("คน", "Thai"),
    ],
)  # fmt: skip
def test_the_script_of_a_text(text, script):
    assert languages.script_of(text) == script


@pytest.mark.parametrize(
    ("sentence", "language"),
    [
        ("The {} person is {}.", ""),
        ("Being {} is {}.", ""),
        ("Der Mensch ist heute wieder sehr freundlich gewesen", "another language"),
        ("La personne est très gentille avec tout le monde", "another language"),
        ("El hombre es muy amable y siempre tiene tiempo", "another language"),
        ("人很好。", "Han script"),
        ("", ""),
    ],
)
def test_sentences_that_are_not_english(sentence, language):
    assert languages.other_language([sentence]) == language
