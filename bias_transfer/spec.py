"""The values that everything else passes around: a Trial goes in, a TrialResult comes out.

This file imports no heavy package, so that a grid can be read, listed and compared without loading torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bias_transfer.errors import UserError, unknown
from bias_transfer.hashing import digest

NUMERICS = 5
"""Raised when a change of the code changes results. It is part of every trial's id, so that old runs are not taken for new
ones."""

LEARNED = 0.9
"""A held-out language-model loss below this share of the loss of word frequencies alone counts as clearly below it (ours)."""

LEAST_MENTIONS = 5
"""Groups with fewer examples in the fine-tuning set are left out of regressions (ours)."""

LEAST_PER_PRONOUN = 10
"""Biographies of either pronoun in the test set that a TPR gap needs (our choice): with fewer, a single one moves a TPR by more
than ten points."""

HELDOUT_LOSSES = ("masked_lm_loss", "causal_lm_loss")
"""The measure of held-out loss of a masked and of a causal language model; a trial has one of them."""

CHECKPOINT_MINUTES = 10.0
"""Default time between two checkpoints of fine-tuning, and before the first. It is not part of a trial."""

Option = bool | int | float | str
Model = TypeVar("Model", bound=BaseModel)


class Options(BaseModel):
    """Base of the options that a data source, model, arm, metric or adaptation has: strict, frozen, no unknown key.

    An option that is added later must default to None, so that the ids of older trials stay as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*")
    @classmethod
    def _off_is_not_set(cls, value: Any, info: ValidationInfo) -> Any:
        # So that a trial with `false` has the id of a trial without the option.
        off = value is False and cls.model_fields[str(info.field_name)].default is None
        return None if off else value

    def resolved(self) -> Self:
        """The options with the content of the files that they name: `NAME_digest` next to `NAME`. Raises UserError."""
        return self


class Label(NamedTuple):
    """How a trial is shown to people."""

    name: str
    """Unique within a sweep."""
    arm: str
    """Trials that differ only by seed share it."""
    setting: str


PLUGIN = re.compile(r"(?:[^,\[\]]*/)?[^\W\d]\w*(?:\.[^\W\d]\w*)*")
"""MODULE, or FOLDER/MODULE."""


def module_of(plugin: str) -> str:
    """The dotted name of the module in an entry of `Trial.plugins`."""
    return plugin.rpartition("/")[2]


