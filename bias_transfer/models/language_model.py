"""One encoder under two heads: what an intervention does to it reaches the masked-LM and the classification head alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from bias_transfer.models import safety
from bias_transfer.models import hub
from bias_transfer.hashing import file_digest
from bias_transfer.errors import UserError
from bias_transfer.errors import first_line
from bias_transfer.hashing import derive_seed

BEHIND_THE_LAYERS = ("LayerNorm.", "final_norm.")
"""Encoder parameters that act after the last layer: the final norm of pre-norm architectures."""

POOLER = "pooler."
"""BERT's pooler is counted to the classification head: masked-LM checkpoints have none."""

FAMILIES = (
    "bert",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
)
"""Model types on which both heads and every arm are tested; another one is tried, and refused by what it lacks."""


@dataclass
class LanguageModel:
    """A pre-trained encoder with its masked-LM head and a fresh classification head."""

    tokenizer: Any
    masked_lm: Any
    classifier: Any

    @property
    def encoder(self) -> Any:
        """The one encoder that both heads read."""
        return self.masked_lm.base_model

    def to(self, device: str) -> LanguageModel:
        """Itself, moved."""
        self.masked_lm.to(device)
        self.classifier.to(device)
        return self

    @property
    def family(self) -> str:
        """The architecture's name in transformers."""
        return str(self.masked_lm.config.model_type)


def load(folder: str, revision: str | None, labels: int, seed: int) -> LanguageModel:
    """The model behind a folder or hub id, in fp32, with a classification head whose first bits depend on the seed alone.

    Raises UserError for a checkpoint without a masked-LM head, a damaged one, or one that asks for remote code.
    """
    masked_lm, tokenizer = load_masked_lm(folder, revision)
    with seeded(derive_seed(seed, "head")):
        config = AutoConfig.from_pretrained(folder, revision=revision, num_labels=labels, trust_remote_code=False)
        classifier = AutoModelForSequenceClassification.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    return LanguageModel(tokenizer, masked_lm, _share_encoder(masked_lm, classifier))


def load_masked_lm(folder: str, revision: str | None, need_head: bool = True) -> tuple[Any, Any]:
    """The masked LM in fp32 and its tokenizer; same errors as `load`. Without `need_head` a missing head is drawn anew."""
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    safety.check(folder, revision)
    try:
        with quiet():
            model, report = AutoModelForMaskedLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:  # each file of a foreign folder has its own way to be damaged
        raise UserError(f"model {folder!r} cannot be loaded: {first_line(error)}") from error
    missing = sorted({*report["missing_keys"], *(str(entry[0]) for entry in report["mismatched_keys"])})
    encoder = [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]
    if encoder or (missing and need_head):
        raise UserError(_incomplete(folder, missing, encoder))
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"model {folder!r} has a tokenizer without a mask token: upstream bias cannot be measured on it"
        )
    return model.eval(), tokenizer


def _incomplete(folder: str, missing: list[str], encoder: list[str]) -> str:
    if encoder:
        return f"model {folder!r} is damaged: {len(encoder)} weights of its encoder are missing or misshapen ({encoder[0]})"
    return (
        f"model {folder!r} has no masked-LM head ({', '.join(missing[:3])} are missing). Upstream bias is measured with it, "
        f"and random weights will not do. Give a checkpoint that has one, or train one: "
        f"python -m bias_transfer.pretrain --from {folder} --text FILE --steps N --out FOLDER"
    )


def _share_encoder(masked_lm: Any, classifier: Any) -> Any:
    encoder, fresh = masked_lm.base_model, classifier.base_model
    if getattr(fresh, "pooler", None) is not None and getattr(encoder, "pooler", None) is None:
        encoder.pooler = fresh.pooler
    setattr(classifier, classifier.base_model_prefix, encoder)
    return classifier.eval()


def encoder_parameters(model: LanguageModel) -> dict[str, nn.Parameter]:
    """The encoder's parameters by name: what upstream interventions may change. The pooler belongs to the head."""
    return {name: value for name, value in model.encoder.named_parameters() if not name.startswith(POOLER)}


