"""Weights in PyTorch's pickles (pytorch_model.bin), rewritten as safetensors: the only place that opens such a file, and only
for the command that asks for it.

torch opens it with `weights_only=True`, which builds tensors and containers of them and refuses every other object. No name and
no value of a tensor changes: transformers itself reads old names such as `LayerNorm.gamma` from either format.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file

from bias_transfer.errors import UserError, first_line
from bias_transfer.models import gguf, hub, language_model, safety

WEIGHTS, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

CARD = "README.md"
"""It has the license."""

TEXTS = tuple(suffix for suffix in hub.CHECKPOINT_SUFFIXES if suffix != ".safetensors")
"""Suffixes of configuration and tokenizer."""

FORMAT = {"format": "pt"}
"""Metadata without which transformers refuses a file."""


def source(model: str) -> Path:
    """The folder of a checkpoint. Of a hub id only pickled weights, configuration, tokenizer and model card are downloaded.

    Raises UserError for a name that is neither, and where the hub cannot be reached and its cache lacks the files.
    """
    if Path(model).is_dir():
        return Path(model)
    if gguf.file_of(model):
        raise UserError(f"--from {model} is a GGUF file, which needs no conversion. Use it as it is: model={model}")
    commit = hub.identify(model)
    repository = model.partition("@")[0]
    try:
        with language_model.quiet():
            return Path(
                snapshot_download(
                    repository,
                    revision=commit,
                    allow_patterns=["pytorch_model*.bin", CARD, *(f"*{suffix}" for suffix in TEXTS)],
                    ignore_patterns=["*/*"],
                )
            )
    except Exception as error:  # whatever the transport in use raises
        raise UserError(
            f"--from {model}: its files cannot be downloaded ({type(error).__name__}). Where the hub cannot be reached, copy "
            "the repository's folder here, and name it: --from FOLDER."
        ) from error


def convert(folder: Path, target: Path) -> None:
    """Write the checkpoint of `folder` with its weights as safetensors into the empty folder `target`; a shard becomes a file.

    Raises UserError for a folder without such weights, for weights that are more than tensors or damaged, and for a result
    that is no checkpoint of a language model which the project loads, with or without its head.
    """
    safety.check_code(str(folder), None)
    shards = _shards(folder)
    copied = [path for path in (*hub.checkpoint_files(folder), folder / CARD) if path.is_file() and path.name != INDEX]
    for path in copied:
        shutil.copyfile(path, target / path.name)
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = _tensors(folder / shard)
        # Tied weights share their memory, which the format does not have: each name gets its own copy.
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, target / name, FORMAT)
        places |= dict.fromkeys(tensors, name)
    if len(shards) > 1:
        size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    try:
        language_model.load_lm(str(target), None, need_head=False)
    except UserError as error:
        raise UserError(str(error).replace(str(target), str(folder))) from error


def _shards(folder: Path) -> list[str]:
    """Names of the files with the weights. Raises UserError if there are none, and for a name that leaves the folder."""
    if [*folder.glob("*.safetensors")]:
        raise UserError(f"--from {folder} has its weights as safetensors already. Use it as it is: model={folder}")
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if not (folder / INDEX).is_file():
        raise UserError(f"--from {folder} has neither {WEIGHTS} nor {INDEX}, so there is nothing to convert.")
    try:
        names = sorted(
            {str(name) for name in json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--from {folder}: {INDEX} is damaged ({type(error).__name__}).") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(f"--from {folder}: {INDEX} names {name!r}, which is not a file of this folder.")
    return names


def _tensors(file: Path) -> Mapping[str, torch.Tensor]:
    """The tensors in a file by name. Raises UserError for anything else in it."""
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where the damage is
        if needed := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{file} needs more than tensors to be opened ({needed[1]}), which could run any code: it is not converted."
            ) from error
        raise UserError(f"{file} cannot be opened as a file of tensors alone: {first_line(error)[:200]}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{file} holds a {type(content).__name__} and not tensors by name: it is not converted.")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(
                f"{file} holds more than tensors ({name!r} is a {type(value).__name__}): it is not converted."
            )
    return content
