"""One trial: resolve() says exactly what it is, run_trial() runs it. It needs neither Ray, nor MLflow, nor a server.

python -m bias_transfer.trial task=wiki data=FOLDER model=tiny seed=0
"""

from __future__ import annotations

if __name__ == "__main__":  # first: --help answers before torch is loaded
    from bias_transfer.commands.trial import app

    app()

import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from bias_transfer.storage import cache
from bias_transfer.training import checkpoint
from bias_transfer import console
from bias_transfer.storage import fingerprint
from bias_transfer import provenance
from bias_transfer.training import finetune
from bias_transfer.storage import memoize
from bias_transfer import determinism
from bias_transfer.models import hub
from bias_transfer.models import language_model
from bias_transfer.training import lm_training
from bias_transfer.training import tuning
from bias_transfer.provenance import dataset_digest
from bias_transfer.interventions.registry import UPSTREAM
from bias_transfer.interventions.registry import check_downstream_dose
from bias_transfer.interventions.registry import downstream_arm
from bias_transfer.metrics import manipulation_check
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import CHECKPOINT_MINUTES
from bias_transfer.spec import LEARNED
from bias_transfer.spec import Measure
from bias_transfer.spec import Option
from bias_transfer.spec import Options
from bias_transfer.spec import Trial
from bias_transfer.spec import TrialResult
from bias_transfer.errors import UserError
from bias_transfer.errors import look_up
from bias_transfer.spec import parse
from bias_transfer.storage.filesystem import default as default_storage
from bias_transfer.storage.filesystem import locate
from bias_transfer.tasks.registry import task_digest
from bias_transfer.tasks.registry import task_of
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.base import Task
from bias_transfer.tasks.base import by_group
from bias_transfer.tasks.base import headline
from bias_transfer.training.tokens import Tokenised

LEARNING_RATE = 5e-5
"""For a model from elsewhere; `pretrain.FINETUNING_RATE` for `tiny` (both ours)."""


@dataclass(frozen=True)
class Places:
    """Where things lie and what runs them: never part of a trial."""

    cache: Path = field(default_factory=cache.default_folder)
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    report: console.Report = console.silent
    storage: str | None = field(default_factory=default_storage)
    """Where checkpoints lie: a folder, or a URI such as s3://bucket/prefix, that other machines reach; None: the cache."""
    checkpoint_minutes: float = CHECKPOINT_MINUTES
    """Between two checkpoints of fine-tuning, and before the first; 0: after every step; inf: none."""


def resolve(trial: Trial) -> Trial:
    """The trial with every default filled in and the content of its data and model: it then has an id.

    Raises UserError for an unknown task, arm, option or model, a dose out of range, and data that are not there.
    """
    task, upstream = _task(trial), look_up(UPSTREAM, trial.upstream, "upstream arm")
    downstream = downstream_arm(trial.downstream, trial.task)
    owned = {
        name: parse(kind, trial.options_of(name), f"{name}.").resolved() for name, kind in option_types(trial).items()
    }
    resolved = trial.with_fields(
        options={f"{owner}.{key}": value for owner, own in owned.items() for key, value in _set(own).items()},
        upstream_dose=upstream.default_dose if trial.upstream_dose is None else trial.upstream_dose,
        downstream_dose=downstream.default_dose if trial.downstream_dose is None else trial.downstream_dose,
        learning_rate=trial.learning_rate or (lm_training.FINETUNING_RATE if trial.model == "tiny" else LEARNING_RATE),
        task_digest=task_digest(trial.task),
        data_digest=task.identify(trial.data),
        model_digest="tiny" if trial.model == "tiny" else hub.identify(trial.model),
    )
    check_downstream_dose(resolved.downstream, resolved.downstream_dose)
    finetune.check_precision(resolved)
    return resolved


def _task(trial: Trial) -> Task:
    if trial.task_digest and task_digest(trial.task) != trial.task_digest:
        raise UserError(f"{trial.task} has changed since the trial was resolved. Start the trial anew.")
    return task_of(trial.task, trial.data)


def option_types(trial: Trial) -> dict[str, type[Options]]:
    """Owner -> the options that it has in this trial."""
    task = _task(trial)
    return {
        "data": task.data_options(trial.data),
        "model": lm_training.TinyOptions if trial.model == "tiny" else Options,
        "upstream": look_up(UPSTREAM, trial.upstream, "upstream arm").options,
        "downstream": downstream_arm(trial.downstream, trial.task).options,
        "metric": task.metric_options,
        "tuning": look_up(tuning.TUNING, trial.tuning or "full", "tuning"),
    }


def _set(options: Options) -> dict[str, Option]:
    return options.model_dump(exclude_none=True)


def _options(trial: Trial, owner: str) -> Options:
    return parse(option_types(trial)[owner], trial.options_of(owner), f"{owner}.")


