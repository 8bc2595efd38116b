"""What a task is: its data, its groups, and its metrics at each stage. A new task is one package and one entry in `TASKS`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from datasets import Dataset

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.prompts import PromptFormat
from bias_transfer.spec import HELDOUT_LOSSES, Measure, Option, Options, Stage

WEIGHT = "weight"
"""Column of a treated training set with the weight of each example in training, mean 1; no arm but `reweight` adds it."""

Span: TypeAlias = tuple[int, int, str]
"""(start, end, group): where a text mentions a group, in characters."""


@dataclass(frozen=True)
class Splits:
    """A task's examples. Each set has the columns id (str, unique), text (str) and label (int, an index of `Task.labels`); a
    task may add further columns (BIOS: `pronoun`)."""

    train: Dataset
    dev: Dataset
    test: Dataset
    pretraining: tuple[str, ...]
    """The text on which `model: tiny` is pre-trained. No downstream arm changes it."""
    heldout: tuple[str, ...]
    """Text of the same kind that pre-training does not see: the masked-LM loss is measured on it."""
    known: tuple[Measure, ...] = ()
    """The shares that a generator planted in synthetic data: they are added to the trial's measures, those of the stage
    upstream only for a model that was pre-trained on `pretraining`."""
    phrases: Dataset | None = None
    """Phrases that come with the data and are predicted in place of the task's own probe phrases."""
    notes: tuple[str, ...] = ()
    """What was read from where, in sentences, for the console."""
    warnings: tuple[str, ...] = ()
    """What a reader of the results must know about the data; they are added to the trial's warnings."""
    facts: Mapping[str, Option] = field(default_factory=dict)
    """Files, and counts of duplicates and contradictions; they are added to the trial's facts."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the console shows before a trial starts."""
        return (*self.notes, *(f"Warning: {warning}" for warning in self.warnings))


@dataclass(frozen=True)
class Columns:
    """What is read of a table."""

    read: Mapping[str, str]
    """Role ("text") -> the column."""
    others: tuple[str, ...]
    """The columns that are not read."""


@dataclass(frozen=True)
class Predicted:
    """The fine-tuned classifier's predictions on one set of examples."""

    examples: Dataset
    logits: np.ndarray
    """(examples, labels), fp32, in the examples' order."""


@dataclass(frozen=True)
class Groups:
    """The groups of a task with one harmful class."""

    names: tuple[str, ...]
    of: Callable[[Dataset], list[tuple[str, ...]]]
    """The groups of each example in turn: none, one or several."""
    harmful: int
    """The label whose false positives harm."""
    examples: str
    """What messages call examples of that label: "toxic comments"."""
    outside: str
    """How messages go on for examples that belong to no group: "that mention no term"."""
    spans: Callable[[str], list[Span]] | None = None
    """Text -> its mentions of groups, in its order, where the text decides; None where a column gives the groups."""
    decided: str = ""
    """How an example's groups are decided, in sentences."""


def weights_of(examples: Dataset) -> list[float] | None:
    """The weight of each example; None if all weigh the same."""
    return list(examples[WEIGHT][:]) if WEIGHT in examples.column_names else None


UpstreamMetric: TypeAlias = Callable[[LanguageModel, Splits, Any], list[Measure]]
"""(model, splits, metric options) -> measures of the language model before fine-tuning."""
DatasetMetric: TypeAlias = Callable[[Dataset], list[Measure]]
"""(training set after the downstream arm) -> measures."""
DownstreamMetric: TypeAlias = Callable[[Mapping[str, Predicted], Any], list[Measure]]
"""(name of a set -> predictions: dev, test and the sets of `Task.probes`; metric options) -> measures of the classifier."""
EncoderMetric: TypeAlias = Callable[[LanguageModel, Splits, Any, Stage], list[Measure]]
"""(model, splits, metric options, stage) -> measures of the encoder."""
Plant: TypeAlias = Callable[[Mapping[str, float], int, int], list[str]]


