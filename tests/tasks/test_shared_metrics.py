"""The measures that tasks share: optional ones are silent by default, and a new one is one entry in one table."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.metrics import disco, seat
from bias_transfer.metrics.options import MetricOptions
from bias_transfer.models.lm_head import SLOT
from bias_transfer.spec import Measure
from bias_transfer.tasks import shared_metrics, word_lists
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.custom.task import custom_task
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.shared_metrics import MetricWords
from bias_transfer.tasks.wiki.task import WIKI
from bias_transfer.tasks.word_lists import BIOS_WORDS, WIKI_WORDS, twins

WORDS = MetricWords(
    associations={"test": seat.AssociationTest((("he",), ("she",)), (("good",), ("bad",)))},
    persons={"pair": (("John", "Bill"), ("Mary", "Kate"))},
    attributes={"gender": twins((("he", "she"),))},
    templates=("The {group} is {mask}.",),
    categories={"animal": ("cats", "dogs")},
)
NAMES = {"cats": "cat", "dogs": "dog"}
PAIRS = (
    "sent_more,sent_less,stereo_antistereo,bias_type\n"
    "the cat is bad.,the dog is bad.,stereo,animal\n"
    "my cat is so good,my dog is so good,antistereo,age\n"
)


ALWAYS_ON = ("heldout_loss", "group_names")


def measured(model, words, options):
    """The rows of the optional measures."""
    words = replace(
        words, sentences=lambda kind: shared_metrics.sentences_of(NAMES, dict.fromkeys(words.templates, ""))
    )
    optional = [metric for name, metric in shared_metrics.UPSTREAM.items() if name not in ALWAYS_ON]
    rows = [row for metric in optional for row in metric(words, model, None, options)]
    for stage in ("upstream", "downstream"):
        rows += [row for metric in shared_metrics.encoder(words) for row in metric(model, None, options, stage)]
    return rows


@pytest.fixture
def custom(task_file):
    return custom_task(task_file())


def test_every_task_takes_the_shared_measures_from_the_tables(custom):
    """A new shared measure is one entry: no task lists them itself."""
    for task in (*TASKS.values(), custom):
        assert [metric.func for metric in task.upstream[1:]] == [*shared_metrics.UPSTREAM.values()]
        assert [metric.func for metric in task.encoder] == [*shared_metrics.ENCODER.values()]
        assert [*task.downstream[1:]] == [*shared_metrics.DOWNSTREAM.values()]


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_every_task_hands_its_sentences_about_its_groups_to_the_shared_measures(kind, custom):
    for task in (*TASKS.values(), custom):
        sentences = task.upstream[-1].args[0].sentences(kind)
        templates = {template for _, template in sentences}
        assert {*sentences} == {(group, template) for group in task.groups for template in templates}
        for sentence in sentences.values():
            assert sentence.name in sentence.text
            assert sentence.text.count(SLOT) == sentence.neutral.count(SLOT) == 1
            assert "{" not in (sentence.text + sentence.neutral).replace(SLOT, "")


def test_every_task_measures_its_own_names(load, custom):
    model = replace(load(), pretraining=("some text",))
    for task in (*TASKS.values(), custom):
        (names,) = (metric for metric in task.upstream[1:] if metric.func is shared_metrics.UPSTREAM["group_names"])
        rows = names(model, None, MetricOptions())
        assert {row.group for row in rows} == {*task.groups}
        assert {row.metric for row in rows} == {"name_words", "name_tokens", "name_log_frequency"}


def predicted(**columns):
    """Four examples, of which the second and the fourth are harmful, and a classifier that finds them."""
    examples = Dataset.from_dict({"id": list("abcd"), "text": ["a deaf baker"] * 4, "label": [0, 1] * 2, **columns})
    return Predicted(examples, np.array([[1.0, 0.0], [0.0, 1.0]] * 2, dtype=np.float32))


def test_a_new_measure_of_a_harmful_class_reaches_wiki_and_custom_tasks(monkeypatch, custom):
    def size(predictions, prefix, options):
        return [Measure("downstream", f"{prefix}size", "", "", 0.0, len(predictions.labels))]

    monkeypatch.setitem(shared_metrics.HARMFUL_CLASS, "size", size)
    phrases = predicted(term=["deaf", "deaf", "", ""], family=["f"] * 4, group=["baker", "baker", "", ""])
    sets = {"dev": predicted(), "test": predicted(), "phrases": phrases, "neutral": phrases}
    for task in (TASKS["wiki"], custom):
        rows = [row for metric in task.downstream for row in metric(sets, task.metric_options())]
        assert {row.metric for row in rows if row.metric.endswith("size")} == {"size", "natural_size"}


def test_optional_measures_are_off_by_default():
    assert measured(None, WORDS, MetricOptions()) == []


ITEM = {
    "target": "cat", "bias_type": "pet", "context": "A cat is BLANK",
    "sentences": [
        {"sentence": f"A cat is {word}", "gold_label": label}
        for word, label in zip(("bad", "good", "nice"), ("stereotype", "anti-stereotype", "unrelated"), strict=True)
    ],
}  # fmt: skip


@pytest.fixture
def optional(tmp_path):
    """Option -> what turns it on, and the options that it needs."""
    contents = {
        "pairs.csv": PAIRS,
        "words.txt": "bad\ngood\n",
        "dev.json": json.dumps({"data": {"intrasentence": [ITEM]}}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    pairs, words, items = (str(tmp_path / name) for name in contents)
    mapped = {"pairs": pairs, "pairs_more": "sent_more", "pairs_less": "sent_less"}
    return {
        "crows_pairs": {"crows_pairs": pairs}, "seat": {"seat": "mean"}, "disco": {"disco": True},
        "probe": {"probe": True}, "pairs": mapped, "pairs_type": {**mapped, "pairs_type": "bias_type"},
        "aul": {**mapped, "aul": True}, "stereoset": {"stereoset": items},
        "stereoset_replica": {"stereoset": items, "stereoset_replica": True}, "hurtful": {"hurtful": words},
        "cbs": {"cbs": True}, "cbs_attributes": {"cbs": True, "cbs_attributes": words},
    }  # fmt: skip


def test_each_option_turns_its_measures_on(load, optional):
    model = load()
    found = {name: measured(model, WORDS, MetricOptions(**values).resolved()) for name, values in optional.items()}
    stages = {name: {(row.stage, row.metric) for row in rows} for name, rows in found.items()}
    assert {row.group for row in found["pairs_type"]} == {"", "animal", "age"}
    assert {row.template for row in found["cbs_attributes"] if row.metric == "cbs_attribute"} == {"bad", "good"}
    both = ("upstream", "downstream")
    pairs = ("crows_pairs", *(f"crows_pairs_{name}" for name in ("difference", "stereo", "antistereo", "ties")))
    of_pairs = frozenset(("upstream", name) for name in ("pairs", "pairs_difference", "pairs_ties"))
    assert stages == {
        "crows_pairs": {("upstream", metric) for metric in pairs},
        "seat": {(stage, metric) for stage in both for metric in ("seat", "seat_p")},
        "disco": {("upstream", "disco")},
        "probe": {(stage, f"probe_{name}") for stage in both for name in ("codelength", "compression", "accuracy")},
        **dict.fromkeys(("pairs", "pairs_type"), of_pairs),
        "aul": of_pairs
        | {("upstream", f"pairs_{name}{end}") for name in ("aul", "aula") for end in ("", "_difference")},
        "stereoset": {("upstream", f"stereoset_{name}") for name in ("ss", "lms", "icat")},
        "stereoset_replica": {
            ("upstream", f"stereoset_{kind}{name}") for kind in ("", "replica_") for name in ("ss", "lms", "icat")
        },
        "hurtful": {("upstream", "hurtful_completions")},
        **{name: {("upstream", "cbs"), ("upstream", "cbs_attribute")} for name in ("cbs", "cbs_attributes")},
    }


@pytest.mark.parametrize("name", ["crows_pairs", "pairs", "stereoset", "hurtful", "cbs_attributes"])
def test_files_that_have_changed_since_are_refused(load, optional, name):
    options = MetricOptions(**optional[name]).resolved()
    file = Path(getattr(options, name))
    file.write_text(file.read_text(encoding="utf-8").replace("bad", "sad"), encoding="utf-8")
    with pytest.raises(UserError, match="has changed since"):
        measured(load(), WORDS, options)


def test_aul_is_refused_on_a_causal_model_before_the_trial(load, optional):
    options = MetricOptions(**optional["aul"]).resolved()
    shared_metrics.check(load("bert"), options)
    with pytest.raises(UserError, match="metric.aul: a causal language model"):
        shared_metrics.check(load("gpt2"), options)


def test_wiki_has_them_all(load, optional):
    values = {key: value for entry in optional.values() for key, value in entry.items()}
    options = WIKI.metric_options(**values | {"seat": "first"}).resolved()
    model = replace(load(), pretraining=("a text",))
    # The first two read the task's data, which this test does without.
    rows = [row for measure in WIKI.upstream[2:] for row in measure(model, None, options)]
    rows += [row for measure in WIKI.encoder for row in measure(model, None, options, "upstream")]
    kinds = {"crows", "disco", "name", "seat", "probe", "pairs", "stereoset", "hurtful", "cbs"}
    assert {row.metric.partition("_")[0] for row in rows} == kinds
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
    return np.full((size, 1), value)


def test_twins_differ_in_the_attribute_alone_and_it_stands_mid_sentence():
    """At the beginning of a sentence, "He" is another token than " he"."""
    for first, second in twins(word_lists.PRONOUNS):
        assert first.split(" he ") == second.split(" she ")
        assert len(first.split(" he ")) == 2
