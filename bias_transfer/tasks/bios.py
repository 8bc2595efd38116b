"""BIOS (De-Arteaga et al. 2019): which of 28 occupations is a biography about? Groups: the occupations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from bias_transfer.metrics import dataset, pronouns, upstream
from bias_transfer.metrics.extras import ExtraOptions
from bias_transfer.metrics.true_positives import true_positives
from bias_transfer.metrics.utility import utility
from bias_transfer.models import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.tasks import bios_data, gendered, synthetic_bios
from bias_transfer.tasks.extras import encoder_extras, upstream_extras
from bias_transfer.tasks.occupations import OCCUPATIONS, article, names_itself, surface
from bias_transfer.tasks.task import Predicted, Splits, Task
from bias_transfer.tasks.word_sets import BIOS_WORDS

TEMPLATES = (
    "{pronoun} is {article} {occupation}.",
    "{pronoun} works as {article} {occupation}.",
    "{pronoun} applied for the position of {occupation}.",
    "{pronoun}, the {occupation}, had a good day at work.",
    "{pronoun} wants to become {article} {occupation}.",
)
"""Upstream templates: those of BEC-Pro (Bartl et al. 2020), with a pronoun for the person."""

SETS = {"": "test", "scrubbed": "test_scrubbed"}
"""Template of the downstream measures -> the set that they are measured on."""


class BiosMetricOptions(ExtraOptions):
    """`metric.NAME` for BIOS: none but what every task has."""


def _pronoun_ranking(model: LanguageModel, splits: Splits, options: BiosMetricOptions) -> list[Measure]:
    occupations = {name: (article(name), surface(name)) for name in OCCUPATIONS}
    return pronouns.pronoun_ranking(model, occupations, TEMPLATES)


def _masked_lm_loss(model: LanguageModel, splits: Splits, options: BiosMetricOptions) -> list[Measure]:
    return upstream.masked_lm_loss(model, splits.heldout, splits.pretraining)


def _she_share(train: Dataset) -> list[Measure]:
    she = [int(pronoun == "she") for pronoun in train["pronoun"][:]]
    return dataset.label_share("she_share", she, _members(train), OCCUPATIONS)


def _visible_she_share(train: Dataset) -> list[Measure]:
    """she / (she + he) words that the biographies still show; n counts words."""
    words, members = list[int](), list[tuple[str, ...]]()
    for text, own in zip(train["text"][:], _members(train), strict=True):
        she, he = gendered.visible(text)
        words += [1] * she + [0] * he
        members += [own] * (she + he)
    return dataset.label_share("visible_she_share", words, members, OCCUPATIONS)


def _naming_share(train: Dataset) -> list[Measure]:
    """Of the biographies: those that name their occupation."""
    members = _members(train)
    names = [int(names_itself(text, own[0])) for text, own in zip(train["text"][:], members, strict=True)]
    return dataset.label_share("naming_share", names, members, OCCUPATIONS)


def _members(examples: Dataset) -> list[tuple[str, ...]]:
    return [(OCCUPATIONS[label],) for label in examples["label"][:]]


def _probes(splits: Splits) -> dict[str, Dataset]:
    """The test set without pronouns, titles and names."""
    test = splits.test
    names = gendered.names(test)
    texts = [gendered.scrubbed(text, name) for text, name in zip(test["text"][:], names, strict=True)]
    return {SETS["scrubbed"]: Dataset.from_dict(test.to_dict() | {"text": texts}, features=test.features)}


def _true_positives(predicted: Mapping[str, Predicted]) -> list[Measure]:
    """On the test set as it is, and scrubbed."""
    measures = []
    for template, name in SETS.items():
        examples, logits = predicted[name].examples, predicted[name].logits
        labels, she = np.array(examples["label"][:]), np.array(examples["pronoun"][:]) == "she"
        measures += true_positives(logits, labels, she, OCCUPATIONS, template)
    return measures


def _utility(predicted: Mapping[str, Predicted]) -> list[Measure]:
    test = predicted["test"]
    return utility(test.logits, np.array(test.examples["label"][:]))


BIOS = Task(
    labels=OCCUPATIONS,
    groups=OCCUPATIONS,
    data_options=bios_data.data_options,
    metric_options=BiosMetricOptions,
    identify=bios_data.identify,
    load=bios_data.load,
    probes=_probes,
    plant=synthetic_bios.associations,
    upstream=(_pronoun_ranking, _masked_lm_loss, *upstream_extras(BIOS_WORDS)),
    dataset=(_she_share, _visible_she_share, _naming_share),
    downstream=(_true_positives, _utility),
    encoder=encoder_extras(BIOS_WORDS),
    primary={"upstream": "pronoun_score", "dataset": "she_share", "downstream": "tpr_gap"},
)
