"""One trial, from a frozen value to a table of measures. It needs neither Ray, nor MLflow, nor a server.

`run_trial` reads like the figure in docs/architecture.md. The stages below it are plain functions of their arguments, and only
`memory.Memory` looks at the cache.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from bias_transfer import provenance
from bias_transfer.console import Report, silent
from bias_transfer.determinism import deterministic, using_threads
from bias_transfer.errors import UserError
from bias_transfer.memory import Memory, data_warnings, load_splits, memory_of, remarks
from bias_transfer.metrics import manipulation_check
from bias_transfer.models import gguf, hub, language_model
from bias_transfer.models.batching import Encode, Tokens, encode, treated_rows
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.resolved import Places, ResolvedTrial, resolve
from bias_transfer.spec import HELDOUT_LOSSES, LEARNED, Measure, Option, Step, Trial, TrialResult
from bias_transfer.storage import cache
from bias_transfer.storage.filesystem import locate
from bias_transfer.tasks import plugin_metrics, predictions, shared_metrics
from bias_transfer.tasks.base import Context, Predicted, Splits, by_group, headline, weights_of
from bias_transfer.tasks.evaluation import measures as evaluation
from bias_transfer.tasks.evaluation import reading
from bias_transfer.training import checkpoint, finetune, kept, lm_training, prompt, tuning
from bias_transfer.training.finetune import Runtime, Settings, TrainingData
from bias_transfer.training.sampling import Untreated

MOST_CUT = 0.5
"""If a larger share of the training texts fills `max_tokens`, the result warns of it (ours)."""


def run_trial(trial: Trial | ResolvedTrial, places: Places | None = None) -> TrialResult:
    """Run one trial in this process. The same trial gives the same bits on the same machine, with a cold cache or a warm one.

    A trial that was interrupted during fine-tuning resumes from its checkpoint and ends with the same bits; what comes before
    fine-tuning is found in the cache, or computed again. The checkpoint stays until `forget` is called, which the caller does
    once the result is recorded. Raises UserError for a trial that cannot be run as it is stated, and TrainingDiverged.
    """
    resolved = trial if isinstance(trial, ResolvedTrial) else resolve(trial)
    places, clock = places or Places(), Clock()
    # Around everything, since the number of threads and the choice of kernels change bits, even those of data and measures.
    with using_threads(resolved.trial.threads), deterministic(places.device):
        splits = load_splits(resolved)
        train = treat_data(resolved, splits.train)
        dataset_bias = measure_dataset(resolved, train)
        clock.lap("data")
        # The text of the untreated set is what `tiny` learns from: a downstream arm must not reach the upstream model.
        pretrained = find_pretrained(resolved, splits, places)
        model = load_model(resolved, pretrained, places)
        memory = memory_of(resolved, pretrained.stand_in, places.cache, places.device)
        clock.lap("model")
        upstream_bias = treat_and_measure(resolved, model, splits, memory, places.report)
        clock.lap("upstream")
        # Upstream bias is measured before fine-tuning, which changes the encoder in place.
        storage = places.stored if places.keep_models and not resolved.prompted else None
        # A classifier is stored when this block ends, so that none is kept whose predictions could not be measured.
        with kept.keeping(storage, resolved.trial, resolved.task.labels, model) as keep:
            runtime = Runtime(places.device, places.report, places.checkpoint(resolved.trial), keep)
            adapted = adapt(resolved, model, splits, train, memory, runtime)
            refit(resolved, model, splits, keep)
            clock.lap("finetune")
            predicted = predict(resolved, splits, adapted.logits, places)
            downstream_bias = measure_downstream(resolved, model, splits, predicted)
            clock.lap("evaluate")
    measures = (*upstream_bias, *dataset_bias, *adapted.measures, *downstream_bias, *planted(resolved, splits))
    if resolved.plugins:
        plugin_metrics.check_distinct(measures)
    return TrialResult(
        trial=resolved.trial,
        measures=measures,
        curve=adapted.curve,
        headline=headline(resolved.task, measures),
        facts=provenance.of(splits, train, model, pretrained.stand_in, adapted.facts, places.device)
        | {f"plugin.{plugin.name}": plugin.digest for plugin in resolved.plugins},
        warnings=(
            *splits.warnings,
            *model.remarks,
            *data_warnings(resolved),
            *resolved.task.cautions(splits, resolved.options.metric),
            *_warnings(measures),
            *_cut(resolved.trial, adapted, len(train)),
            *resolved.downstream.notes(splits.train),
            *_not_reached(resolved, adapted),
            *reading.warnings(reading.load(resolved.evaluate, resolved.task), train["text"][:]),
        ),
        seconds=clock.laps,
        predictions=predictions.parquet(resolved.task, predicted) if places.keep_predictions else None,
    )


def forget(trial: Trial, places: Places) -> None:
    """Remove the checkpoint of a resolved trial, once its result is recorded."""
    checkpoint.forget(places.checkpoint(trial))


def check(resolved: ResolvedTrial, places: Places) -> None:
    """Find what is wrong with a trial before it starts: read and treat its data, load its model, and try its length, its
    adaptation, its upstream dose and the storage. Raises UserError."""
    trial = resolved.trial
    # The storage first: it is the cheapest to try, and a long trial would fail at its first checkpoint.
    locate(places.checkpoint(trial).storage)
    splits = load_splits(resolved)
    train = treat_data(resolved, splits.train)
    predicted_sets(resolved, splits)
    remarks(resolved)
    resolved.upstream.check_text(Context(resolved.task, splits))
    if isinstance(resolved.options.model, lm_training.TinyOptions):
        # A lexicon is looked up in the vocabulary, which `tiny` learns from the data.
        vocabulary = resolved.prompted or getattr(resolved.options.metric, "lexicon", None)
        model = _untrained_once(resolved.options.model, splits.pretraining if vocabulary else None)
    else:
        start = getattr(resolved.options.model, "start_token", None)
        model = _loaded_once(*checkpoint_of(trial, places.cache), start)
    language_model.check_length(model, trial.max_tokens)
    resolved.task.check(model, resolved.options.metric)
    shared_metrics.check(model, resolved.options.metric)
    tuning.check(model, resolved.options.tuning)
    build_prompt(resolved, model, train)
    resolved.upstream.check(model)


@functools.lru_cache(maxsize=1)  # a tokenizer that learns from the data takes seconds
def _untrained_once(options: lm_training.TinyOptions, texts: tuple[str, ...] | None) -> LanguageModel:
    return lm_training.untrained(options, texts)


@functools.lru_cache(maxsize=1)  # the trials of a sweep that are checked one after another mostly share their model
def _loaded_once(folder: str, revision: str | None, start: str | None) -> LanguageModel:
    return language_model.load(folder, revision, labels=2, seed=0, start=start)


def checkpoint_of(trial: Trial, folder: Path) -> tuple[str, str | None]:
    """(folder or hub id, commit or None) of a resolved trial's model, which is not `tiny`.

    A GGUF file is de-quantised once, into the cache `folder`: it takes a quarter of a minute and 4 bytes per weight.
    """
    if file := gguf.file_of(trial.model):
        return str(cache.entry(folder, "gguf", trial.model_digest, partial(gguf.convert, file))), None
    return hub.located(trial.model, trial.model_digest)


def treat_data(resolved: ResolvedTrial, train: Dataset) -> Dataset:
    """The training set after the downstream arm. Raises UserError if the arm changed nothing, or left a class empty."""
    # A public peer published equal scores for two arms because the treated data were never loaded: an arm that changed
    # nothing is an error, here and for the model below.
    arm, data = resolved.downstream, resolved.trial.data
    if not arm.changes:
        return train
    treated = arm.apply(train)
    if provenance.dataset_digest(treated) == provenance.dataset_digest(train):
        raise UserError(f"the downstream arm {arm.name} changed nothing in {data}: nothing to act on")
    if set(treated["label"][:]) < set(train["label"][:]):
        raise UserError(f"the downstream arm {arm.name} left a class of {data} without examples")
    return treated


def measure_dataset(resolved: ResolvedTrial, train: Dataset) -> list[Measure]:
    """Bias of the treated fine-tuning set."""
    return [row for metric in resolved.task.dataset for row in metric(train)]


@dataclass(frozen=True)
class Pretrained:
    """The checkpoint that a trial starts from."""

    folder: str
    """Or a hub id."""
    revision: str | None
    """The commit of a hub id."""
    stand_in: str = ""
    """Digest of a model that was pre-trained for the trial. Its bits depend on the machine, which the trial's id leaves out."""
    text: Sequence[str] | None = None
    """What a model that was pre-trained for the trial has read."""


