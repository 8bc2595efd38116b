"""The extra measures as a task lists them: silent unless asked for, before and after fine-tuning."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from bias_transfer.metrics import seat
from bias_transfer.metrics import disco
from bias_transfer.metrics.options import ExtraOptions
from bias_transfer.errors import UserError
from bias_transfer.tasks import word_lists
from bias_transfer.tasks.optional_metrics import ExtraWords
from bias_transfer.tasks.optional_metrics import encoder_extras
from bias_transfer.tasks.optional_metrics import upstream_extras
from bias_transfer.tasks.wiki.task import WIKI
from bias_transfer.tasks.word_lists import BIOS_WORDS
from bias_transfer.tasks.word_lists import WIKI_WORDS
from bias_transfer.tasks.word_lists import twins

WORDS = ExtraWords(
    associations={"test": seat.AssociationTest((("he",), ("she",)), (("good",), ("bad",)))},
    persons={"pair": (("John", "Bill"), ("Mary", "Kate"))},
    attributes={"gender": twins((("he", "she"),))},
)
PAIRS = (
    "sent_more,sent_less,stereo_antistereo,bias_type\n"
    "the cat is bad.,the dog is bad.,stereo,animal\n"
    "my cat is so good,my dog is so good,antistereo,age\n"
)


def measured(model, words, options):
    rows = [row for measure in upstream_extras(words) for row in measure(model, None, options)]
    for stage in ("upstream", "downstream"):
        rows += [row for measure in encoder_extras(words) for row in measure(model, None, options, stage)]
    return rows


def test_off_nothing_is_run():
    assert measured(None, WORDS, ExtraOptions()) == []


def test_each_option_turns_its_measures_on(load, tmp_path):
    model, file = load(), tmp_path / "pairs.csv"
    file.write_text(PAIRS, encoding="utf-8")
    stages = {
        name: {(row.stage, row.metric) for row in measured(model, WORDS, ExtraOptions(**{name: value}).resolved())}
        for name, value in {"crows_pairs": str(file), "seat": "mean", "disco": True, "probe": True}.items()
    }
    both = ("upstream", "downstream")
    pairs = ("crows_pairs", *(f"crows_pairs_{name}" for name in ("difference", "stereo", "antistereo", "ties")))
    assert stages == {
        "crows_pairs": {("upstream", metric) for metric in pairs},
        "seat": {(stage, metric) for stage in both for metric in ("seat", "seat_p")},
        "disco": {("upstream", "disco")},
        "probe": {(stage, f"probe_{name}") for stage in both for name in ("codelength", "compression", "accuracy")},
    }


def test_pairs_that_changed_since_are_refused(load, tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text(PAIRS, encoding="utf-8")
    options = ExtraOptions(crows_pairs=str(file)).resolved()
    file.write_text(PAIRS.replace("cat", "fox"), encoding="utf-8")
    with pytest.raises(UserError, match="has changed since"):
        measured(load(), WORDS, options)


def test_wiki_has_them_all(load, tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text(PAIRS, encoding="utf-8")
    options = WIKI.metric_options(crows_pairs=str(file), seat="first", disco=True, probe=True).resolved()
    model = load()
    rows = [row for measure in WIKI.upstream[-2:] for row in measure(model, None, options)]
    rows += [row for measure in WIKI.encoder for row in measure(model, None, options, "upstream")]
    assert {row.metric.partition("_")[0] for row in rows} == {"crows", "disco", "seat", "probe"}
    assert all(math.isfinite(row.value) == (row.n > 0) for row in rows)
    keys = Counter((row.metric, row.group, row.template) for row in rows)
    assert max(keys.values()) == 1  # no two rows for the same thing


@pytest.mark.parametrize("words", [BIOS_WORDS, WIKI_WORDS])
def test_the_words_of_a_task_fit_their_measures(words):
    for test in words.associations.values():
        every = [word for side in (*test.targets, *test.attributes) for word in side]
        assert len(every) == len({*every})
        assert math.comb(sum(map(len, test.targets)), len(test.targets[0])) >= 70  # p can fall below 0.05
    for first, second in words.persons.values():
        assert len(first) == len(second) == len({*first}) == len({*second})
        assert not {*first} & {*second}
        (p,) = disco._p_values(*(_column(share, len(first)) for share in (1.0, 0.0)))
        assert p * 3 * len(disco.TEMPLATES) * 10 < 0.05  # ten fills a template can differ
    for sentences in words.attributes.values():
        assert len(sentences) == len({*sentences}) >= 48
        for first, second in sentences:
            assert first != second
            assert first.count("{mask}") == second.count("{mask}") == 1
            assert "{who}" not in first + second


def _column(value, size):
    import numpy as np

    return np.full((size, 1), value)


def test_twins_differ_in_the_attribute_alone_and_it_stands_mid_sentence():
    """The leading-space fault: "He" at the beginning is another token than " he"."""
    for first, second in twins(word_lists.PRONOUNS):
        assert first.split(" he ") == second.split(" she ")
        assert len(first.split(" he ")) == 2
