"""How the pre-trained model becomes a classifier: which weights fine-tuning trains (all, the head alone, or the head and
low-rank adapters), or none, where a prompt asks it. The only file that imports peft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from bias_transfer.determinism import seeded
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models import continuations
from bias_transfer.models.language_model import POOLER, LanguageModel, encoder_parameters
from bias_transfer.spec import Options, Trial

PROJECTIONS: dict[str, tuple[str, ...]] = {
    # peft's own choice, which has no entry for OLMo 2.
    "gpt2": ("c_attn",),
    "gpt_neox": ("query_key_value",),
    **dict.fromkeys(("llama", "qwen2", "qwen3", "gemma", "mistral", "olmo2", "opt"), ("q_proj", "v_proj")),
    **dict.fromkeys(("bert", "electra", "roberta", "roberta-prelayernorm", "xlm-roberta"), ("query", "key", "value")),
    "deberta-v2": ("query_proj", "key_proj", "value_proj"),
    "distilbert": ("q_lin", "k_lin", "v_lin"),
    "modernbert": ("Wqkv",),
}
"""Family -> names of the layers that LoRA adapts. Encoders: queries, keys and values, which ModernBERT has in one layer. Hu et
al. 2021 (section 7.1) adapt queries and values; we adapt all three, so that encoders are treated alike (ours). Decoders: what
peft adapts by default, which is queries and values, or all three where they are one layer."""


class LoraOptions(Options):
    """`tuning.NAME` for `tuning: lora` (Hu et al. 2021). Defaults are ours; LoRA needs a higher learning rate than full."""

    rank: int = Field(default=8, ge=1)
    """r, the rank of the update B A, which is 0 at first."""
    alpha: int = Field(default=16, ge=1)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Rate of dropout on the adapters' inputs."""


class PromptOptions(Options):
    """`tuning.NAME` for `tuning: prompt`, which trains nothing (`training.prompt`). Defaults are ours."""

    shots: int = Field(default=2, ge=0)
    """k, the examples of the treated training set that stand before each text: k of each class in WIKI; in other tasks k in
    all, each of another class. 0: none."""
    shot_tokens: int = Field(default=64, ge=1)
    """Longer examples are cut."""
    chat: bool | Literal["auto"] = "auto"
    """Whether the model's own chat template is used, with the examples as turns; auto: if its tokenizer has one."""


TUNING: dict[str, type[Options]] = {
    "full": Options,
    "frozen": Options,
    "lora": LoraOptions,
    "prompt": PromptOptions,
}
"""Adaptation -> its options."""

NOTHING_TO_KEEP = "A trial with tuning: prompt trains nothing, so --keep-models stores no classifier of it."
"""What is said where both are asked for."""


def check(model: LanguageModel, options: Options) -> None:
    """Raises UserError for LoRA on a family that is not in PROJECTIONS, for a rank above the model's width, and for a prompt on
    a model that cannot answer one."""
    if isinstance(options, PromptOptions):
        _check_answers(model)
    if not isinstance(options, LoraOptions):
        return
    if model.family not in PROJECTIONS:
        raise UserError(
            f"tuning: lora: the attention projections of a model of the family {model.family!r} are not known. "
            f"Allowed: {', '.join(sorted(PROJECTIONS))}; or tuning: full or frozen."
        )
    width = int(model.lm.config.hidden_size)
    if options.rank > width:
        raise UserError(f"tuning.rank: {options.rank}; the model's width is {width}. Allowed: 1 to {width}.")


def _check_answers(model: LanguageModel) -> None:
    if model.kind == "masked":
        raise UserError(
            f"tuning: prompt: a prompt asks a causal language model, and this one, of the family {model.family!r}, is masked. "
            "Allowed for it: full, frozen, lora."
        )
    continuations.check(model.lm, model.family)


