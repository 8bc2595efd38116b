"""What every `Measure` keeps to, checked on real, tiny trials of each task, with every optional measure switched on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import pytest

from bias_transfer.metrics.crows_pairs import COLUMNS
from bias_transfer.metrics.options import MetricOptions
from bias_transfer.metrics.stereoset import LABELS
from bias_transfer.pipeline import run_trial
from bias_transfer.resolved import Places, ResolvedTrial, resolve
from bias_transfer.spec import Measure, parse_trial
from bias_transfer.tasks.base import Task
from bias_transfer.tasks.evaluation.options import TAKEN
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.shared_metrics import MetricWords
from bias_transfer.tasks.wiki.identity_terms import CATEGORIES
from bias_transfer.tasks.word_lists import BIOS_WORDS, WIKI_WORDS

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_task"
SMALL = {
    "model.steps": 2, "model.width": 16, "model.layers": 1, "epochs": 0.1, "max_tokens": 16, "upstream": "perturb",
}  # fmt: skip
SWITCHES = {
    f"metric.{name}": True for name, field in MetricOptions.model_fields.items() if field.annotation == bool | None
}
"""Every optional measure that is switched on by `true`: a new one is on in these trials as soon as it is a field."""
TRIALS = {
    "wiki": {
        "data.size": 200, "data.pretraining_sentences": 300, "data.mention_share": 0.05, "model.vocabulary": 1200,
    },
    "bios": {
        "data.size": 280, "data.test_size": 280, "data.pretraining_sentences": 300, "model.vocabulary": 1200,
        "metric.separation": True,
    },
    str(EXAMPLE / "board.yaml"): {
        "data": str(EXAMPLE / "comments.csv"), "metric.seat": "mean", "metric.cbs_attributes": "words.txt",
    },
}  # fmt: skip
"""Task -> the fields of a trial that takes seconds. Few of WIKI's comments mention a term, so that some terms have none."""

CAUSAL = {
    "model.kind": "causal", "metric.seat": "last", "metric.bbq": "questions.jsonl", "metric.aul": False,
    "metric.pairs": "pairs.csv", "metric.pairs_more": "sent_more", "metric.pairs_less": "sent_less",
}  # fmt: skip
"""The same of a causal model."""

BIAS_TYPE = "profession"
ITEM = {
    "target": "nurse", "bias_type": BIAS_TYPE, "context": "A nurse is BLANK",
    "sentences": [
        {"sentence": f"A nurse is {word}", "gold_label": label}
        for word, label in zip(("kind", "cruel", "table"), LABELS, strict=True)
    ],
}  # fmt: skip

QUESTION = {
    "question_polarity": "neg", "context_condition": "ambig", "category": "jobs", "context": "A nurse met a judge.",
    "answer_info": {"ans0": ["nurse", "n"], "ans1": ["judge", "j"], "ans2": ["Nobody knows", "unknown"]}, "label": 2,
    "additional_metadata": {"stereotyped_groups": ["n"]}, "question": "Who was late?", "ans0": "The nurse", "ans1": "The judge",
    "ans2": "Nobody knows",
}  # fmt: skip
FILES = {
    "pairs.csv": f"{','.join(COLUMNS)}\nA nurse sat.,A judge sat.,stereo,{BIAS_TYPE}\n",
    "dev.json": json.dumps({"data": {"intrasentence": [ITEM]}}),
    "words.txt": "cruel\nkind\n",
    "questions.jsonl": json.dumps(QUESTION),
}
"""What options name."""

CASES = "text,label,who,kind\na b,0,pilots,x\nb c,1,bakers,y\nc,0,pilots,y\n"
"""An evaluation set: its labels are numbers of WIKI's and of BIOS's classes."""

STAGES: dict[str, set[str]] = {
    "upstream": {"upstream"},
    "dataset": {"dataset"},
    "downstream": {"downstream", "utility"},
}
"""Field of `Task` -> the stages that its metrics may give their measures. Encoder metrics are told theirs."""


def faults(rows: Sequence[Measure], stages: Collection[str], groups: Collection[str]) -> Iterator[str]:
    """What is wrong with rows of these stages, about these groups or about all ("")."""
    keys = [(row.stage, row.metric, row.group, row.template) for row in rows]
    for row, key in zip(rows, keys, strict=True):
        if row.stage not in stages:
            yield f"{key}: the stage is none of {sorted(stages)}"
        if row.group and row.group not in groups:
            yield f"{key}: the group is unknown: not one of the task, nor of the list that `groups_of` names for the metric"
        if math.isinf(row.value):
            yield f"{key}: the value is infinite"
        if math.isnan(row.value) != (row.n == 0):
            yield f"{key}: the value is {row.value} with n = {row.n}; NaN goes with n = 0, and only with it"
        if row.n < 0 or not isinstance(row.n, int):
            yield f"{key}: n is {row.n}"
    yield from (f"{key}: occurs {keys.count(key)} times" for key in sorted({*keys}) if keys.count(key) > 1)