@dataclass(frozen=True)
class Task:
    """A classification task with groups whose treatment is measured before and after fine-tuning."""

    labels: tuple[str, ...]
    groups: tuple[str, ...]
    data_options: Callable[[str], type[Options]]
    """data -> its options, `data.NAME` in a config. Raises UserError."""
    metric_options: type[Options]
    """The options of the metrics, `metric.NAME` in a config; passed to all but the metrics of the fine-tuning set."""
    identify: Callable[[str], str]
    """Digest of the content at `data` (a path), or the commit of a hub id. Raises UserError."""
    load: Callable[[str, Any], Splits]
    """(data, data options) -> Splits. Raises UserError for data that cannot be used."""
    probes: Callable[[Splits, Any], dict[str, Dataset]]
    """(splits, metric options) -> sets that are predicted in addition to `dev` and `test`, by name."""
    plant: Plant
    """(group -> share in [0, 1] of its sentences with the harmful attribute, number of sentences, seed) -> sentences that plant
    this association in a language model: `inject` trains on them."""
    upstream: tuple[UpstreamMetric, ...]
    """The first one is the primary metric, by which the manipulation check judges an arm; then `shared_metrics.upstream`."""
    dataset: tuple[DatasetMetric, ...]
    downstream: tuple[DownstreamMetric, ...]
    """The task's bias, then `shared_metrics.downstream`."""
    encoder: tuple[EncoderMetric, ...]
    """Measures of the encoder itself, before fine-tuning (stage upstream) and after it (stage downstream)."""
    primary: Mapping[str, str]
    """Stage -> the metric, with one value per group, that headline and regressions read."""
    outcomes: Mapping[str, str] = field(default_factory=dict)
    """Downstream metric that an analysis may take as its primary outcome -> the metric option without which it is not measured;
    empty for one that every trial has. The task's own primary outcome is always one of them."""
    settle: Callable[[str, Any], Any] = lambda data, options: options
    """(data, data options) -> the options with what the data themselves decide, which becomes a part of the trial's id."""
    harm_groups: Groups | None = None
    """The groups and the harmful class, in a task where one class harms."""
    label_codes: Mapping[str, int] = field(default_factory=dict)
    """Values of a label column that are accepted, in lower case -> label. Empty: the names in `labels`."""
    members: Callable[[Dataset], list[tuple[str, ...]]] | None = None
    """The groups of each example of `dev`, `test` or a set of `probes`: none, one or several. None: those of `harm_groups`."""
    check: Callable[[LanguageModel, Any], None] = lambda model, options: None
    """(model, metric options): raises UserError for a model that the task's upstream measures cannot be taken on."""
    cautions: Callable[[Splits, Any], tuple[str, ...]] = lambda splits, options: ()
    """(splits, metric options) -> what a reader of the results must know about these options; they are added to the trial's
    warnings. Raises UserError for options that the data do not allow."""
    language: str = ""
    """The language of its groups, sentences and words; empty where a user's file has them."""
    columns: Callable[[str], Columns | None] = lambda data: None
    """data -> the columns that are read; None for generated data. Raises UserError as `load` does."""
    prompt: PromptFormat = field(default_factory=PromptFormat)
    """How a prompt asks for the class of a text."""
    words: Any = None
    """`shared_metrics.MetricWords` with the task's sentences, for measures of plugins. None: those that need it are refused."""
    harm_sets: Callable[[Mapping[str, Predicted]], Mapping[str, Any]] | None = None
    """(name of a set -> predictions) -> prefix -> `GroupedPredictions` of each set whose examples are about groups, in a task
    with a harmful class: measures of plugins read them."""
    further_harm: tuple[Callable[[Any, str, Any], list[Measure]], ...] = ()
    """(`GroupedPredictions`, prefix, metric options) -> measures of plugins, on evaluation sets too; set by
    `plugin_metrics.with_metrics`."""
    measures: Mapping[str, Option] = field(default_factory=dict)
    """Options of metrics that every trial of this task has; it may give them another value."""

    @property
    def asks(self) -> PromptFormat:
        """The same, with the answers of all classes: by default, their names."""
        return replace(self.prompt, answers=self.prompt.answers or self.labels)


@dataclass(frozen=True)
class Context:
    """What an upstream arm can read in addition to the model."""

    task: Task
    splits: Splits
    remember: Callable[[Mapping[str, Any], Callable[[], np.ndarray]], np.ndarray] = lambda deciding, compute: compute()
    """(what an array depends on in addition to the untreated model, how to compute it) -> the array, computed once for all
    trials."""


def headline(task: Task, measures: Sequence[Measure]) -> dict[str, float]:
    """A few numbers that have the same names in every task: mean and SD over groups of each stage's primary metric, utility
    and held-out loss.

    NaN where no group (mean), or fewer than two groups (SD) have a value.
    """
    summary = dict[str, float]()
    for stage, metric in task.primary.items():
        values = [value for value in by_group(measures, stage, metric).values() if not math.isnan(value)]
        summary[f"{stage}_mean"] = statistics.fmean(values) if values else math.nan
        summary[f"{stage}_sd"] = statistics.stdev(values) if len(values) > 1 else math.nan
    overall = {measure.metric: measure.value for measure in measures if not measure.group and not measure.template}
    return summary | {
        name: overall[name] for name in ("accuracy", "macro_f1", "roc_auc", *HELDOUT_LOSSES) if name in overall
    }


def by_group(measures: Sequence[Measure], stage: str, metric: str) -> dict[str, float]:
    """Group -> its value: the one pooled over templates if the metric has it, else the mean over templates."""
    rows = [row for row in measures if (row.stage, row.metric) == (stage, metric) and row.group]
    pooled = {row.group: row.value for row in rows if not row.template}
    groups = {row.group for row in rows}
    return pooled or {
        group: statistics.fmean(row.value for row in rows if row.group == group) for group in sorted(groups)
    }
