"""Checkpoints of fine-tuning: an interrupted trial resumes and ends with the bits of one that was never interrupted.

`capture` turns a running `Training` into a `State` and `restore` does the reverse; `save_state`, `load_state` and `forget`
store it at a `Place`. There it is one safetensors file: tensors as tensors, everything else as JSON in the file's header, so
that nothing is pickled and reading it runs no code. The file appears whole or not at all and is verified when it is read.

No checkpoint problem stops a trial: it is reported in a warning, and at worst training starts from the beginning.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from bias_transfer.console import redacted
from bias_transfer.errors import UserError, first_line
from bias_transfer.hashing import digest
from bias_transfer.spec import Step
from bias_transfer.storage import fingerprint
from bias_transfer.storage.filesystem import locate, read, write

NAME = "state.safetensors"


@dataclass(frozen=True)
class Place:
    """Where one trial's checkpoint is stored, how often it is written, and whose it must be."""

    storage: str
    """A folder, or a URI such as s3://bucket/prefix."""
    trial: str
    """The trial's id, which contains the version of the numerics."""
    seconds: float
    """Between two checkpoints, and before the first."""
    device: str
    """cpu or cuda."""

    @property
    def shown(self) -> str:
        """The path for messages, without a password that the URI may contain."""
        return f"{redacted(self.storage)}/checkpoints/{self.trial}"


@dataclass(frozen=True)
class State:
    """Everything that training resumes from, as a checkpoint stores it."""

    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Values that JSON can represent."""


@dataclass
class Training:
    """Fine-tuning between two optimiser steps. The order of examples is not part of it: it is a function of the step."""

    classifier: nn.Module
    adam: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    scaler: Any
    """The GradScaler of fp16; None in other precisions."""
    device: torch.device
    step: int = 0
    """Optimiser steps done."""
    curve: list[Step] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    """One per step since the curve's last point."""


def capture(training: Training) -> State:
    """The trained weights, all buffers, and the states of the optimiser, the schedule, the scaler and torch's generators.

    The tensors are not copied, so the state must be saved before the next step.
    """
    optimizer = training.adam.state_dict()
    tensors = {f"weight.{name}": value for name, value in _changing(training.classifier)}
    tensors |= {
        f"adam.{number}.{name}": value
        for number, moments in optimizer["state"].items()
        for name, value in moments.items()
    }
    # Dropout draws from the global generators.
    tensors["generator.cpu"] = torch.get_rng_state()
    if training.device.type == "cuda":
        tensors["generator.cuda"] = torch.cuda.get_rng_state(training.device)
    if training.losses:
        tensors["losses"] = torch.stack(training.losses)
    facts = {
        "step": training.step,
        "curve": [asdict(point) for point in training.curve],
        "rates": [group["lr"] for group in optimizer["param_groups"]],
        # The schedule's functions are code: the resumed trial builds the same ones.
        "schedule": {key: value for key, value in training.schedule.state_dict().items() if key != "lr_lambdas"},
        "scaler": training.scaler.state_dict() if training.scaler else None,
    }
    return State(tensors, facts)


def restore(training: Training, state: State) -> None:
    """Load a captured state into a training that was built in the same way, in place."""
    facts, tensors = state.facts, state.tensors
    with torch.no_grad():
        for name, value in _changing(training.classifier):
            value.copy_(tensors[f"weight.{name}"])
    groups = training.adam.state_dict()["param_groups"]
    for group, rate in zip(groups, facts["rates"], strict=True):
        group["lr"] = rate
    training.adam.load_state_dict({"state": _moments(tensors), "param_groups": groups})
    training.schedule.load_state_dict({**facts["schedule"], "lr_lambdas": [None] * len(groups)})
    if training.scaler:
        training.scaler.load_state_dict(facts["scaler"])
    torch.set_rng_state(tensors["generator.cpu"])
    if training.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["generator.cuda"], training.device)
    training.step, training.curve = facts["step"], [Step(**point) for point in facts["curve"]]
    training.losses = [*tensors["losses"].to(training.device)] if "losses" in tensors else []