def head_parameters(model: LanguageModel) -> dict[str, nn.Parameter]:
    """The masked-LM head's own parameters by name: not the embeddings that its output is tied to."""
    own = {id(value) for value in model.encoder.parameters()}
    return {name: value for name, value in model.masked_lm.named_parameters() if id(value) not in own}


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    """All that masked-LM training may change, by name."""
    return {name: value.detach() for name, value in model.masked_lm.named_parameters()}


@torch.no_grad()
def put_weights(model: LanguageModel, given: Mapping[str, torch.Tensor]) -> None:
    """Put them back, in place."""
    for name, value in model.masked_lm.named_parameters():
        value.copy_(given[name])


@torch.no_grad()
def check_length(model: LanguageModel, tokens: int) -> None:
    """Raises UserError for a family that does not run here, and for more tokens than the model has positions."""
    for head in (model.masked_lm, model.classifier):
        for count in (8, tokens) if head is not None else ():
            try:
                head(input_ids=torch.full((1, count), 5), attention_mask=torch.ones(1, count, dtype=torch.long))
            except Exception as error:  # each architecture raises its own
                most = getattr(model.masked_lm.config, "max_position_embeddings", "fewer")
                why = (
                    f"a model of the family {model.family!r} does not run here: {first_line(error)}"
                    if count == 8
                    else f"max_tokens: {tokens} is more than the model has positions for ({most}, special ones included)"
                )
                raise UserError(why) from error


def layer_names(model: LanguageModel) -> list[str]:
    """Prefixes of the transformer layers in the encoder, bottom first. Raises UserError if the family has no such list."""
    count = model.masked_lm.config.num_hidden_layers
    for name, module in model.encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [f"{name}.{index}." for index in range(count)]
    raise UserError(
        f"{model.family}: its layers share weights or are not a list, so that they cannot be reset one by one"
    )


def top(model: LanguageModel) -> Any:
    """The module whose output both heads read: the final norm of pre-norm architectures, else the last layer."""
    for name in BEHIND_THE_LAYERS:
        if hasattr(model.encoder, name.rstrip(".")):
            return getattr(model.encoder, name.rstrip("."))
    return model.encoder.get_submodule(layer_names(model)[-1].rstrip("."))


def padding_rows(encoder: nn.Module) -> dict[str, int]:
    """Name of an embedding's weight -> its row for padding, which stays 0."""
    return {
        f"{name}.weight": module.padding_idx
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None
    }


def encoder_digest(model: LanguageModel) -> str:
    """SHA-256 over the encoder's weights: equal exactly if no bit differs."""
    total = hashlib.sha256()
    for name, value in sorted(encoder_parameters(model).items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def identify(model: str) -> str:
    """The content of a checkpoint folder, or the commit of a hub id. Raises UserError with the nearest match."""
    path = Path(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"model {model!r}: the folder has no config.json, so it is no checkpoint")
        return folder_digest(path)
    if path.exists() or model[:1] in ("", ".", "/") or not hub.HUB_ID.fullmatch(model):
        what = "a file, not a folder." if path.exists() else "no folder here." + hub.did_you_mean(model)
        raise UserError(f"model {model!r} is {what} Allowed: tiny, a checkpoint's folder, or a hub id.")
    return hub.revision(model, "model")


def located(model: str, content: str) -> tuple[str, str | None]:
    """What transformers loads it by: (folder or hub name, commit)."""
    return (model, None) if Path(model).is_dir() else (model.partition("@")[0], content)


def checkpoint_files(folder: Path) -> list[Path]:
    """A checkpoint folder's weights, config and tokenizer."""
    return sorted(path for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".txt", ".model"})


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of `checkpoint_files`: not of where they lie."""
    parts = [[path.name, file_digest(path)] for path in checkpoint_files(folder)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generators at `seed`, and put them back afterwards: for library code that draws from them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Run torch with that many threads, and put the number back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' reports of loading and saving: what matters in them is checked and raised. May be nested."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