def find_pretrained(resolved: ResolvedTrial, splits: Splits, places: Places) -> Pretrained:
    """The trial's checkpoint; `tiny` is pre-trained, unless the cache or the sweep's driver has it."""
    options = resolved.options.model
    if not isinstance(options, lm_training.TinyOptions):
        return Pretrained(*checkpoint_of(resolved.trial, places.cache))
    folder = places.stand_in or lm_training.tiny(splits.pretraining, options, places.cache, places.report)
    return Pretrained(str(folder), None, hub.folder_digest(folder), splits.pretraining)


def load_model(resolved: ResolvedTrial, pretrained: Pretrained, places: Places) -> LanguageModel:
    """The untreated model, with a classification head whose initial bits depend only on the seed."""
    labels, start = len(resolved.task.labels), getattr(resolved.options.model, "start_token", None)
    model = language_model.load(pretrained.folder, pretrained.revision, labels, resolved.trial.seed, start)
    return replace(model.to(places.device), pretraining=pretrained.text)


def treat_and_measure(
    resolved: ResolvedTrial,
    model: LanguageModel,
    splits: Splits,
    memory: Memory | None = None,
    report: Report = silent,
) -> list[Measure]:
    """Apply the upstream arm, in place, and measure the model's bias; without a memory both are computed."""
    context = Context(resolved.task, splits, memory.array) if memory else Context(resolved.task, splits)
    # Even if the measures are known, the arm is applied: fine-tuning starts from the treated model.
    if memory and (known := memory.upstream_measures()) is not None:
        treat_model(resolved, model, context, memory)
        return known
    # Before the arm acts: it edits the model in place, and nothing else remembers what the model was.
    untreated = look(resolved, model, splits) if resolved.upstream.changes else None
    treat_model(resolved, model, context, memory)
    measures = measure_upstream(resolved, model, splits, untreated, report)
    return memory.keep_upstream_measures(measures) if memory else measures


