"""Dropout as mitigation (Webster et al. 2020): continued pre-training with more dropout than the model was pre-trained with."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from bias_transfer.errors import UserError
from bias_transfer.interventions.upstream import corpus
from bias_transfer.interventions.upstream.further_training import FurtherTrainingOptions, train_on
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.tasks.base import Context

FIELDS: dict[str, tuple[str, ...]] = {
    "hidden": (
        "hidden_dropout_prob", "dropout", "resid_pdrop", "embd_pdrop", "hidden_dropout", "embedding_dropout", "mlp_dropout",
    ),
    "attention": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"),
}  # fmt: skip
"""Kind of dropout -> the names that its rate has in the configurations of transformers. llama, qwen2, qwen3, gemma, mistral and
olmo2 have dropout in attention alone."""

RAISED = {"masked": {"hidden": 0.20, "attention": 0.15}, "causal": {"hidden": 0.15, "attention": 0.15}}
"""Kind of model -> the rates of dose 1: those of bias-bench for BERT, RoBERTa and GPT-2, also for other families (ours)."""


class DropoutOptions(FurtherTrainingOptions):
    """`upstream.NAME` for `upstream: dropout`."""

    control: bool = False
    """Train equally long on the same sentences, with dropout as it was."""


def check(model: LanguageModel, dose: float, options: DropoutOptions) -> None:
    """Raises UserError for a dose outside [0, 1], and for a model whose dropout is not raised by it."""
    if not 0 <= dose <= 1:
        raise UserError(f"upstream_dose {dose:g} of dropout is the scale of its raise. Allowed: above 0, at most 1.")
    if not raised_rates(model, dose or 1.0):
        before = ", ".join(f"{name} {rate:g}" for kind in FIELDS for name, rate in rates(model, kind).items())
        raise UserError(
            f"upstream: dropout cannot act on this model of the family {model.family!r}: it has {before or 'no dropout'}, and "
            f"the rates of dose 1 are {', '.join(f'{kind} {rate:g}' for kind, rate in RAISED[model.kind].items())}."
        )


def apply(model: LanguageModel, dose: float, options: DropoutOptions, seed: int, context: Context) -> None:
    """Train on the sentences with an attribute word, unswapped and each of them twice, with more dropout, in place.

    The text is that of the control of cda at dose 1. The seed draws order, masks and dropout; the control has the same draws.
    Afterwards dropout is as it was.
    """
    if not dose:
        return
    originals = corpus.attributed(options, options.words, context)
    with with_rates(model.lm, {} if options.control else raised_rates(model, dose)):
        train_on(model, [*originals, *originals], options, options.stream("dropout", seed))


def rates(model: LanguageModel, kind: str) -> dict[str, float]:
    """The model's rates of a kind of dropout, by their names in its configuration."""
    fields = {name: getattr(model.lm.config, name, None) for name in FIELDS[kind]}
    return {name: float(rate) for name, rate in fields.items() if rate is not None}


def raised_rates(model: LanguageModel, dose: float) -> dict[str, float]:
    """Name -> rate, of those that the dose raises: rate before + dose x (rate of dose 1 - rate before)."""
    before = {(kind, name): rate for kind in FIELDS for name, rate in rates(model, kind).items()}
    full = RAISED[model.kind]
    return {name: rate + dose * (full[kind] - rate) for (kind, name), rate in before.items() if full[kind] > rate}


@contextmanager
def with_rates(lm: Any, new: Mapping[str, float]) -> Iterator[None]:
    """Within the context the model has these rates of dropout, wherever its architecture reads them; then those from before."""
    # Architectures keep a rate in modules of dropout, as a number in the module that uses it, or in the configuration alone,
    # and ModernBERT has no such module where the rate is 0. So a model without weights is built with the new rates, and what
    # differs in it is taken over.
    config = copy.deepcopy(lm.config)
    for name, rate in new.items():
        setattr(config, name, rate)
    with torch.device("meta"):
        fresh = type(lm)(config)
    places = [(lm.config, name, rate) for name, rate in new.items()]
    for name, module in fresh.named_modules():
        own, (parent, _, last) = lm.get_submodule(name), name.rpartition(".")
        if type(own) is not type(module):
            places.append((lm.get_submodule(parent), last, module.train(own.training)))
        places += [(own, key, value) for key, value in vars(module).items() if _is_other(vars(own).get(key), value)]
    before = [(place, key, getattr(place, key)) for place, key, _ in places]
    for place, key, value in places:
        setattr(place, key, value)
    try:
        yield
    finally:
        for place, key, value in before:
            setattr(place, key, value)


def _is_other(before: object, after: object) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    return numbers and before != after


def record(model: LanguageModel, dose: float, options: DropoutOptions, seed: int, context: Context) -> list[Measure]:
    """`hidden_dropout` and `attention_dropout`, the largest rate of each kind in the training; for the control those that the
    model has. n: rates of the kind in the configuration; NaN with n = 0 where the architecture has none."""
    new = {} if options.control else raised_rates(model, dose)
    rows = []
    for kind in FIELDS:
        used = {**(before := rates(model, kind)), **{name: rate for name, rate in new.items() if name in before}}
        rows.append(Measure("upstream", f"{kind}_dropout", "", "", max(used.values(), default=math.nan), len(used)))
    return rows
