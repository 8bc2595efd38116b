"""What a trial turned out to be: task, arms, options and cache keys, found once and handed on.

`resolve` is the only place that looks up a name of a trial in a table or parses its options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from bias_transfer import console
from bias_transfer.config import modules
from bias_transfer.config.modules import Plugin
from bias_transfer.errors import UserError, look_up, unknown
from bias_transfer.hashing import digest
from bias_transfer.interventions.registry import (
    UPSTREAM,
    DownstreamArm,
    UpstreamArm,
    check_downstream_dose,
    downstream_arm,
)
from bias_transfer.models import hub
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.plugins.tables import tables_of
from bias_transfer.spec import CHECKPOINT_MINUTES, Measure, Option, Options, Stage, Trial, parse
from bias_transfer.storage import cache, fingerprint
from bias_transfer.storage.filesystem import default as default_storage
from bias_transfer.tasks import plugin_metrics, registry
from bias_transfer.tasks.base import Context, Task
from bias_transfer.tasks.evaluation import reading
from bias_transfer.tasks.evaluation.options import SetOptions, as_options
from bias_transfer.tasks.registry import TASKS
from bias_transfer.training import finetune, lm_training, prompt, tuning
from bias_transfer.training.checkpoint import Place

LEARNING_RATE = 5e-5
"""Peak learning rate for a model from elsewhere; for `tiny` it is `lm_training.FINETUNING_RATE` (both ours)."""


@dataclass(frozen=True)
class Places:
    """Where things are stored and what runs them: never part of a trial."""

    cache: Path = field(default_factory=cache.default_folder)
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    report: console.Report = console.silent
    storage: str | None = field(default_factory=default_storage)
    """Where checkpoints are stored: a folder, or a URI such as s3://bucket/prefix that other machines reach. None: the
    cache."""
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    """Between two checkpoints of fine-tuning, and before the first. 0: after every step. inf: no checkpoints."""
    keep_models: bool = False
    """Whether fine-tuned classifiers are stored, next to the checkpoints."""
    keep_predictions: bool = False
    """Whether results hold the predictions of every example."""
    stand_in: Path | None = None
    """The checkpoint folder of `tiny` that a sweep's driver pre-trained for this trial. None: it is pre-trained here."""

    @property
    def stored(self) -> str:
        """Where checkpoints and kept classifiers are stored."""
        return self.storage or str(self.cache)

    def checkpoint(self, trial: Trial) -> Place:
        """Where the checkpoint of a resolved trial is stored."""
        return Place(self.stored, trial.id, self.checkpoint_minutes * 60, self.device)


@dataclass(frozen=True)
class Upstream:
    """The trial's upstream arm, with dose, options and seed bound."""

    name: str
    """As in `sent_debias=1`."""
    changes: bool
    """False for `none`."""
    trains: bool
    """Whether applying it costs so much that the treated weights are memoized."""
    apply: Callable[[LanguageModel, Context], None]
    """Edits the backbone in place."""
    check: Callable[[LanguageModel], None]
    """Raises UserError for a dose that this model cannot take."""
    record: Callable[[LanguageModel, Context, Stage], list[Measure]]
    """(treated model, context without a memory, stage) -> measures that say what the arm did."""
    refit: Callable[[LanguageModel, Context], None] | None
    """What the arm does to the fine-tuned model before it predicts, in place; None for nothing."""
    check_text: Callable[[Context], None]
    """Raises UserError for text that the arm cannot act on."""


@dataclass(frozen=True)
class Downstream:
    """The trial's downstream arm, with dose, options and seed bound."""

    name: str
    changes: bool
    """False for `none`."""
    apply: Callable[[Dataset], Dataset]
    """Training set -> treated training set."""
    notes: Callable[[Dataset], list[str]]
    """Untreated training set -> what a reader of the result must know about this arm on these data."""


@dataclass(frozen=True)
class ResolvedOptions:
    """The options of each owner, parsed."""

    data: Options
    model: Options
    upstream: Options
    downstream: Options
    metric: Options
    tuning: Options


