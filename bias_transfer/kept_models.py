"""Models of trials put together again: classifiers that trials kept (`--keep-models`), to be asked about new texts, and either
stage's model as an ordinary checkpoint folder; and what keeping one takes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bias_transfer.determinism import deterministic, using_threads
from bias_transfer.errors import UserError
from bias_transfer.interventions.upstream import projection
from bias_transfer.memory import load_splits, memory_of
from bias_transfer.models import gguf, hub, language_model, plain
from bias_transfer.models.batching import encode
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.pipeline import find_pretrained, load_model, refit, treat_model
from bias_transfer.resolved import Places, ResolvedTrial, resolve
from bias_transfer.spec import Trial
from bias_transfer.tasks.base import Context
from bias_transfer.training import finetune, kept, lm_training, tuning


def ask(stored: kept.Kept, texts: Sequence[str], places: Places, **moved: str) -> np.ndarray:
    """Logits, (texts, labels), fp32, of a classifier that a trial kept (`kept.load`). For a set that the trial predicted they
    are the same bits, on the same machine.

    moved: `data`, `model` or `task`, where the trial's files are elsewhere now. Raises UserError as `kept_classifier` does.
    """
    trial = stored.trial.with_fields(**moved)
    with using_threads(trial.threads), deterministic(places.device):
        model = kept_classifier(stored, trial, places)
        rows = encode(model.tokenizer, texts, max_tokens=trial.max_tokens)
        return finetune.predict(model, rows, trial, places.device)


def kept_classifier(stored: kept.Kept, trial: Trial, places: Places) -> LanguageModel:
    """The classifier with the weights that were stored, put together as in its trial.

    All weights need nothing else. A trained head, and adapters, need the encoder that they were trained on: the trial's model
    is loaded and its upstream arm applied again. Raises UserError if the result is another encoder.
    """
    if not stored.base:
        return _whole(stored).to(places.device)
    resolved = resolve(trial)
    model = treated_model(resolved, places)
    if language_model.encoder_digest(model) != stored.base:
        raise UserError(
            f"the classifier of {stored.trial.name} stores its head, and adapters, alone, and the encoder computed here is not "
            "the one that they were trained on: the data or the model are others, or this is another kind of machine or "
            "version. Run the trial again here with --keep-models."
        )
    with tuning.trainable(model, resolved.options.tuning, resolved.trial):
        tuning.put_trained(model, stored.weights)
    refit(resolved, model, load_splits(resolved))
    return model


def treated_model(resolved: ResolvedTrial, places: Places) -> LanguageModel:
    """The trial's model after its upstream arm, before fine-tuning: on one kind of machine the same bits each time."""
    splits = load_splits(resolved)
    pretrained = find_pretrained(resolved, splits, places)
    model = load_model(resolved, pretrained, places)
    memory = memory_of(resolved, pretrained.stand_in, places.cache, places.device)
    treat_model(resolved, model, Context(resolved.task, splits, memory.array), memory)
    return model


def export_treated(resolved: ResolvedTrial, places: Places, folder: Path) -> LanguageModel:
    """Write the trial's treated language model as an ordinary checkpoint folder; returns it.

    Raises UserError for an arm that inserts a projection, which no architecture of transformers has.
    """
    with using_threads(resolved.trial.threads), deterministic(places.device):
        model = treated_model(resolved, places)
        if projection.inserted(model):
            raise UserError(
                f"the upstream arm {resolved.upstream.name} inserts a projection behind the last layer, which no architecture "
                "of transformers has: the treated model cannot be exported. Its fine-tuned classifier can, with --stage "
                "finetuned, where the projection can be folded into the head, which is all that reads it there."
            )
        plain.save_lm(model, folder)
    return model


def export_finetuned(stored: kept.Kept, trial: Trial, places: Places, folder: Path) -> tuple[LanguageModel, bool]:
    """Write a classifier that a trial kept as an ordinary checkpoint folder, with adapters merged and a projection folded into
    the head; returns it, and whether there was a projection.

    trial: as for `kept_classifier`. Raises UserError as that does, and as `projection.fold`.
    """
    with using_threads(trial.threads), deterministic(places.device):
        model = kept_classifier(stored, trial, places)
        folded = projection.inserted(model) is not None
        projection.fold(model, trial.upstream)
        plain.save_classifier(model, stored.labels, trial.max_tokens, folder)
    return model, folded


def _whole(stored: kept.Kept) -> LanguageModel:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in stored.files.items():
            (Path(folder) / name).write_bytes(content)
        start = stored.trial.options.get("model.start_token")
        model = language_model.blank(folder, start=None if start is None else str(start))
    if inserted := stored.weights.keys() - model.classifier.state_dict().keys():
        projection.insert_empty(model, bias=any(name.endswith(".bias") for name in inserted))
    model.classifier.load_state_dict(stored.weights)
    return model


def kept_bytes(resolved: ResolvedTrial) -> int:
    """Bytes of the weights that `--keep-models` stores for this trial, by its model's configuration alone."""
    trial, options = resolved.trial, resolved.options.model
    if isinstance(options, lm_training.TinyOptions):
        config = lm_training.tiny_config(options.vocabulary, options)
    else:
        file = gguf.file_of(trial.model)
        config = (
            gguf.config_of(file) if file else language_model.config_of(*hub.located(trial.model, trial.model_digest))
        )
    config.num_labels = len(resolved.task.labels)
    return 4 * tuning.kept_weights(config, trial, resolved.options.tuning)
