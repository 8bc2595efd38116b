"""A half-trained trial, kept where other machines reach it: one safetensors file, whole or not there, checked when it is read.

Tensors are tensors and all else is JSON in the file's header: nothing is pickled, so that reading runs no code.
"""

from __future__ import annotations

import hashlib
import json
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType
from safetensors import SafetensorError
from safetensors.torch import load, save

from bias_transfer.storage import filesystem as storage_filesystem
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.errors import first_line

NAME = "state.safetensors"


@dataclass(frozen=True)
class State:
    """What training goes on from."""

    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON."""


@dataclass(frozen=True)
class Place:
    """Where one trial's checkpoint lies, how often it is written, and whose it must be."""

    storage: str
    """A folder, or a URI such as s3://bucket/prefix."""
    trial: str
    """The trial's id, which holds the version of the numerics."""
    seconds: float
    """Between two checkpoints, and before the first."""
    device: str
    """cpu or cuda."""

    @property
    def shown(self) -> str:
        """For messages."""
        return f"{storage_filesystem.shown(self.storage)}/checkpoints/{self.trial}"


def save_state(place: Place, state: State) -> None:
    """Keep the state in the place of an older one. What goes wrong is told in a warning: training is not lost by it."""
    try:
        content = _packed(place, state)
        filesystem, folder = _folder(place)
        storage_filesystem.write(filesystem, f"{folder}/{NAME}", content)
    except (ArrowException, OSError, UserError) as error:
        warnings.warn(f"no checkpoint in {place.shown}: {first_line(error)}; training goes on", stacklevel=2)


def load_state(place: Place) -> State | None:
    """The state that was kept last; None where there is none. One that is damaged or another trial's, or from another
    kind of device or version of torch, is told in a warning and left alone: training starts anew."""
    try:
        filesystem, folder = _folder(place)
        if filesystem.get_file_info(f"{folder}/{NAME}").type != FileType.File:
            return None
        return _unpacked(place, storage_filesystem.read(filesystem, f"{folder}/{NAME}"))
    except (ArrowException, OSError, UserError, SafetensorError, ValueError, KeyError, TypeError) as error:
        warnings.warn(
            f"the checkpoint in {place.shown} is not used: {first_line(error)}; training starts anew",
            stacklevel=2,
        )
        return None


def forget(place: Place) -> None:
    """Remove the checkpoint, and what writing it left: once the trial's result is recorded."""
    try:
        filesystem, folder = _folder(place)
        if filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
            filesystem.delete_dir(folder)
    except (ArrowException, OSError, UserError) as error:
        warnings.warn(f"{place.shown} cannot be removed: {first_line(error)}", stacklevel=2)


def _folder(place: Place) -> tuple[FileSystem, str]:
    return storage_filesystem.locate(place.storage, "checkpoints", place.trial)


def _packed(place: Place, state: State) -> bytes:
    told = {**_owner(place), "facts": state.facts, "content": _content(state)}
    tensors = {name: _alone(value.detach().cpu().contiguous()) for name, value in state.tensors.items()}
    return save(tensors, {"checkpoint": json.dumps(told, allow_nan=False)})


def _alone(value: torch.Tensor) -> torch.Tensor:
    """Itself, or a copy where it shares its memory, which safetensors refuses."""
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _unpacked(place: Place, content: bytes) -> State:
    told = json.loads(_header(content)["checkpoint"])
    for name, own in _owner(place).items():
        if told[name] != own:
            raise ValueError(f"it is of {name} {told[name]}, not {own}")
    state = State(load(content), told["facts"])
    if _content(state) != told["content"]:
        raise ValueError("its content is not what was written")
    return state


def _owner(place: Place) -> dict[str, str]:
    """The trial, and what else must be equal for equal bits."""
    own = torch.cuda.get_device_name() if place.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"trial": place.trial, "torch": torch.__version__, "device": f"{place.device} {platform.machine()} {own}"}


def _header(content: bytes) -> dict[str, str]:
    """The text in a safetensors file's header: 8 bytes of its length, then JSON."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])


def _content(state: State) -> str:
    """SHA-256 over facts, names, kinds, shapes and bytes."""
    total = hashlib.sha256(digest(state.facts).encode())
    for name, value in sorted(state.tensors.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
