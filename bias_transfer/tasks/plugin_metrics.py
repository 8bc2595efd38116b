"""Measures from outside the package: what `METRICS` of a plugin has, and a task with them.

Each is off until a trial sets `metric.KEY`. It is then taken after the task's own measures of its stage.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import create_model

from bias_transfer.errors import UserError
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure, Options, Stage
from bias_transfer.tasks.base import DownstreamMetric, Predicted, Splits, Task
from bias_transfer.tasks.shared_metrics import HarmfulClassMetric, SharedEncoder, SharedUpstream


@dataclass(frozen=True)
class Metric:
    """A measure of a plugin, under its key: one function or several, and the options that it has.

    The names of its rows are the key, or begin with it and an underscore, so that they never meet those of another measure.
    """

    upstream: SharedUpstream | None = None
    """(words, model, splits, metric options) -> rows of the language model before fine-tuning. words: a `MetricWords`."""
    encoder: SharedEncoder | None = None
    """(words, model, splits, metric options, stage) -> rows of the encoder, before fine-tuning (stage upstream) and after."""
    downstream: DownstreamMetric | None = None
    """(name of a set -> predictions, metric options) -> rows of the classifier."""
    harmful_class: HarmfulClassMetric | None = None
    """(`GroupedPredictions`, prefix, metric options) -> rows of the classifier, on each set whose examples are about groups, in
    a task with a harmful class. The prefix goes before the rows' names: "" on phrases, "natural_" on the test set, and the name
    of an evaluation set."""
    options: type[Options] | None = None
    """Its options: the field KEY, which turns it on, and others whose names begin with KEY_; all are None by default. Without
    such a class the one option is KEY, true or false."""

    @property
    def functions(self) -> tuple[Callable[..., list[Measure]], ...]:
        """Those that it has."""
        given = (self.upstream, self.encoder, self.downstream, self.harmful_class)
        return tuple(function for function in given if function is not None)


def options_of(key: str, metric: Metric) -> type[Options]:
    """The options that turn the measure on and change it."""
    return metric.options or _switch(key)


@functools.lru_cache(maxsize=256)
def _switch(key: str) -> type[Options]:
    fields: dict[str, Any] = {key: (bool | None, None)}
    return create_model(key, __base__=Options, **fields)


def with_metrics(task: Task, metrics: Mapping[str, Metric]) -> Task:
    """The task with the measures after its own, and their options among its own."""
    if not metrics:
        return task
    entries = metrics.items()
    harm = tuple(partial(_harmful, key, metric.harmful_class) for key, metric in entries if metric.harmful_class)
    return replace(
        task,
        metric_options=_joined(task.metric_options, tuple((key, options_of(key, metric)) for key, metric in entries)),
        upstream=(*task.upstream, *(partial(_upstream, task, *entry) for entry in entries if entry[1].upstream)),
        encoder=(*task.encoder, *(partial(_encoder, task, *entry) for entry in entries if entry[1].encoder)),
        downstream=(
            *task.downstream,
            *(partial(_downstream, key, metric.downstream) for key, metric in entries if metric.downstream),
            *([partial(_on_sets, task, harm)] if harm else []),
        ),
        further_harm=harm,
    )


@functools.lru_cache(maxsize=64)  # the trials of a grid share it, and a class takes milliseconds to make
def _joined(own: type[Options], further: tuple[tuple[str, type[Options]], ...]) -> type[Options]:
    """One class with all options. Each class reads the files that its own options name (`Options.resolved`)."""
    kinds = [kind for _, kind in further]

    def resolved(self: Any) -> Any:
        _check_together(self, further)
        for kind in (own, *kinds):
            self = kind.resolved(self)
        return self

    return create_model(own.__name__, __base__=(type("Joined", (*kinds, own), {"resolved": resolved}),))


def _check_together(options: Options, further: Sequence[tuple[str, type[Options]]]) -> None:
    for key, kind in further:
        for name in kind.model_fields:
            if getattr(options, key) is None and getattr(options, name) is not None:
                raise UserError(
                    f"metric.{name} has no effect without metric.{key}. Add it, or leave metric.{name} out."
                )


def check(task: Task, metrics: Mapping[str, Metric], options: Options, name: str) -> None:
    """Raises UserError for a measure that is turned on, and that asks for what the task does not have. name: the task's."""
    for key, metric in metrics.items():
        if getattr(options, key) is None:
            continue
        if (metric.upstream or metric.encoder) and task.words is None:
            raise UserError(f"metric.{key} asks for words about groups, and the task {name} has none (Task.words)")
        if metric.harmful_class and not (task.harm_groups and task.harm_sets):
            raise UserError(
                f"metric.{key} compares groups by a class that harms them, and the task {name} has none. Leave it out here."
            )


