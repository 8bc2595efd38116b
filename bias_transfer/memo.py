"""What several trials compute alike, kept in the cache by all that decides it: a kept value is the computed one, bit for bit.

No process waits for another: two that miss the same value at once compute it twice.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bias_transfer import cache
from bias_transfer.batching import Tokens
from bias_transfer.spec import NUMERICS, Measure, Trial, UserError, digest

Value = TypeVar("Value")

PACKAGES = ("datasets", "numpy", "scikit-learn", "tokenizers", "torch", "transformers", "vaderSentiment")
"""Another version of one may give other bits."""

CODE = Path(__file__).parent

AFTER = (
    "downstream", "downstream_dose", "epochs", "batch_size", "micro_batch_size", "learning_rate", "warmup", "weight_decay",
    "clip", "tuning",
)  # fmt: skip
"""Fields of a trial that act after the upstream measures. A field that is not named here decides them."""

BY_CONTENT = ("task", "data", "model")
"""Fields that name what lies somewhere: its digest stands for it, if it has one."""


@dataclass(frozen=True)
class Kind(Generic[Value]):
    """How values of a kind are written to a folder and read again, with the same bits."""

    name: str
    """Of the cache's folder."""
    write: Callable[[Path, Value], None]
    read: Callable[[Path], Value]


Deciding = Mapping[str, Any]
"""Everything that a value depends on, as JSON."""


def remembered(folder: Path, kind: Kind[Value], deciding: Deciding, compute: Callable[[], Value]) -> Value:
    """The value that was kept in the cache `folder`, or else what `compute` returns, which is then kept."""
    found = find(folder, kind, deciding)
    return keep(folder, kind, deciding, compute()) if found is None else found


def find(folder: Path, kind: Kind[Value], deciding: Deciding) -> Value | None:
    """The value that was kept, if one was."""
    if found := cache.find(folder, kind.name, _key(deciding)):
        with suppress(OSError):  # it was deleted in this moment
            return kind.read(found)
    return None


def keep(folder: Path, kind: Kind[Value], deciding: Deciding, value: Value) -> Value:
    """The value itself. A cache that cannot be written is done without."""
    with suppress(UserError):
        cache.entry(folder, kind.name, _key(deciding), lambda target: kind.write(target, value))
    return value


def _key(deciding: Deciding) -> str:
    return digest(deciding)[:32]


def machine(device: str, threads: int) -> dict[str, Any]:
    """What decides the bits of any computation, beside its input: the code, its packages, and what runs it."""
    own = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    runs = f"{device} {platform.machine()} {own}"
    return {"numerics": NUMERICS, "code": _code(), "packages": _packages(), "machine": runs, "threads": threads}


@functools.cache
def _packages() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


@functools.cache
def _code() -> str:
    """SHA-256 over this package's files: whoever edits a measure need not think of what is kept."""
    files = sorted(CODE.rglob("*.py"))
    return digest([[str(path.relative_to(CODE)), path.read_text(encoding="utf-8")] for path in files])


def untreated(trial: Trial, device: str, pretraining: Sequence[str]) -> dict[str, Any]:
    """What decides the resolved trial's model as it was loaded, and its tokenizer. pretraining: what `tiny` learned from."""
    options = {key: value for key, value in trial.options.items() if key.startswith("model.")}
    own = {"model": trial.model_digest, "options": options}
    return {**machine(device, trial.threads), **own, "pretraining": text_digest(pretraining) if options else ""}


def text_digest(texts: Sequence[str]) -> str:
    """SHA-256 over texts in their order."""
    total = hashlib.sha256()
    for text in texts:
        content = text.encode()
        total.update(f"{len(content)} ".encode() + content)
    return total.hexdigest()


def before_training(trial: Trial, device: str) -> dict[str, Any]:
    """What decides a resolved trial's upstream measures and treated model: every field but those of `AFTER`.

    An untreated model's do not depend on the seed, which else names the arm's draws.
    """
    fields = trial.model_dump(exclude_none=True, exclude={*AFTER, "options"})
    for name in BY_CONTENT:
        if getattr(trial, f"{name}_digest"):
            del fields[name]
    if trial.upstream == "none":
        del fields["seed"]
    kept = {key: value for key, value in trial.options.items() if key.partition(".")[0] not in ("downstream", "tuning")}
    kept = {key: value for key, value in kept.items() if f"{key}_digest" not in kept}
    return {**machine(device, trial.threads), **fields, "options": kept}


def in_turn(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Resolved trials in an order in which those that share their upstream stage are far from each other: the first has kept it
    when the next begins. Those of one data set stay together, since a worker has read it."""
    seen = Counter[str]()
    places = dict[str, int]()
    keys = list[tuple[int, int]]()
    for trial in trials:
        data = digest([trial.task, trial.task_digest, trial.data_digest, trial.options_of("data")])
        shared = digest(before_training(trial, "cpu"))
        keys.append((places.setdefault(data, len(places)), seen[shared]))
        seen[shared] += 1
    return tuple(trials[index] for index in sorted(range(len(trials)), key=keys.__getitem__))


def _write_measures(folder: Path, measures: list[Measure]) -> None:
    (folder / "measures.json").write_text(json.dumps([[*asdict(row).values()] for row in measures]))


def _read_measures(folder: Path) -> list[Measure]:
    return [Measure(*row) for row in json.loads((folder / "measures.json").read_text())]


def _write_tokens(folder: Path, rows: Tokens) -> None:
    np.save(folder / "ids.npy", np.array([token for row in rows for token in row], dtype=np.int32))
    np.save(folder / "ends.npy", np.cumsum([len(row) for row in rows], dtype=np.int64))


def _read_tokens(folder: Path) -> Tokens:
    ids, ends = np.load(folder / "ids.npy").tolist(), np.load(folder / "ends.npy").tolist()
    return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _write_array(folder: Path, array: np.ndarray) -> None:
    np.save(folder / "array.npy", array)


def _read_array(folder: Path) -> np.ndarray:
    return np.asarray(np.load(folder / "array.npy"))


def _write_weights(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()},
        folder / "weights.safetensors",
    )


def _read_weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


MEASURES = Kind("measures", _write_measures, _read_measures)
TOKENS = Kind("tokens", _write_tokens, _read_tokens)
ARRAY = Kind("arrays", _write_array, _read_array)
WEIGHTS = Kind("weights", _write_weights, _read_weights)