def _plugins(given: Any) -> Any:
    """The plugins in the order of their modules, however they were written; None for an empty list."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple):
        return given
    for name in names:
        if not isinstance(name, str) or not PLUGIN.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a module. Write MODULE, as in my_lab.arms, or FOLDER/MODULE")
    modules = Counter(map(module_of, names))
    if repeated := [name for name, count in modules.items() if count > 1]:
        raise ValueError(f"the module {repeated[0]} is named more than once")
    return tuple(sorted(names, key=module_of)) or None


class Trial(BaseModel):
    """One cell of the grid: everything that decides the numbers, and nothing else (no cache, device or server)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    task: str = "wiki"
    """A name in `tasks.registry.TASKS`, or a custom task's YAML file, whose content enters the id and whose path does not."""
    task_digest: str | None = None
    """Name and content of a custom task, set by `resolve`; None for a task in `TASKS`."""
    data: str = "synthetic"
    """`synthetic`, a folder or file, or a hub id. A path contributes its content to the id, never its name."""
    data_digest: str = ""
    """Content of `data`, set by `resolve`."""
    model: str = "tiny"
    """`tiny`, a folder with a checkpoint of a masked or causal language model, or a hub id."""
    model_digest: str = ""
    """Content of `model`, or the commit of a hub id, set by `resolve`."""
    upstream: str = "none"
    """A name in `interventions.registry.UPSTREAM`: what is done to the pre-trained model."""
    upstream_dose: float | None = None
    """Strength of the upstream arm, in its own unit; None takes the arm's default."""
    downstream: str = "none"
    """A name in `interventions.registry.DOWNSTREAM`: what is done to the fine-tuning set."""
    downstream_dose: float | None = None
    """Strength of the downstream arm, in its own unit; None takes the arm's default."""
    options: dict[str, Option] = Field(default_factory=dict)
    """Component-specific settings, as `OWNER.NAME` with an owner in `OWNERS`."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random streams of the trial (`hashing.derive_seed`)."""
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the *untreated* training set: it fixes the number of optimiser steps, which arms share."""
    batch_size: int = Field(default=32, ge=1)
    """Examples per optimiser step."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples per forward pass (gradient accumulation). None: as many as `finetune.TRAINING_VALUES` allows."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak of the schedule. None: 1e-3 for `tiny` and 5e-5 for any other model (ours)."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from 0; it then falls linearly to 0."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay, on weight matrices and embeddings; not on norms and biases."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; longer gradients are scaled down to it."""
    max_tokens: int = Field(default=128, ge=8)
    """Longer texts are truncated."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Accelerate's mixed precision. Weights are in fp32 with all three."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of torch. It is a field because results are not bit-identical across thread counts."""
    tuning: str | None = None
    """A name in `tuning.TUNING`: how the model becomes the classifier. None, like `full`: all of its weights are trained."""
    plugins: Annotated[tuple[str, ...] | None, BeforeValidator(_plugins)] = None
    """Python modules whose tables add arms, measures and tasks (`plugins.tables`), each as MODULE or FOLDER/MODULE. Their
    content enters the id, and the folders do not."""
    plugins_digest: str | None = None
    """Names and content of the plugins, set by `resolve`; None without plugins."""

    @field_validator("options")
    @classmethod
    def _options_have_an_owner(cls, options: dict[str, Option]) -> dict[str, Option]:
        for key in options:
            owner, _, name = key.partition(".")
            if owner not in OWNERS or not name:
                raise ValueError(f"option {key!r} has no owner: write OWNER.NAME with one of {', '.join(OWNERS)}")
        return dict(sorted(options.items()))

    @field_validator("tuning")
    @classmethod
    def _full_is_not_set(cls, tuning: str | None) -> str | None:
        return None if tuning == "full" else tuning  # so that `full` has the id of a trial that says nothing

    @model_validator(mode="after")
    def _none_has_no_dose(self) -> Self:
        for stage in ("upstream", "downstream"):
            dose = getattr(self, f"{stage}_dose")
            if getattr(self, stage) == "none" and dose is not None:
                raise ValueError(f"{stage}: none takes no dose (got {dose:g})")
            if dose == 0:
                raise ValueError(f"{stage}: a dose of 0 changes nothing; write {stage}: none")
        return self

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits: the same id means the same numbers.

        Raises ValueError before `resolve` has filled in the content of data and model.
        """
        if not (self.data_digest and self.model_digest) or (self.plugins and not self.plugins_digest):
            raise ValueError("the trial has no id yet: call bias_transfer.resolved.resolve() first")
        named = {"data", "model", "plugins", *(["task"] if self.task_digest else [])}
        fields = self.model_dump(exclude_none=True, exclude=named)
        named_by_content = {key.removesuffix("_digest") for key in self.options if key.endswith("_digest")}
        fields["options"] = {key: value for key, value in self.options.items() if key not in named_by_content}
        return digest({"numerics": NUMERICS, **fields})[:12]

    @property
    def name(self) -> str:
        """A readable name for tables and the MLflow UI, whose name column is narrow: what differs comes first. Not unique."""
        return f"{self.arm} s{self.seed} {self.setting}"

    @property
    def setting(self) -> str:
        """Task, model and adaptation, as in `wiki tiny(seed=1) lora(rank=4)`. Of a folder's path the last two parts are shown,
        so that pre-training seeds can be told apart."""
        task = self.task_digest.partition("@")[0] if self.task_digest else self.task.rsplit("/", 1)[-1]
        model, pretraining = "/".join(self.model.rstrip("/").rsplit("/", 2)[-2:]), self.options.get("model.seed")
        model += f"(seed={pretraining})" if pretraining else ""
        return " ".join([task, model, *([self.adaptation] if self.tuning else [])])

    @property
    def adaptation(self) -> str:
        """How the model becomes the classifier, as in `full` or `lora(rank=4)`."""
        return _arm("tuning", self.tuning or "full", None, self.options)

    @property
    def arm(self) -> str:
        """Both arms with their doses and options, as in `perturb=0.5 + none`. Trials that differ only by seed share it."""
        return " + ".join(
            _arm(stage, getattr(self, stage), getattr(self, f"{stage}_dose"), self.options)
            for stage in ("upstream", "downstream")
        )

    @property
    def label(self) -> Label:
        """All three, with every option that is set."""
        return Label(self.name, self.arm, self.setting)

    def options_of(self, owner: str) -> dict[str, Option]:
        """The options of one owner, without the prefix."""
        return {
            key.removeprefix(f"{owner}."): value for key, value in self.options.items() if key.startswith(f"{owner}.")
        }

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        """The names of the sets that are predicted in addition to the task's own, as in `evaluate: {NAME: FILE}`."""
        names = [name for name in self.options_of("evaluate") if "." not in name and not name.endswith("_digest")]
        return tuple(names)

    def with_fields(self, **changes: Any) -> Trial:
        """A changed copy, validated like a new one."""
        return parse_trial({**self.model_dump(exclude_unset=True), **changes})