def treat_model(resolved: ResolvedTrial, model: LanguageModel, context: Context, memory: Memory | None = None) -> None:
    """Apply the upstream arm, in place. Raises UserError if not a bit of the backbone changed."""
    arm = resolved.upstream
    if not arm.changes:
        return

    def apply() -> Mapping[str, torch.Tensor]:
        arm.apply(model, context)
        return language_model.weights(model)

    # Compared by digest of all weights, since an arm may change a single row of an embedding.
    before = language_model.encoder_digest(model)
    if arm.trains and memory:
        language_model.put_weights(model, memory.treated_weights(apply))
    else:
        apply()
    if language_model.encoder_digest(model) == before:
        raise UserError(f"the upstream arm {arm.name} changed nothing in {resolved.trial.model}")


def look(resolved: ResolvedTrial, model: LanguageModel, splits: Splits) -> manipulation_check.Look:
    """The model's hidden states and its primary upstream measure, to be compared with those after the arm."""
    metric = resolved.task.upstream[0]
    scores = by_group(metric(model, splits, resolved.options.metric), "upstream", resolved.task.primary["upstream"])
    return manipulation_check.look(model, splits.heldout, scores)


def measure_upstream(
    resolved: ResolvedTrial,
    model: LanguageModel,
    splits: Splits,
    untreated: manipulation_check.Look | None,
    report: Report = silent,
) -> list[Measure]:
    """Bias of the language model before fine-tuning, and what the arm did to it. untreated: None without an arm."""
    task, options = resolved.task, resolved.options.metric
    report("measure upstream bias", 0, 1)  # one step: a time left that measures of unequal cost gave would be wrong
    measures = [row for metric in task.upstream for row in metric(model, splits, options)]
    report("measure upstream bias", 1, 1)
    if untreated:
        measures += manipulation_check.compare(untreated, look(resolved, model, splits))
    measures += resolved.upstream.record(model, Context(task, splits), "upstream")
    return measures + [row for metric in task.encoder for row in metric(model, splits, options, "upstream")]


