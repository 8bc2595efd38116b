"""A pre-trained encoder or decoder under two heads, language-model and classification, which share it as one object.

An intervention that edits it therefore reaches both: upstream bias, which is measured with the language-model head (masked or
causal), and downstream bias, which is measured with the classification head. "Encoder" in names means either kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging

from bias_transfer.determinism import seeded
from bias_transfer.errors import UserError, first_line
from bias_transfer.hashing import derive_seed
from bias_transfer.models import checkpoint_faults, last_token, safety, start_token
from bias_transfer.models.batching import MOST_TOKENS, encode, pad
from bias_transfer.models.causal_head import CausalLMHead
from bias_transfer.models.lm_head import LMHead
from bias_transfer.models.masked_head import MaskedLMHead

Kind = Literal["masked", "causal"]

AUTO: dict[Kind, Any] = {"masked": AutoModelForMaskedLM, "causal": AutoModelForCausalLM}
"""Kind of language model -> transformers' table of its architectures."""

HEADS: dict[Kind, type[MaskedLMHead] | type[CausalLMHead]] = {"masked": MaskedLMHead, "causal": CausalLMHead}
"""Kind of language model -> what answers metrics."""

FINAL_NORMS = (
    "LayerNorm.",
    "final_norm.",
    "ln_f.",
    "norm.",
    "final_layer_norm.",
    "decoder.final_layer_norm.",
)
"""Prefixes of the encoder parameters that act after the last layer: the final norm of pre-norm architectures."""

POOLER = "pooler."
"""Prefix of BERT's pooler, which counts as a part of the classification head: masked-LM checkpoints have none."""

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
"""Model types of transformers with a masked LM on which both heads and every arm are tested. Other types are not refused by
name: they are tried, and whatever they lack raises an error."""

