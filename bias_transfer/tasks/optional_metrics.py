"""The measures that a task can have beside its own, with the words that it asks about. Off unless an option asks for them.

A task lists `*upstream_extras(WORDS)` among its upstream measures and `encoder_extras(WORDS)` as its encoder's, and its
metric options inherit from `metrics.extras.ExtraOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bias_transfer.metrics import seat
from bias_transfer.metrics import disco
from bias_transfer.metrics import crows_pairs
from bias_transfer.metrics import pairs_file
from bias_transfer.metrics import mdl_probe
from bias_transfer.metrics.options import ExtraOptions
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.spec import Stage
from bias_transfer.errors import UserError
from bias_transfer.tasks.base import EncoderMetric
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.base import UpstreamMetric


@dataclass(frozen=True)
class ExtraWords:
    """What a task's extra measures are about; names become groups."""

    associations: Mapping[str, seat.AssociationTest]
    persons: Mapping[str, disco.Persons]
    """Two sets of names each."""
    attributes: Mapping[str, mdl_probe.Twins]
    """Twin sentences that differ in the attribute alone."""


def upstream_extras(words: ExtraWords) -> tuple[UpstreamMetric, ...]:
    """CrowS-Pairs and DisCo: they ask the language model, so before fine-tuning only."""

    def find_disco(model: LanguageModel, splits: Splits, options: ExtraOptions) -> list[Measure]:
        return disco.disco(model, words.persons) if options.disco else []

    return (_crows_pairs, find_disco)


def encoder_extras(words: ExtraWords) -> tuple[EncoderMetric, ...]:
    """Association tests and the probe: they ask the encoder, before and after fine-tuning."""

    def find_association(model: LanguageModel, splits: Splits, options: ExtraOptions, stage: Stage) -> list[Measure]:
        return seat.association(model, words.associations, options.seat, stage) if options.seat else []

    def find_probe(model: LanguageModel, splits: Splits, options: ExtraOptions, stage: Stage) -> list[Measure]:
        return mdl_probe.probe(model, words.attributes, stage) if options.probe else []

    return (find_association, find_probe)


def _crows_pairs(model: LanguageModel, splits: Splits, options: ExtraOptions) -> list[Measure]:
    if options.crows_pairs is None:
        return []
    if pairs_file.content_digest(options.crows_pairs) != options.crows_pairs_digest:
        raise UserError(f"{options.crows_pairs} has changed since the trial was resolved. Start the trial anew.")
    return crows_pairs.crows_pairs(model, pairs_file.read_pairs(options.crows_pairs))