def _upstream(
    task: Task, key: str, metric: Metric, model: LanguageModel, splits: Splits, options: Any
) -> list[Measure]:
    if getattr(options, key) is None or metric.upstream is None:
        return []
    return _checked(key, "upstream", metric.upstream(task.words, model, splits, options))


def _encoder(
    task: Task, key: str, metric: Metric, model: LanguageModel, splits: Splits, options: Any, stage: Stage
) -> list[Measure]:
    if getattr(options, key) is None or metric.encoder is None:
        return []
    return _checked(key, stage, metric.encoder(task.words, model, splits, options, stage))


def _downstream(key: str, metric: DownstreamMetric, predicted: Mapping[str, Predicted], options: Any) -> list[Measure]:
    return [] if getattr(options, key) is None else _checked(key, "downstream", metric(predicted, options))


def _harmful(key: str, metric: HarmfulClassMetric, predictions: Any, prefix: str, options: Any) -> list[Measure]:
    if getattr(options, key) is None:
        return []
    return _checked(key, "downstream", metric(predictions, prefix, options), prefix)


def _on_sets(
    task: Task,
    metrics: Sequence[Callable[[Any, str, Any], list[Measure]]],
    predicted: Mapping[str, Predicted],
    options: Any,
) -> list[Measure]:
    """Measures of the harmful class on the task's own sets."""
    sets = task.harm_sets(predicted).items() if task.harm_sets else ()
    return [row for prefix, predictions in sets for metric in metrics for row in metric(predictions, prefix, options)]


def _checked(key: str, stage: Stage, rows: Sequence[Measure], prefix: str = "") -> list[Measure]:
    """The rows. Raises UserError for rows that are no measures of this stage, or have the name of another measure."""
    for fault in _faults(key, stage, rows, prefix):
        raise UserError(f"the measure {key} of a plugin {fault}")
    return list(rows)


def check_distinct(measures: Sequence[Measure]) -> None:
    """Raises UserError for two rows about the same thing: one of a plugin would be read as another measure's."""
    counts = Counter((row.stage, row.metric, row.group, row.template) for row in measures)
    (key, count) = counts.most_common(1)[0] if measures else (("", "", "", ""), 1)
    if count > 1:
        shown = " ".join(filter(None, key))
        raise UserError(f"{count} rows of the result have the same name ({shown}): rename the measure of the plugin")


def _faults(key: str, stage: Stage, rows: Sequence[Measure], prefix: str) -> Iterator[str]:
    expected = f"{prefix}{key}"
    for row in rows:
        if not isinstance(row, Measure):
            yield f"returns {type(row).__name__} in place of a list of spec.Measure"
        elif row.stage != stage:
            yield f"has a row of the stage {row.stage!r}, and is measured at the stage {stage!r}"
        elif row.metric != expected and not row.metric.startswith(f"{expected}_"):
            yield f"has a row named {row.metric!r}. Name it {expected!r}, or begin with {expected + '_'!r}."
        elif (row.value != row.value) != (row.n == 0):
            yield f"has a row with the value {row.value:g} and n = {row.n}: a missing value is NaN with n = 0, and no other"
