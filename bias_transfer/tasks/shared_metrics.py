"""The measures that tasks share: one table per stage, from which every task takes them.

To add a measure for all tasks, write a function in a file of metrics/ and add one entry here. Entries stand in the order in
which a trial's result lists them, so append. A measure that changes the results of existing trials must be off by default:
its switch is a field of `metrics.options.MetricOptions`, which is None by default, and its entry returns no rows then.

No entry needs an edit in a task: what a measure can ask about (words, groups, sentences) is in `MetricWords`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from bias_transfer.errors import UserError
from bias_transfer.metrics import (
    auc,
    bbq,
    categorical_bias,
    crows_pairs,
    disco,
    group_names,
    hurtful_completions,
    mask_filling,
    mdl_probe,
    seat,
    sentence_pairs,
    stereoset,
    utility,
)
from bias_transfer.metrics.options import MetricOptions
from bias_transfer.models.language_model import Kind, LanguageModel
from bias_transfer.models.lm_head import NamedSentence
from bias_transfer.spec import Measure, Stage
from bias_transfer.tasks import matching
from bias_transfer.tasks.base import DownstreamMetric, EncoderMetric, Splits, UpstreamMetric
from bias_transfer.tasks.grouped_predictions import GroupedPredictions

GroupSentences: TypeAlias = Mapping[tuple[str, str], NamedSentence]
"""(group, template) -> the template's sentence about the group. Every group has every template."""


@dataclass(frozen=True)
class MetricWords:
    """The words and sentences that a task's shared measures ask about. The keys become the groups of the measures."""

    associations: Mapping[str, seat.AssociationTest]
    persons: Mapping[str, disco.Persons]
    """Two sets of names each, for DisCo."""
    attributes: Mapping[str, mdl_probe.Twins]
    """Twin sentences that differ in the attribute alone, for the probe."""
    sentences: Callable[[Kind], GroupSentences] = lambda kind: {}
    """The task's own templates about its own groups, for a model of this kind; set by `upstream`."""

    templates: tuple[str, ...] = ()
    """Sentences with {group} and {mask}, in which hurtful completions and CBS ask about the task's groups."""
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Category -> its groups, which CBS compares with each other."""

    def names(self, kind: Kind) -> dict[str, str]:
        """Group of the task -> its name in a sentence."""
        return {group: sentence.name for (group, _), sentence in self.sentences(kind).items()}

    def named_categories(self, kind: Kind) -> dict[str, dict[str, str]]:
        """Category -> its groups, and their names in a sentence."""
        names = self.names(kind)
        return {name: {group: names[group] for group in groups} for name, groups in self.categories.items()}


SharedUpstream: TypeAlias = Callable[[MetricWords, LanguageModel, Splits, MetricOptions], list[Measure]]
SharedEncoder: TypeAlias = Callable[[MetricWords, LanguageModel, Splits, MetricOptions, Stage], list[Measure]]
HarmfulClassMetric: TypeAlias = Callable[[GroupedPredictions, str, MetricOptions], list[Measure]]

LEAST_FOR_RANKS = 10
"""A group's natural examples are ranked where it has at least this many of each label that is compared (ours)."""

UPSTREAM: dict[str, SharedUpstream] = {
    "heldout_loss": lambda words, model, splits, options: mask_filling.heldout_loss(
        model, splits.heldout, splits.pretraining
    ),
    "crows_pairs": lambda words, model, splits, options: (
        crows_pairs.of_file(model, options.crows_pairs, options.crows_pairs_digest, bool(options.aul))
        if options.crows_pairs is not None
        else []
    ),
    "disco": lambda words, model, splits, options: disco.disco(model, words.persons) if options.disco else [],
    "group_names": lambda words, model, splits, options: group_names.group_names(
        words.names(model.kind), model.tokenizer, model.pretraining or splits.train["text"][:], matching.counted
    ),
    "bbq": lambda words, model, splits, options: (
        bbq.of_file(model, options.bbq, options.bbq_digest) if options.bbq is not None else []
    ),
    "sentence_pairs": lambda words, model, splits, options: (
        sentence_pairs.of_file(
            model, options.pairs, options.pairs_digest, options.pair_columns, unmasked=bool(options.aul)
        )
        if options.pairs is not None
        else []
    ),
    "stereoset": lambda words, model, splits, options: (
        stereoset.of_file(model, options.stereoset, options.stereoset_digest, bool(options.stereoset_replica))
        if options.stereoset is not None
        else []
    ),
    "hurtful_completions": lambda words, model, splits, options: (
        hurtful_completions.of_file(
            model, options.hurtful, options.hurtful_digest, words.names(model.kind), words.templates
        )
        if options.hurtful is not None
        else []
    ),
    "categorical_bias": lambda words, model, splits, options: (
        categorical_bias.of_file(
            model,
            options.cbs_attributes,
            options.cbs_attributes_digest,
            words.named_categories(model.kind),
            words.templates,
        )
        if options.cbs
        else []
    ),
}
"""What all tasks measure on the language model before fine-tuning, after the task's primary upstream measure."""