@contextmanager
def trainable(model: LanguageModel, options: Options, trial: Trial) -> Iterator[None]:
    """Within the context, exactly the weights that the trial's adaptation trains require a gradient.

    full: the head, and everything in the encoder that the upstream arm left trainable (SentDebias's projection only without
    `kept`). frozen, lora: the head with BERT's pooler, and nothing of the encoder, a projection included; lora adds adapters.
    On leaving, flags are restored and adapters are merged into the encoder's weights, which both heads read. The adapters'
    initial bits are drawn from a random stream of their own, so that arms share them. Raises UserError as `check` does.
    """
    if trial.tuning is None:
        yield
        return
    check(model, options)
    before = {weight: weight.requires_grad for weight in encoder_parameters(model).values()}
    for weight in before:
        weight.requires_grad_(False)
    if isinstance(options, LoraOptions):
        _add_adapters(model, options, derive_seed(trial.seed, "adapter"))
    try:
        yield
    finally:
        if isinstance(options, LoraOptions):
            _merge_adapters(model.encoder)
        for weight, required in before.items():
            weight.requires_grad_(required)


def trained(model: LanguageModel, trial: Trial) -> dict[str, torch.Tensor]:
    """Within `trainable`, what has to be kept of a fine-tuned classifier, by name, on the CPU.

    full: all its weights, since the upstream arm may have changed any of them. frozen, lora: those that train.
    """
    weights = model.classifier.state_dict() if trial.tuning is None else _training(model)
    return {name: value.detach().cpu() for name, value in weights.items()}


@torch.no_grad()
def put_trained(model: LanguageModel, values: Mapping[str, torch.Tensor]) -> None:
    """Within `trainable` of frozen or lora, load `values`, as `trained` returns them, into the classifier, in place."""
    for name, weight in _training(model).items():
        weight.copy_(values[name])


def _training(model: LanguageModel) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.classifier.named_parameters() if weight.requires_grad}


def kept_weights(config: Any, trial: Trial, options: Options) -> int:
    """How many weights `trained` returns for a model of this configuration, without loading it; none for a prompt."""
    if isinstance(options, PromptOptions):
        return 0
    with torch.device("meta"):
        classifier = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    if trial.tuning is None:
        return int(sum(weight.numel() for weight in classifier.parameters()))
    encoder = {id(w) for name, w in classifier.base_model.named_parameters() if not name.startswith(POOLER)}
    count = int(sum(weight.numel() for weight in classifier.parameters() if id(weight) not in encoder))
    if isinstance(options, LoraOptions):
        names = PROJECTIONS[config.model_type]
        layers = [layer for name, layer in classifier.named_modules() if name.rpartition(".")[2] in names]
        count += options.rank * sum(int(sum(layer.weight.shape)) for layer in layers)
    return count


def _add_adapters(model: LanguageModel, options: LoraOptions, seed: int) -> None:
    import peft  # here, since importing it takes seconds and most trials do without

    head = [weight for name, weight in model.encoder.named_parameters() if name.startswith(POOLER)]
    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=_layers(model),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in model.encoder.modules()),
    )
    with seeded(seed):
        peft.inject_adapter_in_model(config, model.encoder)
    for weight in head:  # peft froze the pooler along with everything else
        weight.requires_grad_(True)


def _layers(model: LanguageModel) -> list[str]:
    """Full names of the layers to adapt."""
    projections = PROJECTIONS[model.family]
    return [name for name, _ in model.encoder.named_modules() if name.rpartition(".")[2] in projections]


def _merge_adapters(encoder: Any) -> None:
    """Replace each adapted layer by a plain one with the weight W + alpha/r B A, in the same parameter object as W."""
    from peft.tuners.lora import LoraLayer

    for name, layer in [(name, module) for name, module in encoder.named_modules() if isinstance(module, LoraLayer)]:
        layer.merge()
        parent, _, last = name.rpartition(".")
        merged: nn.Module = layer.get_base_layer()
        setattr(encoder.get_submodule(parent), last, merged)
    del encoder.peft_config
