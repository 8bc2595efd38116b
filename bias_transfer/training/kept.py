"""Classifiers that trials keep (`--keep-models`), stored by trial id next to the checkpoints, so that they can be asked again.

Each is a folder: the weights as safetensors, and where these are all of the model's, its configuration and tokenizer in the
files of transformers. `trial.json` is written last and holds the digests of the other files, so that a classifier is there
whole or not at all.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileType
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from bias_transfer.console import redacted
from bias_transfer.errors import UserError, first_line, unknown
from bias_transfer.models.language_model import LanguageModel, encoder_digest, quiet
from bias_transfer.spec import NUMERICS, Trial, parse_trial
from bias_transfer.storage.filesystem import locate, read, write

FOLDER, FACTS, WEIGHTS = "models", "trial.json", "model.safetensors"


@dataclass(frozen=True)
class Kept:
    """A fine-tuned classifier as it is stored."""

    trial: Trial
    labels: tuple[str, ...]
    weights: Mapping[str, torch.Tensor]
    """All weights of the classifier, or those that its adaptation trained (`tuning.trained`)."""
    base: str
    """Digest of the encoder that partial weights belong to, after the upstream arm; empty where all weights are stored."""
    files: Mapping[str, bytes]
    """Name -> content: configuration and tokenizer, where all weights are stored."""


def shown(storage: str) -> str:
    """Where the classifiers are, for messages, without a password that the URI may contain."""
    return f"{redacted(storage)}/{FOLDER}"


def model_files(model: LanguageModel, labels: Sequence[str]) -> dict[str, bytes]:
    """Configuration and tokenizer as transformers writes them: with the weights, a checkpoint of a classifier."""
    config = copy.deepcopy(model.classifier.config)
    config.id2label, config.architectures = dict(enumerate(labels)), [type(model.classifier).__name__]
    config.label2id = {label: number for number, label in config.id2label.items()}
    # A fast tokenizer writes out how the last call truncated, which depends on what was found in the cache.
    model.tokenizer([""])
    with tempfile.TemporaryDirectory() as folder, quiet():
        config.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@contextmanager
def keeping(
    storage: str | None, trial: Trial, labels: Sequence[str], model: LanguageModel
) -> Iterator[Callable[[Mapping[str, torch.Tensor]], None] | None]:
    """What fine-tuning hands the trained weights to; they are stored when the block ends without an error.

    To be entered before fine-tuning, since partial weights belong to the encoder as it is then. storage: None keeps nothing.
    """
    if storage is None:
        yield None
        return
    weights: dict[str, torch.Tensor] = {}
    base = encoder_digest(model) if trial.tuning else ""
    yield weights.update
    save(storage, Kept(trial, tuple(labels), weights, base, {} if base else model_files(model, labels)))


def save(storage: str, kept: Kept) -> None:
    """Store a classifier, in place of an older one of the same trial. If it cannot be written, a warning says so: the trial's
    result is the same without it."""
    weights = {name: value.contiguous() for name, value in kept.weights.items()}
    files = {WEIGHTS: bytes_of(weights, {"format": "pt"}), **kept.files}
    facts = {
        "id": kept.trial.id,
        "numerics": NUMERICS,
        "task": kept.trial.task,
        "labels": kept.labels,
        "model_digest": kept.trial.model_digest,
        "base": kept.base,
        "torch": torch.__version__,
        "trial": kept.trial.model_dump(),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    try:
        filesystem, folder = locate(storage, FOLDER, kept.trial.id)
        if filesystem.get_file_info(f"{folder}/{FACTS}").type == FileType.File:
            filesystem.delete_file(f"{folder}/{FACTS}")
        for name, content in {**files, FACTS: json.dumps(facts, indent=1).encode()}.items():
            write(filesystem, f"{folder}/{name}", content)
    except (ArrowException, OSError, UserError) as error:
        warnings.warn(
            f"the classifier of {kept.trial.id} cannot be kept in {shown(storage)}: {first_line(error)}; its result is "
            "recorded all the same",
            stacklevel=2,
        )


def load(storage: str, trial_id: str) -> Kept:
    """The classifier that a trial kept. Raises UserError if there is none, and for one that is damaged."""
    if trial_id not in (kept := ids(storage)):
        raise UserError(f"{shown(storage)}: {unknown('kept classifier', trial_id, sorted(kept))}")
    filesystem, folder = locate(storage, FOLDER, trial_id)
    try:
        facts = json.loads(read(filesystem, f"{folder}/{FACTS}"))
        files = {name: read(filesystem, f"{folder}/{_plain(name)}") for name in facts["files"]}
        for name, content in files.items():
            if hashlib.sha256(content).hexdigest() != facts["files"][name]:
                raise ValueError(f"{name} has other content than was written")
        weights = tensors_of(files.pop(WEIGHTS))
        return Kept(parse_trial(facts["trial"]), tuple(facts["labels"]), weights, facts["base"], files)
    except (ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the classifier in {shown(storage)}/{trial_id} is damaged: {first_line(error)}. Run the trial again with "
            "--keep-models."
        ) from None


def _plain(name: str) -> str:
    if Path(name).name != name:
        raise ValueError(f"a file is named {name!r}, which leaves its folder")
    return name


def ids(storage: str) -> frozenset[str]:
    """Ids of the trials whose classifier is stored. Raises UserError for a storage that cannot be read."""
    filesystem, folder = locate(storage, FOLDER)
    try:
        entries = filesystem.get_file_info(FileSelector(folder, allow_not_found=True, recursive=True))
    except (ArrowException, OSError) as error:
        raise UserError(f"{shown(storage)} cannot be read: {first_line(error)}") from None
    return frozenset(Path(entry.path).parent.name for entry in entries if entry.base_name == FACTS)
