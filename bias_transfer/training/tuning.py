"""Which weights fine-tuning trains: all, the head alone, or the head and low-rank adapters. The only file with peft."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field
from torch import nn

from bias_transfer.models.language_model import POOLER
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.language_model import encoder_parameters
from bias_transfer.determinism import seeded
from bias_transfer.spec import Options
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError
from bias_transfer.errors import look_up
from bias_transfer.spec import parse
from bias_transfer.hashing import derive_seed

PROJECTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("bert", "electra", "roberta", "roberta-prelayernorm", "xlm-roberta"), ("query", "key", "value")),
    "deberta-v2": ("query_proj", "key_proj", "value_proj"),
    "distilbert": ("q_lin", "k_lin", "v_lin"),
    "modernbert": ("Wqkv",),
}
"""Family -> the layers that LoRA adapts: queries, keys and values, which ModernBERT has in one. Hu et al. 2021 (section 7.1)
adapt queries and values; all three here, so that families are treated alike (ours)."""


class LoraOptions(Options):
    """`tuning.NAME` for `tuning: lora` (Hu et al. 2021). Defaults are ours; it wants a higher learning rate than full."""

    rank: int = Field(default=8, ge=1)
    """r: of the update B A, which is 0 at first."""
    alpha: int = Field(default=16, ge=1)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of what the adapters read."""


TUNING: dict[str, type[Options]] = {"full": Options, "frozen": Options, "lora": LoraOptions}
"""Name -> its options."""


def options(trial: Trial) -> Options:
    """Raises UserError for an unknown name or option, with the nearest match."""
    kind = look_up(TUNING, trial.tuning or "full", "tuning")
    return parse(kind, trial.options_of("tuning"), "tuning.")


def check(model: LanguageModel, trial: Trial) -> None:
    """Raises UserError for LoRA on a family whose projections are not known, and for a rank above the model's width."""
    own = options(trial)
    if not isinstance(own, LoraOptions):
        return
    if model.family not in PROJECTIONS:
        raise UserError(
            f"tuning: lora: which layers of a model of the family {model.family!r} project its attention is not known. "
            f"Allowed: {', '.join(sorted(PROJECTIONS))}; or tuning: full or frozen."
        )
    width = int(model.masked_lm.config.hidden_size)
    if own.rank > width:
        raise UserError(f"tuning.rank: {own.rank}; the model is {width} wide. Allowed: 1 to {width}.")


@contextmanager
def trainable(model: LanguageModel, trial: Trial) -> Iterator[None]:
    """Within it, what requires a gradient is what the trial's tuning trains; afterwards all is as it was, with adapters
    merged into the encoder's weights, which both heads read.

    full: what the upstream arm left trainable (SentDebias's projection only if it is not `kept`). frozen, lora: nothing of
    the encoder, a projection included; the head always, with BERT's pooler. The adapters' first bits are drawn from a
    stream of the seed's own, so that arms share them. Raises UserError as `check` does.
    """
    own = options(trial)
    if trial.tuning is None:
        yield
        return
    check(model, trial)
    before = {weight: weight.requires_grad for weight in encoder_parameters(model).values()}
    for weight in before:
        weight.requires_grad_(False)
    if isinstance(own, LoraOptions):
        _add_adapters(model, own, derive_seed(trial.seed, "adapter"))
    try:
        yield
    finally:
        if isinstance(own, LoraOptions):
            _merge_adapters(model.encoder)
        for weight, wanted in before.items():
            weight.requires_grad_(wanted)


def _add_adapters(model: LanguageModel, own: LoraOptions, seed: int) -> None:
    import peft  # late: it takes seconds, and most trials do without

    head = [weight for name, weight in model.encoder.named_parameters() if name.startswith(POOLER)]
    config = peft.LoraConfig(
        r=own.rank,
        lora_alpha=own.alpha,
        lora_dropout=own.dropout,
        target_modules=_layers(model),
    )
    with seeded(seed):
        peft.inject_adapter_in_model(config, model.encoder)
    for weight in head:  # the pooler, which peft froze with the rest
        weight.requires_grad_(True)


def _layers(model: LanguageModel) -> list[str]:
    """Full names of the layers to adapt."""
    wanted = PROJECTIONS[model.family]
    return [name for name, _ in model.encoder.named_modules() if name.rpartition(".")[2] in wanted]


def _merge_adapters(encoder: Any) -> None:
    """Put W + alpha/r B A in the place of each adapted layer, whose own weight stays the same object."""
    from peft.tuners.lora import LoraLayer

    for name, layer in [(name, module) for name, module in encoder.named_modules() if isinstance(module, LoraLayer)]:
        layer.merge()
        parent, _, last = name.rpartition(".")
        merged: nn.Module = layer.get_base_layer()
        setattr(encoder.get_submodule(parent), last, merged)
    del encoder.peft_config