ENCODER: dict[str, SharedEncoder] = {
    "seat": lambda words, model, splits, options, stage: (
        seat.association(model, words.associations, options.seat, stage) if options.seat else []
    ),
    "mdl_probe": lambda words, model, splits, options, stage: (
        mdl_probe.probe(model, words.attributes, stage) if options.probe else []
    ),
}
"""What all tasks measure on the encoder, before fine-tuning (stage upstream) and after it (stage downstream)."""

DOWNSTREAM: dict[str, DownstreamMetric] = {
    "utility": lambda predicted, options: utility.utility(
        predicted["test"].logits, np.array(predicted["test"].examples["label"][:])
    ),
}
"""What all tasks measure on the classifier's predictions by the name of their set, after the task's downstream bias."""

HARMFUL_CLASS: dict[str, HarmfulClassMetric] = {
    "rankings": lambda predictions, prefix, options: auc.rankings(
        predictions.margins, predictions.labels, predictions.groups, LEAST_FOR_RANKS if prefix else 1, prefix
    ),
}
"""What tasks with one harmful class (WIKI and all custom tasks) measure on each set whose examples are about groups.

The second argument goes before the metrics' names: "natural_" for the test set, "" for phrases."""


def check(model: LanguageModel, options: Any) -> None:
    """Raises UserError for a measure that cannot be taken on a model of this kind."""
    positions = [position for position in model.head.positions if position != "mask"]
    if options.seat and options.seat not in positions:
        raise UserError(
            f"metric.seat: {options.seat} cannot be measured on a {model.kind} language model. Allowed: "
            f"{', '.join(positions)}."
        )
    if options.bbq and model.kind == "masked":
        model.head.continuations([])
    if getattr(options, "multi_token", None) and model.kind == "masked":
        model.head.word_probabilities([], [])
    if options.aul and model.kind == "causal":
        model.head.unmasked([])


def sentences_of(names: Mapping[str, str], templates: Mapping[str, str]) -> GroupSentences:
    """Every template about every group.

    names: group -> its name in a sentence; templates: with {group} and {mask} -> the same without the group.
    """
    return {
        (group, template): NamedSentence(template.replace("{group}", "{name}"), name, neutral)
        for template, neutral in templates.items()
        for group, name in names.items()
    }


def upstream(words: MetricWords, sentences: Callable[[Kind], GroupSentences]) -> tuple[UpstreamMetric, ...]:
    """The shared part of `Task.upstream`. sentences: the task's templates about its groups, as in `MetricWords`."""
    words = replace(words, sentences=sentences)
    return tuple(partial(metric, words) for metric in UPSTREAM.values())


def encoder(words: MetricWords) -> tuple[EncoderMetric, ...]:
    """The shared part of `Task.encoder`."""
    return tuple(partial(metric, words) for metric in ENCODER.values())


def downstream() -> tuple[DownstreamMetric, ...]:
    """The shared part of `Task.downstream`."""
    return tuple(DOWNSTREAM.values())


def harmful_class(predictions: GroupedPredictions, prefix: str, options: MetricOptions) -> list[Measure]:
    """All measures of `HARMFUL_CLASS` on one set."""
    return [row for metric in HARMFUL_CLASS.values() for row in metric(predictions, prefix, options)]
