"""Refuse checkpoints that bring code to run, pickled weights, or a reference to another checkpoint.

The check reads a checkpoint's JSON files before transformers loads anything. docs/security.md lists what is defended against.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from bias_transfer.errors import UserError
from bias_transfer.models import checkpoint_faults

CONFIG, TOKENIZER, ADAPTER = "config.json", "tokenizer_config.json", "adapter_config.json"

KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
"""Keys of config.json that can name compiled code on the hub, as OWNER/NAME."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def check(model: str, revision: str | None) -> None:
    """Raises UserError for a checkpoint (a folder, or a hub id at a commit) that would run foreign code when it is loaded.

    Only JSON files are read. Missing or damaged files are left to transformers to report.
    """
    check_code(model, revision)
    folder = Path(model)
    if folder.is_dir():
        checkpoint_faults.check_files(folder)
    if folder.is_dir() and not [*folder.glob("*.safetensors")]:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            raise UserError(
                f"model {model!r} has its weights as a pickle ({pickles[0]}), which can run any code when it is opened. "
                f"Allowed: safetensors. {remedy(model)}"
            )


def remedy(model: str) -> str:
    """What can be done about weights in a pickle."""
    return f"If you trust the file, convert it: bias-transfer convert --from {model} --out FOLDER"


def check_code(model: str, revision: str | None) -> None:
    """The part of `check` that is not about the weights: code, and references to other checkpoints."""
    for name in (CONFIG, TOKENIZER):
        content = _json(model, revision, name)
        # Refused, although trust_remote_code is off: for a known model_type transformers would silently load its own class.
        if "auto_map" in content:
            raise UserError(
                f"model {model!r} asks for remote code ({name}: auto_map), and code that comes with a checkpoint is never "
                "run. Allowed: architectures of transformers itself. If this is one of them, remove auto_map and the .py files."
            )
        if kernels := [key for key in KERNELS if "/" in str(content.get(key) or "")]:
            raise UserError(
                f"model {model!r} asks for remote code ({name}: {kernels[0]}), and code from the hub is never run. Remove "
                "the key."
            )
    if _path(model, revision, ADAPTER):
        raise UserError(
            f"model {model!r} is an adapter of another checkpoint ({ADAPTER}), which would be loaded without being checked. "
            "Merge it into its base (peft: merge_and_unload, then save_pretrained), and use the merged folder."
        )


def _json(model: str, revision: str | None, name: str) -> dict[str, Any]:
    path = _path(model, revision, name)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _path(model: str, revision: str | None, name: str) -> str | None:
    """Path of the checkpoint's file; None if it has none, or if neither the hub nor its cache can say."""
    path: str | None = cached_file(
        model,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return path