def check(trial: Trial, places: Places) -> None:
    """Find before a trial starts what can be found wrong: read and treat its data, load its model, try its length, its
    tuning and its upstream dose, and the storage. Raises UserError."""
    locate(kept_at(trial, places).storage)
    treat_data(trial, load_splits(trial).train)
    if trial.model == "tiny":
        model = lm_training.untrained(parse(lm_training.TinyOptions, trial.options_of("model"), "model."))
    else:
        model = _loaded_once(trial.model, trial.model_digest)
    language_model.check_length(model, trial.max_tokens)
    if model.tokenizer is not None:
        _task(trial).check(model)
    tuning.check(model, trial)
    UPSTREAM[trial.upstream].check(model, trial.upstream_dose or 0.0, _options(trial, "upstream"))


@functools.lru_cache(maxsize=1)
def _loaded_once(model: str, content: str) -> LanguageModel:
    return language_model.load(*hub.located(model, content), labels=2, seed=0)


def _key(trial: Trial, owner: str) -> str:
    return _options(trial, owner).model_dump_json()


def load_splits(trial: Trial) -> Splits:
    """The untreated examples; read once a process for the same content and options."""
    content = (trial.task_digest or "") + trial.data_digest
    return _load_splits(trial.task, trial.data, content, _key(trial, "data"))


@functools.lru_cache(maxsize=2)
def _load_splits(task: str, data: str, content: str, options: str) -> Splits:
    own = task_of(task, data)
    return own.load(data, own.data_options(data).model_validate_json(options))


def run_trial(trial: Trial, places: Places | None = None) -> TrialResult:
    """Run one trial in this process. The same trial gives the same bits on the same machine, cold or warm.

    One that was cut off in mid-training goes on from its checkpoint, to the same bits; what comes before fine-tuning is found
    in the cache, or computed again. The checkpoint stays until `forget`, which is for whoever has recorded the result.
    """
    places, clock = places or Places(), _Clock()
    trial = resolve(trial)
    task, metric = _task(trial), _options(trial, "metric")
    with determinism.using_threads(trial.threads), _deterministic(places.device):
        splits = load_splits(trial)
        train = treat_data(trial, splits.train)
        dataset_bias = [row for measure in task.dataset for row in measure(train)]
        clock.lap("data")
        model = load_model(trial, splits, places)
        clock.lap("model")
        upstream_bias = treat_and_measure(trial, model, splits, places)
        clock.lap("upstream")
        total = finetune.steps(trial, len(splits.train))
        own = fingerprint.untreated(trial, places.device, splits.pretraining)
        tokens = Tokenised(model.tokenizer, trial.max_tokens, own, places.cache)
        rows = tokens.treated(train["text"][:], splits.train["text"][:])
        curve = finetune.finetune(
            model,
            rows,
            train["label"][:],
            train["id"][:],
            trial,
            total,
            places.device,
            places.report,
            kept_at(trial, places),
        )
        clock.lap("finetune")
        sets = {"dev": splits.dev, "test": splits.test, **task.probes(splits)}
        predicted = predict_all(trial, model, sets, tokens, places)
        downstream_bias = [row for measure in task.downstream for row in measure(predicted)]
        downstream_bias += [row for measure in task.encoder for row in measure(model, splits, metric, "downstream")]
        clock.lap("evaluate")
    measures = (*upstream_bias, *dataset_bias, *downstream_bias, *splits.known)
    return TrialResult(
        trial=trial,
        measures=measures,
        curve=curve,
        headline=headline(task, measures),
        facts=provenance.of(splits, train, model, total, sum(map(len, rows)), places.device),
        warnings=(*_warnings(measures), *_notes(trial, splits.train)),
        seconds=clock.laps,
    )


def kept_at(trial: Trial, places: Places) -> checkpoint.Place:
    """Where the checkpoint of a resolved trial lies."""
    return checkpoint.Place(
        places.storage or str(places.cache), trial.id, places.checkpoint_minutes * 60, places.device
    )


def forget(trial: Trial, places: Places) -> None:
    """Remove the checkpoint of a resolved trial: its result is recorded."""
    checkpoint.forget(kept_at(trial, places))


def treat_data(trial: Trial, train: Dataset) -> Dataset:
    """The training set after the downstream arm. Raises UserError if that changed nothing, or left one class only."""
    if trial.downstream == "none":
        return train
    arm = downstream_arm(trial.downstream, trial.task)
    treated = arm.apply(train, trial.downstream_dose or 0.0, _options(trial, "downstream"), trial.seed)
    if dataset_digest(treated) == dataset_digest(train):
        raise UserError(
            f"the downstream arm {trial.arm.split(' + ')[1]} changed nothing in {trial.data}: nothing to act on"
        )
    if len(set(treated["label"][:])) < len(_task(trial).labels):
        raise UserError(f"the downstream arm {trial.arm.split(' + ')[1]} left a class of {trial.data} without examples")
    return treated


