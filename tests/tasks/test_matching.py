"""How texts mention terms: English as it was, and every other script by the same rule."""

from __future__ import annotations

import csv
import hashlib
import json
import unicodedata
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from bias_transfer.tasks.matching import PREFIXES, SUFFIXES, Attached, counted, finder, fold, matcher
from bias_transfer.tasks.wiki.identity_phrases import identity_phrases, neutral_phrases
from bias_transfer.tasks.wiki.identity_terms import IDENTITIES, mentioned

SHARED = Path(__file__).parents[3] / "shared/data"

CASES = [
    # a vowel sign belongs to its word
    (["काल"], "यह काल है, काल।", 2), (["काल"], "वह काला है", 0), (["நாடு"], "தமிழ்நாடு நாடு", 1),
    (["নারী"], "নারীর নারী", 1), (["gay"], "gay\u0301", 0), (["gay"], "\u2764\ufe0fgay", 1),
    # joiners are inside words, apostrophes and hyphens are not
    (["مسلمان"], "مسلمان\u200cها مسلمان", 1), (["gay"], "l'gay, gay’s, non-gay", 3), (["gay"], "gays _gay gay2 xgay", 0),
    # however an accent is stored, and in any case
    (["café"], "cafe\u0301 CAFÉ Cafés", 2), (["cafe\u0301"], "café", 1),
    (["흑인"], unicodedata.normalize("NFD", "흑인 흑인은"), 1),
    (["μαύρος"], "ΜΑΎΡΟΣ μαύρος", 2), (["İstanbullu"], "İSTANBULLU istanbul", 1),
    # scripts without spaces, alone and next to others
    (["面包师"], "我不喜欢这个面包师，他", 1), (["黑人", "黑"], "黑人黑", 2), (["ムスリム"], "あのムスリムは", 1),
    (["gay"], "他是gay吗", 1), (["T恤"], "T恤T恤xT恤", 2),
    (["คนดำ"], "เห็นคนดำที่นี่", 1), (["คน"], "คนแก่", 1), (["คน"], "แคน คนิ คนะ", 0),
    (["ខ្មែរ"], "ជនជាតិខ្មែរគឺ", 1), (["မွတ်စလင်"], "မွတ်စလင်တွေ", 1), (["ລາວ"], "ຄົນລາວຢູ່", 1),
    # scripts with spaces
    (["мусульманин"], "Мусульманин и мусульмане", 1), (["ערבי"], "ערבי־ישראלי הערבי", 1), (["مسلم"], "المسلم مسلم", 1),
]  # fmt: skip


@pytest.mark.parametrize(("terms", "text", "count"), CASES)
def test_mentions_in_every_script(terms, text, count):
    spans = finder(terms)(text)
    assert len(spans) == count
    assert {fold(text[start:end]) for start, end, _ in spans} <= {*map(fold, terms)}
    assert {name for _, _, name in spans} == {*matcher(terms)(text)}


@pytest.mark.parametrize(
    ("term", "attached", "text", "count"),
    [
        ("مسلم", Attached(prefixes=PREFIXES["arabic"]), "والمسلم للمسلم بالمسلم وبالمسلم مسلم مسلمون", 5),
        ("ערבי", Attached(prefixes=PREFIXES["hebrew"]), "הערבי ושהערבי ערבי וערבים", 3),
        ("흑인", Attached(suffixes=SUFFIXES["korean"]), "흑인은 흑인들에게는 흑인 흑인종", 3),
    ],
)
def test_what_is_attached_to_a_term_is_no_part_of_the_mention(term, attached, text, count):
    spans = finder([term, "zz"], attached)(text)
    assert [text[start:end] for start, end, _ in spans] == [term] * count
    assert len(finder([term, "zz"])(text)) == 1


@given(
    st.text(alphabet=st.characters(categories=["L", "M", "N", "P", "Z"]), max_size=30), st.sampled_from(["NFC", "NFD"])
)
def test_a_mention_is_where_it_is_in_the_text_as_it_is_stored(text, form):
    text = unicodedata.normalize(form, text)
    assert "".join(fold(cluster) for cluster in regex.findall(r"\X", text)) == fold(text)
    whole = f"{text} İ é 黑人 {text}"
    (start, end, _), *_ = [span for span in finder(["黑人"])(whole) if span[0] > len(text)]
    assert whole[start:end] == "黑人"


def test_a_long_run_of_marks_takes_linear_time():
    assert matcher(["african", "é"])("african" + "\u0301" * 50_000 + " african") == ("african",)


def test_names_that_words_do_not_find_are_counted_by_the_rule():
    texts = ["वह काला है", "यह काल है", "我爱面包师面包师"]
    assert counted(["काल", "面包师", "gay"], texts) == {"काल": 1, "面包师": 2}


def test_the_phrases_are_matched_as_before_the_rule():
    assert _digests([phrase.text for phrase in identity_phrases()]) == ("14cb58291dccff03", "1e4ccbd71c0827ac")
    assert _digests([phrase.text for phrase in neutral_phrases()]) == ("8cd73d4f07a91333", "8cd73d4f07a91333")


@pytest.mark.parametrize(
    ("split", "members", "spans"),
    [
        ("train", "3c908215c8cd306b", "2005ba323e36e12b"),
        ("dev", "946dee54f83b1ed3", "08fc180525cb15f0"),
        ("test", "bdc38a06d6265003", "19c0136a6530eeb3"),
    ],
)
def test_real_comments_are_matched_as_before_the_rule(split, members, spans):
    file = SHARED / "wiki_rich" / f"{split}.csv"
    if not file.exists():
        pytest.skip(f"the comments are not here: {file}")
    with file.open(encoding="utf-8-sig", newline="") as rows:
        assert _digests([row["comment"] for row in csv.DictReader(rows)]) == (members, spans)


def _digests(texts: list[str]) -> tuple[str, str]:
    """Of the terms of each text, and of their places."""
    found = ([mentioned(text) for text in texts], [IDENTITIES.spans(text) for text in texts])
    first, second = (hashlib.sha256(json.dumps(each).encode()).hexdigest()[:16] for each in found)
    return first, second
