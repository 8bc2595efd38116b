"""An own task: a `Task` from a YAML file, with no Python."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from datasets import Dataset

from bias_transfer.metrics import label_share
from bias_transfer.metrics import mask_filling
from bias_transfer.metrics import sentiment as metrics_sentiment
from bias_transfer.metrics import word_preference
from bias_transfer.metrics.options import ExtraOptions
from bias_transfer.metrics.options import SentimentOptions
from bias_transfer.metrics.utility import utility
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.tasks.custom import data
from bias_transfer.tasks.custom import schema
from bias_transfer.tasks.custom import bias
from bias_transfer.tasks.optional_metrics import encoder_extras
from bias_transfer.tasks.optional_metrics import upstream_extras
from bias_transfer.tasks.synthetic_text import evenly
from bias_transfer.tasks.synthetic_text import marked
from bias_transfer.tasks.base import Groups
from bias_transfer.tasks.custom.schema import OwnFile
from bias_transfer.tasks.base import Plant
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.base import Task
from bias_transfer.tasks.base import UpstreamMetric
from bias_transfer.tasks.wiki.vocabulary import NEGATIVE
from bias_transfer.tasks.wiki.vocabulary import POSITIVE
from bias_transfer.tasks.word_lists import WIKI_WORDS


def is_own(task: str) -> bool:
    """Whether a task's name is that of a file."""
    return task.endswith(schema.SUFFIXES)


def identify(task: str) -> str:
    """NAME@CONTENT of the file. Raises UserError."""
    return schema.read(Path(task)).digest


def own_task(path: str) -> Task:
    """The task of a YAML file. Raises UserError, naming file and key."""
    return _build(schema.read(Path(path)).model_dump_json())


@functools.lru_cache(maxsize=8)  # trials in a warm worker share it
def _build(content: str) -> Task:
    own = OwnFile.model_validate_json(content)
    groups, compares = data.groups_of(own), own.words_a is not None
    return Task(
        labels=tuple(own.classes),
        groups=groups.names,
        data_options=data.data_options,
        metric_options=ExtraOptions if compares else SentimentOptions,
        identify=data.identify,
        load=partial(data.load, own),
        probes=partial(_probes, own),
        plant=_plant(own),
        upstream=(_upstream(own), _masked_lm_loss, *upstream_extras(WIKI_WORDS)),
        dataset=(partial(_harmful_share, groups),),
        downstream=(partial(bias.harm, groups), _utility),
        encoder=encoder_extras(WIKI_WORDS),
        primary={
            "upstream": "word_score" if compares else "negative_sentiment",
            "dataset": "harmful_share",
            "downstream": own.primary or "natural_fpr",
        },
        by_group=groups,
        check=partial(_check, own),
    )


def _upstream(own: OwnFile) -> UpstreamMetric:
    def compare(model: LanguageModel, splits: Splits, options: ExtraOptions) -> list[Measure]:
        return word_preference.word_comparison(model, own.surfaces, own.templates, own.words_a or (), own.words_b or ())

    def sentiment(model: LanguageModel, splits: Splits, options: SentimentOptions) -> list[Measure]:
        names = {surface: name for name, surface in own.surfaces.items()}
        found = metrics_sentiment.negative_sentiment(model, tuple(names), own.templates, options.scorer, options.top_k)
        return [replace(row, group=names[row.group]) for row in found]

    return compare if own.words_a else sentiment


def _check(own: OwnFile, model: LanguageModel) -> None:
    if own.words_a:
        word_preference.check(model, own.surfaces, own.templates, own.words_a, own.words_b or ())


def _masked_lm_loss(model: LanguageModel, splits: Splits, options: ExtraOptions) -> list[Measure]:
    return mask_filling.masked_lm_loss(model, splits.heldout, splits.pretraining)


def _harmful_share(groups: Groups, train: Dataset) -> list[Measure]:
    harmful = [int(label == groups.harmful) for label in train["label"][:]]
    return label_share.label_share("harmful_share", harmful, groups.of(train), groups.names)


def _probes(own: OwnFile, splits: Splits) -> dict[str, Dataset]:
    """The phrases, about each group or about none."""
    rows = [
        {"text": phrase.replace("{group}", surface), "label": own.classes.index(label), data.GROUP: name}
        for phrase, label in (own.phrases or {}).items()
        for name, surface in (own.surfaces if "{group}" in phrase else {"": ""}).items()
    ]
    return (
        {"phrases": Dataset.from_list([{"id": str(number), **row} for number, row in enumerate(rows)])} if rows else {}
    )


def _plant(own: OwnFile) -> Plant:
    """Sentences from the templates: filled with words_a (of their share) and words_b, or with negative and positive words."""
    sides = (own.words_a, own.words_b) if own.words_a and own.words_b else (NEGATIVE, POSITIVE)

    def plant(shares: Mapping[str, float], size: int, seed: int) -> list[str]:
        random = Random(seed)  # noqa: S311 - no secret
        plan = [entry for name, count in evenly(own.names, size) for entry in marked(name, count, shares[name])]
        random.shuffle(plan)
        templates, sentences = list(own.templates), list[str]()
        for name, harmful in plan:
            side, template = sides[0 if harmful else 1], templates[int(random.random() * len(templates))]
            fill = side[int(random.random() * len(side))]  # as many draws for either side
            sentences.append(template.replace("{group}", own.surfaces[name]).replace("{mask}", fill))
        return sentences

    return plant


def _utility(predicted: Mapping[str, Predicted]) -> list[Measure]:
    test = predicted["test"]
    return utility(test.logits, np.array(test.examples["label"][:]))