@dataclass(frozen=True)
class Keys:
    """Parts of cache keys, without the machine."""

    splits: str
    model: Mapping[str, Any]
    upstream: Mapping[str, Any]


@dataclass(frozen=True)
class ResolvedTrial:
    """A trial and everything that its names stand for."""

    trial: Trial
    """With every default filled in and the content of task, data and model: it has an id."""
    task: Task
    upstream: Upstream
    downstream: Downstream
    options: ResolvedOptions
    keys: Keys

    short: Trial
    """For names alone: the trial without the options that have their default value."""
    evaluate: Mapping[str, SetOptions]
    """Name -> a set that is predicted in addition to the task's own (`tasks.evaluation`)."""
    plugins: tuple[Plugin, ...] = ()
    """The modules that `Trial.plugins` names."""

    @property
    def id(self) -> str:
        """The trial's."""
        return self.trial.id

    @property
    def prompted(self) -> bool:
        """Whether a prompt makes the model a classifier, and nothing is trained."""
        return isinstance(self.options.tuning, tuning.PromptOptions)


def resolve(trial: Trial, plugins: Sequence[Plugin] | None = None) -> ResolvedTrial:
    """Look up what the trial names, and read the content of its plugins, task, data and model.

    plugins: the modules that the trial names, where they were fetched from another machine; None: they are found here.

    Raises UserError for an unknown task, arm, option or model, a dose out of range, data that are not there, a plugin that
    cannot be used, and a plugin or a custom task that has changed since the trial was resolved before.
    """
    plugins = modules.find_all(trial.plugins) if plugins is None else plugins
    plugins_digest = modules.digest_of(plugins)
    if trial.plugins_digest and plugins_digest != trial.plugins_digest:
        raise UserError(
            f"{', '.join(trial.plugins or ())}: changed since the trial was resolved. Start the trial again."
        )
    tables = tables_of(plugins)
    task, task_digest = registry.find(trial.task, {**TASKS, **tables.tasks}, tables.outcomes)
    if trial.task_digest and task_digest != trial.task_digest:
        raise UserError(f"{trial.task} has changed since the trial was resolved. Start the trial again.")
    task = plugin_metrics.with_metrics(task, tables.metrics)
    upstream = look_up({**UPSTREAM, **tables.upstream}, trial.upstream, "upstream arm")
    # A custom task has the name that its file gives, unless that is the name of another task.
    known_as = task_digest.partition("@")[0] if task_digest else trial.task
    known_as = trial.task if task_digest and known_as in {**TASKS, **tables.tasks} else known_as
    downstream = downstream_arm(trial.downstream, trial.task, task, tables.downstream, known_as)
    if downstream.weighs and trial.tuning == "prompt":
        raise UserError(
            f"downstream {trial.downstream} changes how much examples count in training, and tuning=prompt trains nothing: it "
            "would change no prompt. Use another downstream arm, or tuning=full, lora or frozen."
        )
    types: dict[str, type[Options]] = {
        "data": task.data_options(trial.data),
        "model": lm_training.TinyOptions if trial.model == "tiny" else lm_training.ModelOptions,
        "upstream": upstream.options,
        "downstream": downstream.options,
        "metric": task.metric_options,
        "tuning": look_up(tuning.TUNING, trial.tuning or "full", "tuning"),
    }
    given = {owner: trial.options_of(owner) for owner in types}
    given["metric"] = _with_measures(trial, task)
    options = {owner: parse(kind, given[owner], f"{owner}.").resolved() for owner, kind in types.items()}
    plugin_metrics.check(task, tables.metrics, options["metric"], trial.task)
    options["data"] = task.settle(trial.data, options["data"])
    evaluate = reading.resolve(trial.options_of("evaluate"), task)
    # Filled in before the id is taken: an option written out with its default value has the id of one that is not written.
    filled = trial.with_fields(
        options={f"{owner}.{key}": value for owner, given in options.items() for key, value in _set(given).items()}
        | as_options(evaluate),
        upstream_dose=upstream.default_dose if trial.upstream_dose is None else trial.upstream_dose,
        downstream_dose=downstream.default_dose if trial.downstream_dose is None else trial.downstream_dose,
        learning_rate=trial.learning_rate or (lm_training.FINETUNING_RATE if trial.model == "tiny" else LEARNING_RATE),
        task_digest=task_digest,
        plugins_digest=plugins_digest,
        data_digest=task.identify(trial.data),
        model_digest="tiny" if trial.model == "tiny" else hub.identify(trial.model),
    )
    check_downstream_dose(filled.downstream, filled.downstream_dose)
    finetune.check_precision(filled)
    if isinstance(options["tuning"], tuning.PromptOptions):
        prompt.check_shots(prompt.Asked(task.asks, options["tuning"]), filled.downstream)
    short = _without_defaults(filled, types)
    return ResolvedTrial(
        filled,
        task,
        _bind_upstream(upstream, filled, options["upstream"], short.arm),
        _bind_downstream(downstream, filled, options["downstream"], short.arm),
        ResolvedOptions(**options),
        _keys(filled, options["data"]),
        short,
        evaluate,
        tuple(plugins),
    )