def planted(resolved: ResolvedTrial, splits: Splits) -> list[Measure]:
    """What a generator planted in the data, and in the model if it was pre-trained on their text: a text that a checkpoint from
    elsewhere never read plants nothing in it."""
    has_read = isinstance(resolved.options.model, lm_training.TinyOptions)
    return [row for row in splits.known if has_read or row.stage != "upstream"]


@dataclass(frozen=True)
class Adapted:
    """The classifier that the trial's adaptation made of the model."""

    logits: Callable[[Sequence[str]], np.ndarray]
    """Texts -> (texts, labels), fp32."""
    facts: Mapping[str, Option]
    curve: tuple[Step, ...] = ()
    measures: tuple[Measure, ...] = ()


def adapt(
    resolved: ResolvedTrial, model: LanguageModel, splits: Splits, train: Dataset, memory: Memory, runtime: Runtime
) -> Adapted:
    """Make the model a classifier: by fine-tuning, in place, or by a prompt, which changes nothing in it."""
    if built := build_prompt(resolved, model, train):
        return _prompted(resolved, model, splits, built, runtime.device)
    trial = resolved.trial
    encoder = partial(encode, model.tokenizer, max_tokens=trial.max_tokens)
    shared = partial(memory.tokens, max_tokens=trial.max_tokens, encode=encoder)
    data = tokenise(resolved, splits, train, shared, encoder)
    curve = finetune.finetune(model, data, Settings(trial, resolved.options.tuning), runtime)
    return Adapted(
        lambda texts: finetune.predict(model, shared(texts), trial, runtime.device),
        {
            "tokens.train": sum(map(len, data.rows)),
            "texts.cut": sum(len(row) >= trial.max_tokens for row in data.rows),
            "steps": data.steps,
        },
        curve,
    )


def build_prompt(resolved: ResolvedTrial, model: LanguageModel, train: Dataset) -> prompt.Built | None:
    """The prompt with examples of the treated training set; None for a trial that is fine-tuned. Raises UserError."""
    options = resolved.options.tuning
    if not isinstance(options, tuning.PromptOptions):
        return None
    return prompt.build(model, train, prompt.Asked(resolved.task.asks, options), resolved.trial)


def _prompted(
    resolved: ResolvedTrial, model: LanguageModel, splits: Splits, built: prompt.Built, device: str
) -> Adapted:
    """The model as it is, asked by the prompt; and whether the downstream arm reached the prompt."""
    prompted = prompt.prompted(model, built, resolved.trial, device)
    if not resolved.downstream.changes:
        return Adapted(prompted.logits, prompt.facts(built, None))
    changed = built.shots.changed(prompt.draw(model, splits.train, built.asked, resolved.trial.seed))
    return Adapted(prompted.logits, prompt.facts(built, changed), measures=(prompt.reached(built, changed),))


def tokenise(resolved: ResolvedTrial, splits: Splits, train: Dataset, shared: Encode, encoder: Encode) -> TrainingData:
    """What fine-tuning reads. The number of steps and the batches are those of the untreated set, so that arms share them."""
    texts = splits.train["text"][:]
    untreated = shared(texts)
    rows: Tokens = treated_rows(train["text"][:], texts, untreated, encoder)
    steps = finetune.steps(resolved.trial, len(splits.train))
    order = Untreated(splits.train["id"][:], [*map(len, untreated)])
    return TrainingData(rows, train["label"][:], train["id"][:], steps, order, weights_of(train))