CAUSAL_FAMILIES = ("gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "gemma", "mistral", "olmo2", "opt")
"""The same with a causal LM: both heads, an arm, LoRA and checkpoints are tested on each, and every arm on one of them."""


@dataclass
class LanguageModel:
    """A pre-trained encoder or decoder with its language-model head and a freshly initialised classification head.

    tokenizer, lm and classifier are objects of transformers; both models have the same encoder object.
    """

    tokenizer: Any
    lm: Any
    classifier: Any
    kind: Kind = "masked"
    pretraining: Sequence[str] | None = None
    """The text on which it was pre-trained here; None for a checkpoint from elsewhere, whose text is not at hand."""
    remarks: tuple[str, ...] = ()
    """What a reader of results must know about the checkpoint."""

    @property
    def head(self) -> LMHead:
        """The language-model head, as metrics ask it."""
        return HEADS[self.kind](self.tokenizer, self.lm)

    @property
    def encoder(self) -> Any:
        """The encoder that both heads read."""
        return self.lm.base_model

    def to(self, device: str) -> LanguageModel:
        """Move both heads and the encoder to the device, in place; returns the model itself."""
        self.lm.to(device)
        self.classifier.to(device)
        return self

    @property
    def family(self) -> str:
        """The architecture's name in transformers."""
        return str(self.lm.config.model_type)


def load(folder: str, revision: str | None, labels: int, seed: int, start: str | None = None) -> LanguageModel:
    """Load the model of a folder or hub id in fp32, with a classification head whose initial bits depend on the seed alone.

    revision: the commit of a hub id, None for a folder; labels: classes of the classification head; start: as in `load_lm`.
    Raises UserError for a checkpoint that has no language-model head, is damaged, or asks for remote code.
    """
    model = load_lm(folder, revision, start=start)
    with seeded(derive_seed(seed, "head")):
        config = checkpoint_faults.neutral(
            AutoConfig.from_pretrained(folder, revision=revision, num_labels=labels, trust_remote_code=False)
        )
        try:
            classifier = AutoModelForSequenceClassification.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
        except ValueError as error:
            raise UserError(
                f"transformers has no classification head for a model of the family {model.family!r}."
            ) from error
    return _with_classifier(model, classifier)


def config_of(folder: str, revision: str | None) -> Any:
    """The configuration of a folder or hub id. Raises UserError as `load` does."""
    safety.check(folder, revision)
    try:
        return AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise UserError(f"model {folder!r} cannot be loaded: {first_line(error)}") from error


def blank(folder: str, seed: int = 0, start: str | None = None) -> LanguageModel:
    """A model by the configuration and tokenizer in a folder, whose weights are random: they are still to be loaded.

    start: as in `load_lm`.
    """
    safety.check(folder, None)
    with seeded(seed), quiet():
        config = checkpoint_faults.neutral(AutoConfig.from_pretrained(folder, trust_remote_code=False))
        kind = _kind(config)
        lm, classifier = (
            table.from_config(config, dtype=torch.float32, trust_remote_code=False)
            for table in (AUTO[kind], AutoModelForSequenceClassification)
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = LanguageModel(tokenizer, lm.eval(), None, kind)
    if kind == "causal":
        start_token.put(tokenizer, start, lm.config.vocab_size)
    return _with_classifier(model, classifier)


def tokenizer_at_hand(model: str) -> Any:
    """The tokenizer of a folder, or of a hub id in the local cache, without its weights; None if there is none to be had so."""
    if model == "tiny":
        return None
    try:
        safety.check(model, None)
        with quiet():
            return AutoTokenizer.from_pretrained(model, trust_remote_code=False, local_files_only=True)
    except Exception:  # a GGUF file, a hub id that is not cached, a folder without a tokenizer
        return None


def load_lm(folder: str, revision: str | None, need_head: bool = True, start: str | None = None) -> LanguageModel:
    """Load the language model in fp32 and its tokenizer, without a classifier. Raises UserError as `load` does.

    need_head: if false, a language-model head that the checkpoint lacks is initialised at random, from torch's global
    generator. start: the token that a causal model reads before every text (`start_token.put`).
    """
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    safety.check(folder, revision)
    try:
        with quiet():
            config = checkpoint_faults.neutral(AutoConfig.from_pretrained(folder, **options))
            kind = _kind(config)
            lm, report = AUTO[kind].from_pretrained(
                folder, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
            )
    except Exception as error:  # every file of a checkpoint can be damaged in its own way
        # A folder's pickles are found without transformers; what a hub repository has is known only now.
        if isinstance(error, OSError) and "`safetensors`" in str(error):
            raise UserError(f"model {folder!r} has no weights as safetensors. {safety.remedy(folder)}") from error
        raise UserError(f"model {folder!r} cannot be loaded: {first_line(error)}") from error
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:
        raise UserError(
            f"model {folder!r} cannot be loaded: it has no tokenizer, or a damaged one ({first_line(error)}). Save the model's "
            "tokenizer next to its weights: tokenizer.save_pretrained."
        ) from error
    missing = sorted({*report["missing_keys"], *(str(entry[0]) for entry in report["mismatched_keys"])})
    encoder = [name for name in missing if name.startswith(f"{lm.base_model_prefix}.")]
    if encoder or (missing and need_head):
        raise UserError(_incomplete(folder, kind, missing, encoder, config))
    checkpoint_faults.check_weights(folder, lm)
    checkpoint_faults.check_tokenizer(folder, tokenizer, lm.get_input_embeddings().num_embeddings, kind == "masked")
    model = LanguageModel(tokenizer, lm.eval(), None, kind, remarks=checkpoint_faults.dropped(folder, config))
    if kind == "causal":
        start_token.put(tokenizer, start, lm.config.vocab_size)
    elif tokenizer.mask_token_id is None:
        raise UserError(
            f"model {folder!r} has a tokenizer without a mask token, so upstream bias cannot be measured on it. "
            "Allowed: checkpoints of masked or causal language models, with their own tokenizers."
        )
    elif start is not None:
        raise UserError(
            f"model.start_token: {folder!r} is a masked language model, whose tokenizer alone decides what stands around a "
            "text. Leave the option out."
        )
    return model


def _kind(config: Any) -> Kind:
    """Masked where transformers has a masked LM of that architecture (it has causal LMs of most of them too), else causal.

    Raises ValueError for an architecture of which it has neither.
    """
    for kind, auto in AUTO.items():
        if type(config) in auto._model_mapping:
            return kind
    raise ValueError(f"transformers has neither a masked nor a causal language model of the type {config.model_type!r}")


def _forget_padding_rows(decoder: nn.Module) -> None:
    """No row of a causal model's embeddings is one of padding, whose id may be that of the start token: padding is told by the
    attention mask, and every row is trained and perturbed like the others."""
    for module in decoder.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None


def _incomplete(folder: str, kind: Kind, missing: list[str], encoder: list[str], config: Any) -> str:
    if encoder:
        return (
            f"model {folder!r} is damaged: {len(encoder)} weights of its encoder are missing or have the wrong shape "
            f"({encoder[0]}). Download or save the checkpoint again."
        )
    what = checkpoint_faults.what_it_is(folder, config)
    return (
        f"model {folder!r} has no {kind}-LM head ({', '.join(missing[:3])} are missing).{what} Upstream bias is measured with "
        f"the head, and a random one would measure nothing. Use a checkpoint that has a head, or train one: "
        f"bias-transfer pretrain --from {folder} --text FILE --steps N --out FOLDER"
    )


def _with_classifier(model: LanguageModel, classifier: Any) -> LanguageModel:
    """The model, with the classification head of a stock classifier on its own encoder, in place."""
    model.classifier = _share_encoder(model.lm, classifier)
    if model.kind == "causal":
        last_token.pool_last_token(model.classifier)
        _forget_padding_rows(model.encoder)
    return model


def _share_encoder(lm: Any, classifier: Any) -> Any:
    """The classifier, with the language model's encoder in the place of its own; the encoder keeps the classifier's pooler."""
    encoder, fresh = lm.base_model, classifier.base_model
    if getattr(fresh, "pooler", None) is not None and getattr(encoder, "pooler", None) is None:
        encoder.pooler = fresh.pooler
    setattr(classifier, classifier.base_model_prefix, encoder)
    return classifier.eval()


def encoder_parameters(model: LanguageModel) -> dict[str, nn.Parameter]:
    """The encoder's parameters by name, which upstream interventions may change. The pooler belongs to the head."""
    return {name: value for name, value in model.encoder.named_parameters() if not name.startswith(POOLER)}


def head_parameters(model: LanguageModel) -> dict[str, nn.Parameter]:
    """The parameters of the language-model head alone, by name, without embeddings that its output weights are tied to."""
    shared = {id(value) for value in model.encoder.parameters()}
    return {name: value for name, value in model.lm.named_parameters() if id(value) not in shared}


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    """All weights that language-model training may change, by name, detached but not copied."""
    return {name: value.detach() for name, value in model.lm.named_parameters()}


@torch.no_grad()
def put_weights(model: LanguageModel, values: Mapping[str, torch.Tensor]) -> None:
    """Load `values`, as `weights` returns them, into the model, in place."""
    for name, weight in model.lm.named_parameters():
        weight.copy_(values[name])


@torch.no_grad()
def check_length(model: LanguageModel, tokens: int) -> None:
    """Run both heads on a text of that many tokens.

    Raises UserError for an architecture that does not run at all, and for more tokens than the model has positions.
    """
    positions = getattr(model.lm.config, "max_position_embeddings", None)
    # A model with rotary positions runs on longer texts as well, of which it has learned nothing.
    if model.kind == "causal" and positions is not None and tokens > positions:
        raise UserError(f"max_tokens: {tokens} exceeds the model's positions ({positions}, special tokens included)")
    for head in (model.lm, model.classifier):
        # Eight tokens fit any model: if even they fail, the length is not to blame.
        for count in (8, tokens) if head is not None else ():
            try:
                head(input_ids=torch.full((1, count), 5), attention_mask=torch.ones(1, count, dtype=torch.long))
            except Exception as error:  # every architecture raises its own error
                problem = (
                    f"a model of the family {model.family!r} cannot be run: {first_line(error)}"
                    if count == 8
                    else f"max_tokens: {tokens} exceeds the model's positions ({positions or 'fewer'}, special tokens included)"
                )
                raise UserError(problem) from error


@torch.no_grad()
def check_sentences(model: LanguageModel, texts: Sequence[str]) -> None:
    """Run the language model on the longest text. Raises UserError if it has more tokens than the model has positions."""
    if model.tokenizer is None or not texts:
        return
    rows = encode(
        model.tokenizer, [text.replace("{mask}", model.tokenizer.mask_token or "it") for text in texts], MOST_TOKENS
    )
    longest = max(rows, key=len)
    try:
        model.lm(
            **{name: value.to(model.lm.device) for name, value in pad([longest], model.tokenizer.pad_token_id).items()}
        )
    except Exception as error:  # every architecture raises its own error
        positions = getattr(model.lm.config, "max_position_embeddings", None)
        raise UserError(
            f"a sentence of the upstream measures has {len(longest)} tokens, special tokens included, which exceeds the "
            f"model's positions ({positions or 'fewer'}). Use a model with more positions, or shorter templates."
        ) from error


def layer_names(model: LanguageModel) -> list[str]:
    """Name prefixes of the encoder's transformer layers ("encoder.layer.0."), bottom first.

    Raises UserError for an architecture whose layers are not a list, or share weights.
    """
    count = model.lm.config.num_hidden_layers
    for name, module in model.encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [f"{name}.{index}." for index in range(count)]
    raise UserError(
        f"a model of the family {model.family!r} has layers that share weights or are not a list: they cannot be told apart"
    )


def top(model: LanguageModel) -> Any:
    """The module whose output both heads read: the final norm of pre-norm architectures, else the last layer."""
    modules = dict(model.encoder.named_modules())
    for name in FINAL_NORMS:
        if name.rstrip(".") in modules:
            return modules[name.rstrip(".")]
    return model.encoder.get_submodule(layer_names(model)[-1].rstrip("."))


def padding_rows(encoder: nn.Module) -> dict[str, int]:
    """Name of an embedding's weight -> the index of its padding row, which interventions leave at 0."""
    return {
        f"{name}.weight": module.padding_idx
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None
    }


def encoder_digest(model: LanguageModel) -> str:
    """SHA-256 over the names and bytes of the encoder's weights: equal if and only if no bit differs."""
    total = hashlib.sha256()
    for name, value in sorted(encoder_parameters(model).items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' reports on loading and saving, whose contents are checked by the caller. May be nested."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
