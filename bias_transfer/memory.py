"""What trials share is computed once. This is the one place that says which stages are memoized, and by which key.

Stages compute and know nothing of the cache; `pipeline.run_trial` passes them through here. Within a process the last data
sets that were read are kept in memory. On disk, for all processes that share a cache, are: the token ids of untreated texts,
the upstream measures, the weights of arms that train, and the hidden states from which arms compute their directions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bias_transfer.hashing import text_digest
from bias_transfer.models.batching import Tokens
from bias_transfer.resolved import ResolvedTrial
from bias_transfer.spec import Measure
from bias_transfer.storage import fingerprint, formats, memoize
from bias_transfer.tasks import data_checks
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.evaluation import reading


@dataclass(frozen=True)
class Memory:
    """The cache, as one trial sees it."""

    cache: Path
    model: Mapping[str, Any]
    """Key of the untreated model and its tokenizer."""
    upstream: Mapping[str, Any]
    """Key of the treated model and the upstream measures."""

    def tokens(self, texts: Sequence[str], max_tokens: int, encode: Callable[[Sequence[str]], Tokens]) -> Tokens:
        """Token ids of texts that many trials read."""
        key = {**self.model, "max_tokens": max_tokens, "texts": text_digest(texts)}
        return memoize.memoized(self.cache, formats.TOKENS, key, lambda: encode(texts))

    def array(self, key: Mapping[str, Any], compute: Callable[[], np.ndarray]) -> np.ndarray:
        """An array that depends on the untreated model and on `key`."""
        return memoize.memoized(self.cache, formats.ARRAY, {**self.model, **key}, compute)

    def treated_weights(self, compute: Callable[[], Mapping[str, torch.Tensor]]) -> Mapping[str, torch.Tensor]:
        """The weights of an arm that trains: computing them costs more than reading them."""
        return memoize.memoized(self.cache, formats.WEIGHTS, self.upstream, compute)

    def upstream_measures(self) -> list[Measure] | None:
        """The upstream measures, if a trial with the same model, arm and data has computed them."""
        return memoize.find(self.cache, formats.MEASURES, self.upstream)

    def keep_upstream_measures(self, measures: list[Measure]) -> list[Measure]:
        """The measures, now found by other trials."""
        return memoize.put(self.cache, formats.MEASURES, self.upstream, measures)


def memory_of(resolved: ResolvedTrial, stand_in: str, cache: Path, device: str) -> Memory:
    """The cache for a trial on this machine. Raises nothing: a cache that cannot be written is done without.

    stand_in: digest of a model that was pre-trained here, maybe on another machine; empty for one that its trial identifies.
    """
    here = {**fingerprint.machine(device, resolved.trial.threads), "stand_in": stand_in}
    # Like the package's own code: an arm of a plugin may compute anything that is cached.
    if resolved.trial.plugins_digest:
        here["plugins"] = resolved.trial.plugins_digest
    return Memory(cache, {**here, **resolved.keys.model}, {**here, **resolved.keys.upstream})


def load_splits(resolved: ResolvedTrial) -> Splits:
    """The untreated examples, read once per process for the same content and options."""
    return _splits(_Load(resolved.keys.splits, lambda: resolved.task.load(resolved.trial.data, resolved.options.data)))


def remarks(resolved: ResolvedTrial) -> tuple[str, ...]:
    """What the console shows before a trial starts, of its data and its metric options. Raises UserError for options that the
    data do not allow."""
    splits = load_splits(resolved)
    cautions = resolved.task.cautions(splits, resolved.options.metric)
    evaluate = reading.remarks(reading.load(resolved.evaluate, resolved.task))
    checked = (f"Warning: {text}" for text in (*data_warnings(resolved), *cautions))
    return (*splits.remarks, *_thin(resolved), *evaluate, *checked)


def data_warnings(resolved: ResolvedTrial) -> tuple[str, ...]:
    """What the data lack for the task (`data_checks.warnings`), found once per process."""
    return _once(_Load(f"warnings {resolved.keys.splits}", lambda: _warned(resolved)))


def _warned(resolved: ResolvedTrial) -> tuple[str, ...]:
    return tuple(data_checks.warnings(resolved.task, load_splits(resolved)))


def _thin(resolved: ResolvedTrial) -> tuple[str, ...]:
    def find() -> tuple[str, ...]:
        task, splits = resolved.task, load_splits(resolved)
        return (*data_checks.thin(data_checks.of_groups(task, splits)), *data_checks.few_pronouns(task, splits))

    return _once(_Load(f"thin {resolved.keys.splits}", find))


@dataclass(frozen=True)
class _Load:
    """A call that equals another with the same key."""

    key: str
    load: Callable[[], Any] = field(compare=False)


@functools.lru_cache(maxsize=2)  # a sweep's trials are ordered by data set, and a test set may be large
def _splits(call: _Load) -> Splits:
    splits: Splits = call.load()
    return splits


@functools.lru_cache(maxsize=8)  # searching a large set for its groups takes seconds
def _once(call: _Load) -> tuple[str, ...]:
    return tuple(call.load())
