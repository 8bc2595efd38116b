"""What a checkpoint from elsewhere may not ask for: code that comes with it, weights as a pickle, another checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from bias_transfer.errors import UserError

CONFIG, TOKENIZER, ADAPTER = "config.json", "tokenizer_config.json", "adapter_config.json"

KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
"""Keys of config.json that can name compiled code on the hub, as OWNER/NAME."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def check(model: str, revision: str | None) -> None:
    """Raises UserError for a checkpoint (a folder, or a hub id at a commit) that only foreign code could read.

    Nothing is read but its JSON files. What it lacks, or has damaged, is the loader's to tell.
    """
    for name in (CONFIG, TOKENIZER):
        content = _json(model, revision, name)
        if "auto_map" in content:
            raise UserError(
                f"model {model!r} asks for remote code ({name}: auto_map), and code that comes with a checkpoint is never "
                f"run. Allowed: architectures of transformers itself; where this is one, remove auto_map and the .py files."
            )
        if kernels := [key for key in KERNELS if "/" in str(content.get(key) or "")]:
            raise UserError(
                f"model {model!r} asks for remote code ({name}: {kernels[0]}), and code from the hub is never run. Remove "
                f"the key."
            )
    if _file(model, revision, ADAPTER):
        raise UserError(
            f"model {model!r} is an adapter of another checkpoint ({ADAPTER}), which would be loaded beside it unseen. "
            f"Merge it into its base (peft: merge_and_unload, then save_pretrained), and give the merged folder."
        )
    folder = Path(model)
    if folder.is_dir() and not [*folder.glob("*.safetensors")] and (found := _pickles(folder)):
        raise UserError(
            f"model {model!r} has its weights as a pickle ({found[0]}), which can run any code when it is opened, and is "
            f"not opened. Allowed: safetensors. Where you trust it, convert it: from_pretrained, then save_pretrained."
        )


def _pickles(folder: Path) -> list[str]:
    return sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))


def _json(model: str, revision: str | None, name: str) -> dict[str, Any]:
    path = _file(model, revision, name)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _file(model: str, revision: str | None, name: str) -> str | None:
    """The file's place; None where there is none, or the hub and its cache cannot say."""
    found: str | None = cached_file(
        model,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return found