def groups_of(metric: str, task: Task, words: MetricWords) -> Collection[str]:
    """The groups of a measure: the task's or, for a shared measure that reads word lists, the keys of its list.

    A new measure that reads a list has to be named here.
    """
    shared = {"seat": words.associations, "disco": words.persons, "probe": words.attributes}
    shared |= {key: {BIAS_TYPE} for key in ("crows", "pairs", "stereoset")}
    shared |= {"cbs": {*CATEGORIES, "occupation", "groups"}}
    shared |= {"bbq": {"jobs"}, "forum": {"bakers", "pilots", "x", "y"}}
    return shared.get(metric.partition("_")[0], task.groups)


def watched(resolved: ResolvedTrial, seen: list[tuple[set[str], list[Measure]]]) -> ResolvedTrial:
    """The trial, whose task notes the rows of each call of a metric, next to the stages that they may have."""
    task = resolved.task

    def noting(metric: Callable[..., list[Measure]], field: str) -> Callable[..., list[Measure]]:
        def measure(*arguments: object) -> list[Measure]:
            rows = [*metric(*arguments)]
            stages = {str(arguments[-1])} if field == "encoder" else STAGES[field]
            seen.append((stages, rows))
            return rows

        return measure

    fields = {field: tuple(noting(metric, field) for metric in getattr(task, field)) for field in (*STAGES, "encoder")}
    return dataclasses.replace(resolved, task=dataclasses.replace(task, **fields))


@pytest.mark.parametrize(
    ("task", "extra"),
    [*((task, {}) for task in TRIALS), ("wiki", CAUSAL), ("bios", CAUSAL)],
    ids=lambda value: Path(value).stem if isinstance(value, str) else str(value.get("model.kind", "masked")),
)
def test_every_measure_of_a_trial_keeps_the_contract(task, extra, few_phrases, tmp_path):
    for name, content in {**FILES, "cases.csv": CASES}.items():
        (tmp_path / name).write_text(content)
    fields = {
        "task": task,
        **SMALL,
        **SWITCHES,
        **TRIALS[task],
        **extra,
        "metric.crows_pairs": "pairs.csv",
        "metric.stereoset": "dev.json",
        "metric.hurtful": "words.txt",
    }
    fields = {key: str(tmp_path / value) if value in FILES else value for key, value in fields.items()}
    if task in TASKS:
        fields |= {"evaluate.forum": str(tmp_path / "cases.csv"), "evaluate.forum.groups": "who"}
        fields |= {"evaluate.forum.functionality": "kind"}
    resolved, seen = resolve(parse_trial(fields)), list[tuple[set[str], list[Measure]]]()
    result = run_trial(watched(resolved, seen), Places(cache=tmp_path / "cache", device="cpu"))
    words = BIOS_WORDS if task == "bios" else WIKI_WORDS
    groups = {group for row in result.measures for group in groups_of(row.metric, resolved.task, words)}
    # What synthetic data planted is known and not measured: it has a value for a group without examples too.
    measured = [row for row in result.measures if not row.metric.startswith("planted_")]
    assert [*faults(measured, {"upstream", "dataset", "downstream", "utility"}, groups)] == []
    for stages, rows in seen:
        for metric in {row.metric for row in rows}:
            own = [row for row in rows if row.metric == metric]
            assert [*faults(own, stages, groups_of(metric, resolved.task, words))] == []
    # An evaluation set of such a name would share its metrics' names.
    after = {row.metric for row in measured if row.stage == "downstream" and not row.metric.startswith("forum_")}
    assert {metric.partition("_")[0] for metric in after} <= {*TAKEN}
    assert {stage for stages, _ in seen for stage in stages} == {"upstream", "dataset", "downstream", "utility"}
    for stage, metric in resolved.task.primary.items():
        about = {row.group for row in measured if (row.stage, row.metric) == (stage, metric)}
        assert about - {""} == {*resolved.task.groups}, f"{stage}: {metric}"
    assert any(row.n == 0 for row in measured) or task != "wiki", (
        "else the trial would not show how a missing value is given"
    )


GOOD = Measure("downstream", "fpr", "gay", "", 0.25, 8)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"stage": "upstream"}, "the stage is none of"),
        ({"group": "gays"}, "the group is unknown"),
        ({"value": math.inf}, "the value is infinite"),
        ({"value": math.nan}, "NaN goes with n = 0"),
        ({"n": 0}, "NaN goes with n = 0"),
        ({"n": -1}, "n is -1"),
        ({"template": ""}, "occurs 2 times"),
    ],
    ids=str,
)
def test_the_checker_finds_each_fault(changes, found):
    other = dataclasses.replace(GOOD, template="name_adj")
    good = [GOOD, other, dataclasses.replace(GOOD, group="deaf", value=math.nan, n=0)]
    assert [*faults(good, {"downstream"}, {"gay", "deaf"})] == []
    (fault,) = faults([GOOD, dataclasses.replace(other, **changes), good[2]], {"downstream"}, {"gay", "deaf"})
    assert found in fault
