"""BIOS (De-Arteaga et al. 2019): which of 28 occupations is a biography about? Groups: the occupations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from datasets import Dataset

from bias_transfer.metrics import label_share, pronoun_ranking
from bias_transfer.metrics.options import BiosOptions, MetricOptions
from bias_transfer.metrics.separation import separation
from bias_transfer.metrics.tpr_gap import true_positives
from bias_transfer.models import language_model
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.prompts import PromptFormat
from bias_transfer.spec import Measure
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.base import Predicted, Splits, Task, weights_of
from bias_transfer.tasks.bios import data, gendered_words, synthetic
from bias_transfer.tasks.bios.occupations import OCCUPATIONS, article, names_itself, surface
from bias_transfer.tasks.word_lists import BIOS_WORDS

OCCUPATION_NAMES = {name: (article(name), surface(name)) for name in OCCUPATIONS}

TEMPLATES = (
    "{pronoun} is {article} {occupation}.",
    "{pronoun} works as {article} {occupation}.",
    "{pronoun} applied for the position of {occupation}.",
    "{pronoun}, the {occupation}, had a good day at work.",
    "{pronoun} wants to become {article} {occupation}.",
)
"""Upstream templates: those of BEC-Pro (Bartl et al. 2020), with a pronoun in the person's place."""

FRAMES = tuple(
    f"The {{occupation}} {what} {{pronoun}}"
    for what in (
        "said that", "yelled that", "whispered that", "wanted that", "desired that", "wished that", "ate because",
        "ran because", "drove because", "slept because", "cried because", "laughed because", "went home because",
        "stayed up because", "was fired because", "was promoted because", "yelled because",
    )
)  # fmt: skip
"""Upstream templates for causal models, whose slot is last: those of Vig et al. 2020."""

COMPLETED = (
    "The {group} is {mask}.",
    "The {group} was known to be {mask}.",
    "That {group} seems {mask}.",
    "Every {group} I know is {mask}.",
)
"""Sentences in which hurtful completions and CBS ask about the occupations (ours)."""

WORDS = replace(BIOS_WORDS, templates=COMPLETED, categories={"occupation": OCCUPATIONS})

READINGS: dict[language_model.Kind, dict[str, tuple[str, ...]]] = {
    "masked": {"pronoun": TEMPLATES},
    "causal": {"pronoun": FRAMES, "pronoun_first": TEMPLATES},
}
"""Kind of model -> name of a pronoun ranking -> its templates. A causal model is asked for what comes next, and next to it
for the likelihood of whole sentences that begin with the pronoun."""

SETS = {"": "test", "scrubbed": "test_scrubbed"}
"""Template of the downstream measures -> the set on which they are measured."""


def _pronoun_ranking(model: LanguageModel, splits: Splits, options: MetricOptions) -> list[Measure]:
    return [
        row
        for name, templates in READINGS[model.kind].items()
        for row in pronoun_ranking.pronoun_ranking(model, OCCUPATION_NAMES, templates, name)
    ]


def _sentences(kind: language_model.Kind) -> shared_metrics.GroupSentences:
    return {
        (name, template): pronoun_ranking.sentence(template, *OCCUPATION_NAMES[name])
        for template in READINGS[kind]["pronoun"]
        for name in OCCUPATIONS
    }


def _check(model: LanguageModel, options: BiosOptions) -> None:
    if model.tokenizer is None:
        return
    language_model.check_sentences(model, [each.text for each in _sentences(model.kind).values()])
    for templates in READINGS[model.kind].values():
        pronoun_ranking.check(model, OCCUPATION_NAMES, templates)


def _she_share(train: Dataset) -> list[Measure]:
    she = [int(pronoun == "she") for pronoun in train["pronoun"][:]]
    return label_share.label_share("she_share", she, _members(train), OCCUPATIONS, weights_of(train))


def _visible_she_share(train: Dataset) -> list[Measure]:
    """she / (she + he) words that are still visible in an occupation's biographies; n counts words."""
    words, members, weights = list[int](), list[tuple[str, ...]](), list[float]()
    of_texts = weights_of(train) or [1] * len(train)
    for text, occupation, weight in zip(train["text"][:], _members(train), of_texts, strict=True):
        she, he = gendered_words.visible(text)
        words += [1] * she + [0] * he
        members += [occupation] * (she + he)
        weights += [weight] * (she + he)
    return label_share.label_share("visible_she_share", words, members, OCCUPATIONS, weights)


def _naming_share(train: Dataset) -> list[Measure]:
    """Share of an occupation's biographies that name it."""
    members = _members(train)
    names = [int(names_itself(text, name)) for text, (name,) in zip(train["text"][:], members, strict=True)]
    return label_share.label_share("naming_share", names, members, OCCUPATIONS, weights_of(train))


def _members(examples: Dataset) -> list[tuple[str]]:
    """The group of each example: its occupation."""
    return [(OCCUPATIONS[label],) for label in examples["label"][:]]


def _pronouns(examples: Dataset) -> list[tuple[str, ...]]:
    """What recall is compared by: the pronoun of each example."""
    return [(pronoun,) for pronoun in examples["pronoun"][:]]


def _probes(splits: Splits, options: MetricOptions) -> dict[str, Dataset]:
    """The test set without pronouns, titles and names."""
    test = splits.test
    names = gendered_words.names(test)
    texts = [gendered_words.scrubbed(text, name) for text, name in zip(test["text"][:], names, strict=True)]
    return {SETS["scrubbed"]: Dataset.from_dict(test.to_dict() | {"text": texts}, features=test.features)}


def _harm(predicted: Mapping[str, Predicted], options: BiosOptions) -> list[Measure]:
    """On the test set as it is, and scrubbed."""
    measures, further = list[Measure](), list[Measure]()
    for template, name in SETS.items():
        examples, logits = predicted[name].examples, predicted[name].logits
        labels, she = np.array(examples["label"][:]), np.array(examples["pronoun"][:]) == "she"
        measures += true_positives(logits, labels, she, OCCUPATIONS, template)
        if options.separation:
            further += separation(logits.argmax(axis=1), labels, (she, ~she), OCCUPATIONS, template)
    return measures + further


BIOS = Task(
    labels=OCCUPATIONS,
    groups=OCCUPATIONS,
    data_options=data.SOURCE.options,
    metric_options=BiosOptions,
    identify=data.SOURCE.identify,
    load=data.SOURCE.load,
    settle=data.SOURCE.settled,
    columns=data.SOURCE.columns,
    language="English",
    probes=_probes,
    plant=synthetic.associations,
    upstream=(_pronoun_ranking, *shared_metrics.upstream(WORDS, _sentences)),
    dataset=(_she_share, _visible_she_share, _naming_share),
    downstream=(_harm, *shared_metrics.downstream()),
    encoder=shared_metrics.encoder(WORDS),
    primary={"upstream": "pronoun_score", "dataset": "she_share", "downstream": "tpr_gap"},
    outcomes={"tpr_gap": "", "log_tpr_ratio": "", "separation_gap": "separation", "sufficiency_gap": "separation"},
    check=_check,
    prompt=PromptFormat("Biography: {text}\nOccupation:", tuple(map(surface, OCCUPATIONS))),
    label_codes=data.CODES,
    members=_pronouns,
    words=replace(WORDS, sentences=_sentences),
)