OWNERS = ("data", "model", "upstream", "downstream", "metric", "tuning", "evaluate")


class Margins(Options):
    """The equivalence margins of one outcome, in SD over groups of the untouched arm's outcome. There is no default."""

    slope_sd: float | None = Field(default=None, gt=0)
    """Margin of a slope, per SD of upstream or dataset bias."""
    arm_sd: float | None = Field(default=None, gt=0)
    """Margin of an arm's effect."""


OBSOLETE_MARGINS = ("margin_slope", "margin_arms")
"""Keys of `AnalysisPlan` in 0.1.0. One raw number served all tasks and outcomes: 0.10 is a tenth of an FPR, but about
the whole spread of a TPR gap. Plans that were recorded with them are read as plans without a margin."""


MARGINS_FORM = (
    "a margin holds for one task and one outcome, in SD over groups of the untouched arm's outcome. Write margins: {wiki: "
    "{fpr: {slope_sd: 0.2, arm_sd: 0.2}}} in the section analysis, or --margin wiki.fpr.slope_sd=0.2 "
    "on the command line of analysis."
)
"""What is said of a margin in another form."""


TWINS = " twins"
"""How the name of twins ends in `AnalysisPlan.twins`, so that no arm of the registry has it."""

PLAIN_NAME = re.compile(r"[\w.-]+( [\w.-]+)*")
"""Words of letters, digits, `_`, `.` and `-`: the form of a name that a plan gives."""

Covariate = Literal["words", "tokens", "log_frequency"]
"""A property of a group's name that B can hold fixed: its words, its sub-tokens, its log frequency."""


class AnalysisPlan(Options):
    """What an experiment fixes before it runs: `analysis:` in a config, recorded with the sweep, read by `analysis`."""

    primary: dict[str, str] = Field(default_factory=dict)
    """Task -> its one primary outcome, a downstream metric with a value per group. Unset: the task's default."""
    margins: dict[str, dict[str, Margins]] = Field(default_factory=dict, strict=False)
    """Task -> outcome -> its margins. There is no default, since a margin is stated before the results are seen
    (docs/science.md, "No transfer")."""
    positive_control: str | None = None
    """The experiment in which transfer was planted on this model with these settings. It is not needed where the experiment
    itself has `inject` at dose 1 and at dose -1."""

    covariates: list[Covariate] | None = None
    """What B's main fit holds fixed of the groups' names; `[]` for nothing. Unset: all three with 15 groups or more, and the
    number of words alone with fewer (ours)."""
    pretraining_seeds: dict[str, list[str]] = Field(default_factory=dict)
    """Name -> values of `model` that differ in their pre-training seed alone. They are several models of one study, which
    has this name in the place of its model; otherwise each checkpoint is a study of its own."""
    twins: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Name of an upstream arm, as in `pronoun twins` -> treated model -> its untreated twin, both values of `model`. A trial of
    the treated model is read as this arm of the untreated one, and paired with it by seed."""

    @model_validator(mode="before")
    @classmethod
    def _margins_have_an_outcome(cls, plan: Any) -> Any:
        if isinstance(plan, Mapping) and (obsolete := [key for key in OBSOLETE_MARGINS if key in plan]):
            raise ValueError(f"{' and '.join(obsolete)}: {MARGINS_FORM}")
        return plan

    @model_validator(mode="after")
    def _models_are_declared_once(self) -> Self:
        for name in (*self.pretraining_seeds, *self.twins):
            if not PLAIN_NAME.fullmatch(name):
                raise ValueError(
                    f"the name {name!r} has characters other than letters, digits, spaces, '.', '_' and '-'"
                )
        for name in self.twins:
            if not name.endswith(TWINS):
                raise ValueError(
                    f"twins: the arm's name {name!r} does not end in the word twins. Write {name + TWINS!r}."
                )
        for name, models in self.pretraining_seeds.items():
            if len(models) < 2:
                raise ValueError(f"pretraining_seeds.{name}: it takes two models or more")
        treated = [model for pairs in self.twins.values() for model in pairs]
        untreated = {model for pairs in self.twins.values() for model in pairs.values()}
        members = [model for models in self.pretraining_seeds.values() for model in models]
        for model, count in Counter([*treated, *members]).items():
            if count > 1:
                raise ValueError(f"{model!r} occurs twice among pretraining_seeds and the treated models of twins")
        if both := untreated.intersection(treated):
            raise ValueError(f"twins: {min(both)!r} is treated and untreated")
        return self

    def margins_of(self, task: str, outcome: str) -> Margins:
        """The margins stated for an outcome; empty where none are."""
        return self.margins.get(task, {}).get(outcome, Margins())


Stage = Literal["upstream", "dataset", "downstream", "utility"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a trial: a row of the long table that is its result."""

    stage: Stage
    """upstream: the language model before fine-tuning. dataset: the fine-tuning set after its arm. downstream and utility:
    the fine-tuned classifier."""
    metric: str
    group: str
    """An identity term or occupation; empty for a number about all groups."""
    template: str
    """An upstream template or a family of phrases; empty for a number pooled over templates."""
    value: float
    """NaN, with n = 0, where it is missing; never a stand-in."""
    n: int
    """Number of examples, phrases or fills that the value is computed from."""