def refit(
    resolved: ResolvedTrial,
    model: LanguageModel,
    splits: Splits,
    keep: Callable[[Mapping[str, torch.Tensor]], None] | None = None,
) -> None:
    """What the upstream arm does to the fine-tuned model before it predicts, in place. keep: as in `finetune.Runtime`."""
    if resolved.upstream.refit is None:
        return
    resolved.upstream.refit(model, Context(resolved.task, splits))
    # Of a head or adapters alone, the arm's layer is not kept: it is fitted again when they are put together.
    if keep and resolved.trial.tuning is None:
        keep(tuning.trained(model, resolved.trial))


def predicted_sets(resolved: ResolvedTrial, splits: Splits) -> dict[str, Dataset]:
    """dev, test, the task's probe sets, and the trial's evaluation sets. Raises UserError for one of these that has changed, or
    has the name of another."""
    evaluate = reading.load(resolved.evaluate, resolved.task)
    own = {"dev": splits.dev, "test": splits.test, **resolved.task.probes(splits, resolved.options.metric)}
    for name in own.keys() & evaluate.keys():
        raise UserError(f"evaluate: the task has a set of its own with the name {name!r}. Choose another.")
    return own | {name: each.examples for name, each in evaluate.items()}


def predict(
    resolved: ResolvedTrial, splits: Splits, logits_of: Callable[[Sequence[str]], np.ndarray], places: Places
) -> dict[str, Predicted]:
    """The classifier on all sets. Raises TrainingDiverged for logits that are not finite."""
    predicted = {}
    for name, examples in predicted_sets(resolved, splits).items():
        places.report(f"predict {name}", 0, len(examples))
        logits = logits_of(examples["text"][:])
        # NaN compares as false: error rates would look like those of a classifier that finds no harm anywhere.
        if not np.isfinite(logits).all():
            remedy = "the dose of the upstream arm" if resolved.prompted else "learning_rate"
            raise finetune.TrainingDiverged(f"the classifier's logits on {name} are not finite: lower {remedy}")
        predicted[name] = Predicted(examples, logits)
        places.report(f"predict {name}", len(examples), len(examples))
    return predicted


def measure_downstream(
    resolved: ResolvedTrial, model: LanguageModel, splits: Splits, predicted: dict[str, Predicted]
) -> list[Measure]:
    """Harm and performance of the fine-tuned classifier, and what its encoder still holds."""
    task, options = resolved.task, resolved.options.metric
    measures = [row for metric in task.downstream for row in metric(predicted, options)]
    measures += resolved.upstream.record(model, Context(task, splits), "downstream")
    measures += [row for metric in task.encoder for row in metric(model, splits, options, "downstream")]
    return measures + evaluation.measures(task, reading.load(resolved.evaluate, task), predicted, options)


def _warnings(measures: tuple[Measure, ...]) -> tuple[str, ...]:
    overall = {row.metric: row.value for row in measures if not row.group and not row.template}
    # `not <` and not `>=`: a missing loss (NaN) is warned of as well.
    losses = [overall[name] for name in HELDOUT_LOSSES if name in overall]
    loss, unigram = losses[0] if losses else math.nan, overall.get("unigram_loss", math.nan)
    if not loss < LEARNED * unigram:
        return (
            f"The held-out language-model loss ({loss:.2f} nats) is not clearly below that of word frequencies alone "
            f"({unigram:.2f}): the model hardly knows the language, and its upstream scores are noise.",
        )
    return ()


def _cut(trial: Trial, adapted: Adapted, texts: int) -> tuple[str, ...]:
    cut = int(adapted.facts.get("texts.cut", 0))
    if cut <= MOST_CUT * texts:
        return ()
    return (f"{cut} of {texts} training texts fill max_tokens={trial.max_tokens}: what goes beyond it is not read.",)


def _not_reached(resolved: ResolvedTrial, adapted: Adapted) -> tuple[str, ...]:
    if adapted.facts.get("prompt_changed", True):
        return ()
    return (
        f"The downstream arm {resolved.downstream.name} left the examples of the prompt as they were, so it did not reach the "
        "classifier.",
    )


@dataclass
class Clock:
    """Seconds between laps."""

    laps: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        """The time since the last lap goes to this name."""
        now = time.monotonic()
        self.laps[name], self.last = now - self.last, now
