"""What a task is: data, groups, and the metrics of each stage. A new task is one file and one entry in `TASKS`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from datasets import Dataset

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.spec import Options
from bias_transfer.spec import Stage


@dataclass(frozen=True)
class Splits:
    """A task's examples. Each set has the columns id (str, unique), text (str) and label (int, an index of `Task.labels`);
    a task may add columns of its own (BIOS: `pronoun`)."""

    train: Dataset
    dev: Dataset
    test: Dataset
    pretraining: tuple[str, ...]
    """The text that `model: tiny` is pre-trained on: never changed by a downstream arm."""
    heldout: tuple[str, ...]
    """Text of the same kind that pre-training does not see: the masked-LM loss is measured on it."""
    known: tuple[Measure, ...] = ()
    """What the maker of synthetic data planted: it stands among the trial's measures."""
    phrases: Dataset | None = None
    """Phrases of its own to probe the classifier with, in place of the task's."""


@dataclass(frozen=True)
class Predicted:
    """The fine-tuned classifier's answers on one set of examples."""

    examples: Dataset
    logits: np.ndarray
    """(examples, labels), fp32, in the examples' order."""


UpstreamMetric: TypeAlias = Callable[[LanguageModel, Splits, Any], list[Measure]]
DatasetMetric: TypeAlias = Callable[[Dataset], list[Measure]]
DownstreamMetric: TypeAlias = Callable[[Mapping[str, Predicted]], list[Measure]]
EncoderMetric: TypeAlias = Callable[[LanguageModel, Splits, Any, Stage], list[Measure]]
Plant: TypeAlias = Callable[[Mapping[str, float], int, int], list[str]]


@dataclass(frozen=True)
class Task:
    """A classification task with groups whose treatment is measured before and after fine-tuning."""

    labels: tuple[str, ...]
    groups: tuple[str, ...]
    data_options: Callable[[str], type[Options]]
    """data -> its knobs, `data.NAME` in a config."""
    metric_options: type[Options]
    """The settings of its metrics, `metric.NAME` in a config; handed to the upstream metrics."""
    identify: Callable[[str], str]
    """Digest of the content behind `data` (a path) or the revision of a hub id. Raises UserError."""
    load: Callable[[str, Any], Splits]
    """(data, data_options) -> Splits. Raises UserError for what cannot be used."""
    probes: Callable[[Splits], dict[str, Dataset]]
    """Sets that are predicted beside `dev` and `test`, by name."""
    plant: Plant
    """(group -> share in [0, 1] of its sentences that hold the harmful attribute, sentences, seed) -> sentences that plant
    this association in a language model: what `inject` trains on."""
    upstream: tuple[UpstreamMetric, ...]
    """The first is the primary one: arms are checked by how far it moves."""
    dataset: tuple[DatasetMetric, ...]
    downstream: tuple[DownstreamMetric, ...]
    encoder: tuple[EncoderMetric, ...]
    """What is asked of the encoder itself, before fine-tuning (stage upstream) and after it (downstream)."""
    primary: Mapping[str, str]
    """Stage -> the metric, one value a group, that the headline and the regressions read."""
    by_group: Groups | None = None
    """Where one class harms: whom the examples are about."""
    check: Callable[[LanguageModel], None] = lambda model: None
    """Raises UserError for a model that its upstream measures cannot ask."""


@dataclass(frozen=True)
class Context:
    """What an upstream arm may look at beside the model."""

    task: Task
    splits: Splits
    remember: Callable[[Mapping[str, Any], Callable[[], np.ndarray]], np.ndarray] = lambda deciding, compute: compute()
    """(what decides an array beside the untreated model, how it is computed) -> the array, computed once for all trials."""


def headline(task: Task, measures: Sequence[Measure]) -> dict[str, float]:
    """A few numbers with the same names in every task: mean and SD over groups of each stage's primary metric, and utility.

    NaN where fewer than one (mean) or two (SD) groups have a value.
    """
    found = dict[str, float]()
    for stage, metric in task.primary.items():
        values = [value for value in by_group(measures, stage, metric).values() if not math.isnan(value)]
        found[f"{stage}_mean"] = statistics.fmean(values) if values else math.nan
        found[f"{stage}_sd"] = statistics.stdev(values) if len(values) > 1 else math.nan
    single = {measure.metric: measure.value for measure in measures if not measure.group and not measure.template}
    return found | {
        name: single[name] for name in ("accuracy", "macro_f1", "roc_auc", "masked_lm_loss") if name in single
    }


def by_group(measures: Sequence[Measure], stage: str, metric: str) -> dict[str, float]:
    """Group -> the value pooled over templates where the metric gives one, else the mean over its templates."""
    own = [row for row in measures if (row.stage, row.metric) == (stage, metric) and row.group]
    pooled = {row.group: row.value for row in own if not row.template}
    groups = {row.group for row in own}
    return pooled or {
        group: statistics.fmean(row.value for row in own if row.group == group) for group in sorted(groups)
    }