@dataclass(frozen=True, slots=True)
class Step:
    """A point of the loss curve: mean training loss since the last point, and the learning rate."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial. Equal trials have equal results, except for `seconds`."""

    trial: Trial
    """Resolved: with all options and doses that were used, and the content of data and model."""
    measures: tuple[Measure, ...]
    curve: tuple[Step, ...]
    headline: dict[str, float]
    """A few numbers with the same names in every task (`tasks.base.headline`)."""
    facts: dict[str, Option]
    """Sizes, digests and versions (`provenance`)."""
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    """Wall-clock time of each stage. Not a metric, since no two runs agree."""
    predictions: bytes | None = field(default=None, repr=False)
    """A Parquet file of the classifier's predictions (`tasks.predictions`), where they were to be kept."""


def parse_trial(fields: Mapping[str, Any]) -> Trial:
    """A Trial from a plain mapping, as a config or a command line gives it.

    Keys of the form `owner.name` are options. Raises UserError, with the nearest match, for what does not fit.
    """
    plain = {key: value for key, value in fields.items() if "." not in key}
    dotted = {key: value for key, value in fields.items() if "." in key}
    known = tuple(name for name in Trial.model_fields if not name.endswith("_digest"))
    for key in plain:
        if key not in Trial.model_fields:
            raise UserError(unknown("key", key, [*known, *(f"{owner}.OPTION" for owner in OWNERS)]))
    options = plain.get("options", {})
    return parse(Trial, {**plain, "options": {**options, **dotted} if isinstance(options, Mapping) else options}, "")


def parse(model: type[Model], values: Mapping[str, Any], prefix: str) -> Model:
    """Validate `values` as `model`. Raises UserError with one clear sentence per fault, naming keys with `prefix`."""
    try:
        return model(**values)
    except ValidationError as error:
        raise UserError("; ".join(_explain(model, fault, prefix) for fault in error.errors())) from None


def _explain(model: type[BaseModel], fault: Any, prefix: str) -> str:
    key = prefix + ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        place = key.removesuffix(str(fault["loc"][-1]))
        return unknown("option", key, [place + name for name in _model_at(model, fault["loc"]).model_fields])
    if fault["type"] == "missing":
        return f"{key}: is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {fault['input']!r})" if fault["loc"] and "got" not in message else message


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that the last part of a place is a key of: `model`, or one nested in its fields."""
    kind: Any = model
    for part in place[:-1]:
        kind = kind.model_fields[part].annotation if hasattr(kind, "model_fields") else get_args(kind)[-1]
    nested: type[BaseModel] = kind
    return nested


def _arm(stage: str, name: str, dose: float | None, options: Mapping[str, Option]) -> str:
    set_ = {key.partition(".")[2]: value for key, value in options.items() if key.startswith(f"{stage}.")}
    shown = {key: str(value).lower() if value is False else value for key, value in set_.items()}
    words = [key if value is True else f"{key}={value}" for key, value in shown.items() if not key.endswith("_digest")]
    dosed = name if dose is None else f"{name}={dose:g}"
    return f"{dosed}({','.join(words)})" if words else dosed
