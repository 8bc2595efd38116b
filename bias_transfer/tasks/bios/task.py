"""BIOS (De-Arteaga et al. 2019): which of 28 occupations is a biography about? Groups: the occupations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from bias_transfer.metrics import label_share
from bias_transfer.metrics import pronoun_ranking
from bias_transfer.metrics import mask_filling
from bias_transfer.metrics.options import ExtraOptions
from bias_transfer.metrics.tpr_gap import true_positives
from bias_transfer.metrics.utility import utility
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.tasks.bios import data
from bias_transfer.tasks.bios import gendered_words
from bias_transfer.tasks.bios import synthetic
from bias_transfer.tasks.optional_metrics import encoder_extras
from bias_transfer.tasks.optional_metrics import upstream_extras
from bias_transfer.tasks.bios.occupations import OCCUPATIONS
from bias_transfer.tasks.bios.occupations import article
from bias_transfer.tasks.bios.occupations import names_itself
from bias_transfer.tasks.bios.occupations import surface
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.base import Task
from bias_transfer.tasks.word_lists import BIOS_WORDS

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
    return pronoun_ranking.pronoun_ranking(model, occupations, TEMPLATES)


def _masked_lm_loss(model: LanguageModel, splits: Splits, options: BiosMetricOptions) -> list[Measure]:
    return mask_filling.masked_lm_loss(model, splits.heldout, splits.pretraining)


def _she_share(train: Dataset) -> list[Measure]:
    she = [int(pronoun == "she") for pronoun in train["pronoun"][:]]
    return label_share.label_share("she_share", she, _members(train), OCCUPATIONS)


def _visible_she_share(train: Dataset) -> list[Measure]:
    """she / (she + he) words that the biographies still show; n counts words."""
    words, members = list[int](), list[tuple[str, ...]]()
    for text, own in zip(train["text"][:], _members(train), strict=True):
        she, he = gendered_words.visible(text)
        words += [1] * she + [0] * he
        members += [own] * (she + he)
    return label_share.label_share("visible_she_share", words, members, OCCUPATIONS)


def _naming_share(train: Dataset) -> list[Measure]:
    """Of the biographies: those that name their occupation."""
    members = _members(train)
    names = [int(names_itself(text, own[0])) for text, own in zip(train["text"][:], members, strict=True)]
    return label_share.label_share("naming_share", names, members, OCCUPATIONS)


def _members(examples: Dataset) -> list[tuple[str, ...]]:
    return [(OCCUPATIONS[label],) for label in examples["label"][:]]


def _probes(splits: Splits) -> dict[str, Dataset]:
    """The test set without pronouns, titles and names."""
    test = splits.test
    names = gendered_words.names(test)
    texts = [gendered_words.scrubbed(text, name) for text, name in zip(test["text"][:], names, strict=True)]
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
    data_options=data.data_options,
    metric_options=BiosMetricOptions,
    identify=data.identify,
    load=data.load,
    probes=_probes,
    plant=synthetic.associations,
    upstream=(_pronoun_ranking, _masked_lm_loss, *upstream_extras(BIOS_WORDS)),
    dataset=(_she_share, _visible_she_share, _naming_share),
    downstream=(_true_positives, _utility),
    encoder=encoder_extras(BIOS_WORDS),
    primary={"upstream": "pronoun_score", "dataset": "she_share", "downstream": "tpr_gap"},
)