def load_model(trial: Trial, splits: Splits, places: Places) -> LanguageModel:
    """The untreated model with a classification head whose first bits depend on the seed alone."""
    if trial.model == "tiny":
        options = parse(lm_training.TinyOptions, trial.options_of("model"), "model.")
        folder, revision = str(lm_training.tiny(splits.pretraining, options, places.cache, places.report)), None
    else:
        folder, revision = hub.located(trial.model, trial.model_digest)
    return language_model.load(folder, revision, labels=len(_task(trial).labels), seed=trial.seed).to(places.device)


def treat_and_measure(trial: Trial, model: LanguageModel, splits: Splits, places: Places) -> list[Measure]:
    """Apply the upstream arm, in place, and measure the model's bias: once for all trials that differ in what comes after."""
    key = fingerprint.before_training(trial, places.device)
    found = memoize.find(places.cache, memoize.MEASURES, key)
    if found is not None:
        treat_model(trial, model, splits, places)
        return found
    task, metric = _task(trial), _options(trial, "metric")
    untreated = look(trial, model, splits) if trial.upstream != "none" else None
    treat_model(trial, model, splits, places)
    measures = [row for measure in task.upstream for row in measure(model, splits, metric)]
    measures += manipulation_check.compare(untreated, look(trial, model, splits)) if untreated else []
    measures += [row for measure in task.encoder for row in measure(model, splits, metric, "upstream")]
    return memoize.keep(places.cache, memoize.MEASURES, key, measures)


def treat_model(trial: Trial, model: LanguageModel, splits: Splits, places: Places) -> None:
    """Apply the upstream arm, in place. Raises UserError if not a bit of the encoder changed."""
    if trial.upstream == "none":
        return
    before, arm = language_model.encoder_digest(model), UPSTREAM[trial.upstream]
    own = fingerprint.untreated(trial, places.device, splits.pretraining)

    def remember(what: memoize.Deciding, compute: Callable[[], np.ndarray]) -> np.ndarray:
        return memoize.remembered(places.cache, memoize.ARRAY, {**own, **what}, compute)

    context = Context(_task(trial), splits, remember)

    def apply() -> Mapping[str, torch.Tensor]:
        arm.apply(model, trial.upstream_dose or 0.0, _options(trial, "upstream"), trial.seed, context)
        return language_model.weights(model)

    if arm.trains:
        key = fingerprint.before_training(trial, places.device)
        language_model.put_weights(model, memoize.remembered(places.cache, memoize.WEIGHTS, key, apply))
    else:
        apply()
    if language_model.encoder_digest(model) == before:
        raise UserError(f"the upstream arm {trial.arm.split(' + ')[0]} changed nothing in {trial.model}")


def look(trial: Trial, model: LanguageModel, splits: Splits) -> manipulation_check.Look:
    """The model's hidden states and primary upstream measure at this moment."""
    task = _task(trial)
    scores = by_group(task.upstream[0](model, splits, _options(trial, "metric")), "upstream", task.primary["upstream"])
    return manipulation_check.look(model, splits.heldout, scores)


def predict_all(
    trial: Trial, model: LanguageModel, sets: dict[str, Dataset], tokens: Tokenised, places: Places
) -> dict[str, Predicted]:
    """The fine-tuned classifier on each set. Raises TrainingDiverged for logits that are not finite."""
    predicted = {}
    for name, examples in sets.items():
        places.report(f"predict {name}", 0, len(examples))
        logits = finetune.predict(model, tokens.of(examples["text"][:]), trial, places.device)
        if not np.isfinite(logits).all():
            raise finetune.TrainingDiverged(f"the classifier's logits on {name} are not finite: lower learning_rate")
        predicted[name] = Predicted(examples, logits)
        places.report(f"predict {name}", len(examples), len(examples))
    return predicted


def _warnings(measures: tuple[Measure, ...]) -> tuple[str, ...]:
    whole = {row.metric: row.value for row in measures if not row.group and not row.template}
    loss, unigram = whole.get("masked_lm_loss", math.nan), whole.get("unigram_loss", math.nan)
    if not loss < LEARNED * unigram:
        return (
            f"The held-out masked-LM loss ({loss:.2f} nats) is not clearly below that of word frequencies alone "
            f"({unigram:.2f}): the model hardly knows the language, and its upstream scores are noise.",
        )
    return ()


def _notes(trial: Trial, train: Dataset) -> list[str]:
    """What the downstream arm has to say of the untreated training set."""
    return downstream_arm(trial.downstream, trial.task).notes(train, _options(trial, "downstream"))


@contextmanager
def _deterministic(device: str) -> Iterator[None]:
    """On a GPU, kernels that give the same bits every time; on a processor equal threads do."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    torch.use_deterministic_algorithms(device != "cpu", warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now