def _changing(classifier: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    """Names and values of what training changes: weights that are not frozen, and buffers."""
    yield from ((name, value) for name, value in classifier.named_parameters() if value.requires_grad)
    yield from classifier.named_buffers()


def _moments(tensors: Mapping[str, torch.Tensor]) -> dict[int, dict[str, torch.Tensor]]:
    """The optimiser's state from tensors named adam.NUMBER.NAME: parameter number -> name -> tensor."""
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        owner, _, rest = key.partition(".")
        if owner == "adam":
            number, _, name = rest.partition(".")
            moments.setdefault(int(number), {})[name] = value
    return moments


def save_state(place: Place, state: State) -> None:
    """Write the state, replacing an older one. If it cannot be written, a warning says so and training goes on."""
    try:
        content = _packed(place, state)
        filesystem, folder = _folder(place)
        write(filesystem, f"{folder}/{NAME}", content)
    except (ArrowException, OSError, UserError) as error:
        warnings.warn(
            f"the checkpoint in {place.shown} cannot be written: {first_line(error)}; training goes on without it",
            stacklevel=2,
        )


def load_state(place: Place) -> State | None:
    """The state that was saved last; None if there is none.

    A checkpoint that is damaged, or comes from another trial, kind of device or version of torch, is reported in a warning
    and not used: None is returned, and training starts from the beginning.
    """
    try:
        filesystem, folder = _folder(place)
        if filesystem.get_file_info(f"{folder}/{NAME}").type != FileType.File:
            return None
        return _unpacked(place, read(filesystem, f"{folder}/{NAME}"))
    except (ArrowException, OSError, UserError, SafetensorError, ValueError, KeyError, TypeError) as error:
        warnings.warn(
            f"the checkpoint in {place.shown} is not used: {first_line(error)}; training starts from the beginning",
            stacklevel=2,
        )
        return None


def forget(place: Place) -> None:
    """Remove the checkpoint and whatever writing it left behind, once the trial's result is recorded."""
    try:
        filesystem, folder = _folder(place)
        if filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
            filesystem.delete_dir(folder)
    except (ArrowException, OSError, UserError) as error:
        warnings.warn(f"the checkpoint in {place.shown} cannot be removed: {first_line(error)}", stacklevel=2)


def _folder(place: Place) -> tuple[FileSystem, str]:
    return locate(place.storage, "checkpoints", place.trial)


def _packed(place: Place, state: State) -> bytes:
    header = {**_owner(place), "facts": state.facts, "content": _content_digest(state)}
    tensors = {name: _unshared(value.detach().cpu().contiguous()) for name, value in state.tensors.items()}
    return save(tensors, {"checkpoint": json.dumps(header, allow_nan=False)})


def _unshared(value: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy if it is a view of a larger one: safetensors refuses shared memory."""
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _unpacked(place: Place, content: bytes) -> State:
    """Raises ValueError and others for a file that is damaged or another owner's."""
    header = json.loads(_metadata(content)["checkpoint"])
    for name, expected in _owner(place).items():
        if header[name] != expected:
            raise ValueError(f"its {name} is {header[name]}, not {expected}")
    state = State(load(content), header["facts"])
    if _content_digest(state) != header["content"]:
        raise ValueError("its content is not what was written")
    return state


def _owner(place: Place) -> dict[str, str]:
    """The trial, and what else must be equal for equal bits."""
    return {"trial": place.trial, "torch": torch.__version__, "machine": fingerprint.hardware(place.device)}


def _metadata(content: bytes) -> dict[str, str]:
    """The text values in a safetensors file's header, which is 8 bytes of its length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])


def _content_digest(state: State) -> str:
    """SHA-256 over the facts and each tensor's name, type, shape and bytes."""
    total = hashlib.sha256(digest(state.facts).encode())
    for name, value in sorted(state.tensors.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