def _with_measures(trial: Trial, task: Task) -> dict[str, Option]:
    """The trial's options of metrics, and those that its task sets. Raises UserError for a measure of the task that does not
    exist, and for one that the trial turns off: nothing that a trial records would tell it from a trial that says nothing."""
    given = trial.options_of("metric")
    known = task.metric_options.model_fields
    for name in task.measures:
        if name not in known:
            allowed = [key for key in known if not key.endswith("_digest")]
            hint = "" if trial.plugins else " A measure of a plugin needs the plugin: plugins=[MODULE]."
            raise UserError(f"{trial.task}: measures: {unknown('measure', name, allowed)}{hint}")
        if given.get(name) is False:
            raise UserError(
                f"metric.{name}=false: {trial.task} names it under measures, for all trials. Delete it there."
            )
    return {**task.measures, **given}


def _without_defaults(trial: Trial, types: Mapping[str, type[Options]]) -> Trial:
    defaults = {
        f"{owner}.{name}": field.default for owner, kind in types.items() for name, field in kind.model_fields.items()
    }
    return trial.with_fields(options={key: value for key, value in trial.options.items() if value != defaults.get(key)})


def _set(options: Options) -> dict[str, Option]:
    return options.model_dump(exclude_none=True)


def _bind_upstream(arm: UpstreamArm, trial: Trial, options: Options, shown: str) -> Upstream:
    dose = trial.upstream_dose or 0.0

    def apply(model: LanguageModel, context: Context) -> None:
        arm.apply(model, dose, options, trial.seed, context)

    return Upstream(
        shown.split(" + ")[0],
        trial.upstream != "none",
        arm.trains,
        apply,
        lambda model: arm.check(model, dose, options),
        lambda model, context, stage: arm.record(model, dose, options, trial.seed, context, stage),
        _bind_refit(arm, dose, options),
        lambda context: arm.check_text(options, context),
    )


def _bind_refit(arm: UpstreamArm, dose: float, options: Options) -> Callable[[LanguageModel, Context], None] | None:
    refit = arm.refit
    if refit is None or not getattr(options, "refit", None):
        return None
    return lambda model, context: refit(model, dose, options, context)


def _bind_downstream(arm: DownstreamArm, trial: Trial, options: Options, shown: str) -> Downstream:
    dose = trial.downstream_dose or 0.0
    return Downstream(
        shown.split(" + ")[1],
        trial.downstream != "none",
        lambda train: arm.apply(train, dose, options, trial.seed),
        lambda train: arm.notes(train, options),
    )


def _keys(trial: Trial, data: Options) -> Keys:
    # The path is in the key too: messages about a file name it.
    contents = [trial.task_digest, trial.data_digest, trial.plugins_digest]
    splits = digest([trial.task, trial.data, *contents, data.model_dump()])
    return Keys(splits, fingerprint.model_key(trial), fingerprint.upstream_key(trial))
