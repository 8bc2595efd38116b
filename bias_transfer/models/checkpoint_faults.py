"""What a checkpoint can lack, and what is given in place of one: asked before the first trial, and said in one sentence."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch

from bias_transfer.errors import UserError

POINTER = b"version https://git-lfs"
"""How a file begins that git-lfs has not fetched."""

OURS = {"output_hidden_states": False, "output_attentions": False, "return_dict": True, "chunk_size_feed_forward": 0}
"""Keys of config.json that change what a forward pass returns, or on which lengths it runs, and not the model. They are ours: a
checkpoint is read as if it did not set them."""

HEADS = {
    "ForSequenceClassification": "a fine-tuned classifier",
    "ForTokenClassification": "a fine-tuned tagger",
    "ForQuestionAnswering": "a fine-tuned question answerer",
    "ForMultipleChoice": "a model fine-tuned for multiple choice",
    "ForNextSentencePrediction": "a model fine-tuned for next-sentence prediction",
}
"""End of an architecture's name -> what such a checkpoint is."""

LARGE = (".json", ".safetensors", ".txt", ".model", ".spm", ".bpe")
"""Suffixes of files that git-lfs may hold and that are read: no pickle is opened to look at it."""

MODULES = "modules.json"
"""The file by which sentence-transformers lists the parts of a model."""


def neutral(config: Any) -> Any:
    """The configuration with `OURS`, in place."""
    for name, value in OURS.items():
        if hasattr(config, name) or name == "return_dict":
            setattr(config, name, value)
    return config


def no_checkpoint(folder: Path) -> str:
    """The message for a folder without a config.json: what it is, and which folder in it is a checkpoint."""
    problem = f"model {str(folder)!r} is a folder without a config.json, so it is not a checkpoint."
    inner = [path.parent for path in folder.glob("*/config.json")]
    saved = sorted((path for path in inner if re.fullmatch(r"checkpoint-\d+", path.name)), key=_step)
    if saved:
        listed = ", ".join(path.name for path in saved)
        return f"{problem} It is the output folder of a Trainer: name a checkpoint in it ({listed}), as in model={saved[-1]}."
    if (folder / MODULES).is_file() and (parts := [path for path in inner if "Pooling" not in path.name]):
        return (
            f"{problem} It is a model of sentence-transformers, whose encoder is in {parts[0].name}: model={parts[0]}."
        )
    others = f" There is one in {', '.join(sorted(str(path) for path in inner)[:5])}." if inner else ""
    return f"{problem}{others}"


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def check_files(folder: Path) -> None:
    """Raises UserError for files of a folder that git-lfs has not fetched."""
    for path in sorted(folder.glob("*")):
        if path.suffix in LARGE and path.is_file() and _beginning(path) == POINTER:
            raise UserError(
                f"model {str(folder)!r}: {path.name} is a git-lfs pointer and not the file itself. Fetch the files: run "
                "'git lfs install' and 'git lfs pull' in the folder."
            )


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(POINTER))


def check_weights(model: str, lm: Any) -> None:
    """Raises UserError for a weight that is not a finite number."""
    for name, weight in lm.named_parameters():
        # The sum alone is fast; it may overflow where all weights are finite.
        if not math.isfinite(float(weight.detach().sum())) and not bool(torch.isfinite(weight).all()):
            count = int((~torch.isfinite(weight)).sum())
            raise UserError(
                f"model {model!r} is damaged: {count} of its weights in {name} are NaN or infinite. Its training diverged, or "
                "the file was not written whole. Use another checkpoint."
            )


def check_tokenizer(model: str, tokenizer: Any, rows: int, masked: bool) -> None:
    """Raises UserError for a tokenizer without words, and for one that has tokens without a row of the embeddings.

    rows: of the embeddings. Special tokens without one are let be, except those that stand around texts or pad them.
    """
    added = {token.content for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    special = {*tokenizer.all_special_tokens} | added
    words = {token: index for token, index in tokenizer.get_vocab().items() if token not in special}
    if not words:
        raise UserError(
            f"model {model!r} has no tokenizer: there are special tokens alone. Save the model's own next to its weights: "
            "tokenizer.save_pretrained."
        )
    names = ("pad", "cls", "sep", "mask", "unk") if masked else ("pad",)
    used = {name: getattr(tokenizer, f"{name}_token_id", None) for name in names}
    beyond = [token for token, index in (words | used).items() if index is not None and index >= rows]
    if beyond:
        raise UserError(
            f"model {model!r} has a tokenizer with more tokens ({len(tokenizer)}) than the model has embeddings ({rows}): "
            f"{len(beyond)} of them cannot be read. Save the model's own tokenizer, or enlarge the model: "
            "model.resize_token_embeddings(len(tokenizer))."
        )


def kind_of_head(config: Any) -> tuple[str, str] | None:
    """(architecture, what it is) of a checkpoint that was fine-tuned with another head than a language model's; else None."""
    for architecture in getattr(config, "architectures", None) or ():
        for ending, name in HEADS.items():
            if str(architecture).endswith(ending):
                return str(architecture), name
    return None


def what_it_is(model: str, config: Any) -> str:
    """' It is ...' for a checkpoint that has no language-model head; empty where nothing says why."""
    if head := kind_of_head(config):
        return f" It is {head[1]} ({head[0]}), whose own head would be dropped."
    if Path(model, MODULES).is_file() or Path(model, "config_sentence_transformers.json").is_file():
        return " It is a model of sentence-transformers, which is an encoder alone."
    return ""


def dropped(model: str, config: Any) -> tuple[str, ...]:
    """What is said of a checkpoint that was fine-tuned with a head which is not read."""
    head = kind_of_head(config)
    if head is None:
        return ()
    return (
        f"model {model!r} is {head[1]} ({head[0]}): its head is dropped, and a new one is trained. Its encoder was fine-tuned "
        "before, so it is not the pre-trained model.",
    )
