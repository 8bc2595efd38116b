"""Language-model pre-training, masked or causal, from scratch or continued: `model: tiny`, the arm `inject`, and heads for
checkpoints without one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Config, PretrainedConfig, PreTrainedTokenizerFast, RobertaPreLayerNormConfig

from bias_transfer.console import Report
from bias_transfer.determinism import seeded, using_threads
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed, digest, text_digest
from bias_transfer.models import start_token
from bias_transfer.models.batching import Tokens, pad
from bias_transfer.models.language_model import AUTO, Kind, LanguageModel, load_lm, quiet
from bias_transfer.spec import Options
from bias_transfer.storage import cache, fingerprint
from bias_transfer.training import optimizer
from bias_transfer.training.sampling import train_batches

MASKED = 0.15
"""Share of tokens to predict: 80 % of them masked, 10 % random, 10 % unchanged (Devlin et al. 2019, section 3.1)."""

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""In RoBERTa's order, so that its default ids fit; the mask token follows them."""

FINETUNING_RATE = 1e-3
"""Peak learning rate for fine-tuning `tiny` by default (ours)."""


class TinyOptions(Options):
    """`model.NAME` for `model: tiny`, a small language model that is pre-trained on the task's own text."""

    steps: int = Field(default=1500, ge=1)
    tokens_per_step: int = Field(default=1200, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    max_tokens: int = Field(default=32, ge=8, le=512)
    width: int = Field(default=128, ge=8, multiple_of=4)
    layers: int = Field(default=2, ge=1)
    vocabulary: int = Field(default=8000, ge=300)
    seed: int = Field(default=0, ge=0)
    """Seed of pre-training, separate from the trial's: trials with different seeds fine-tune the same model."""
    threads: int = Field(default=1, ge=1)
    """CPU threads. Two are no faster at this size, and much slower on a busy machine."""
    kind: Kind | None = None
    """causal: a decoder that learns to predict the next token; None, like `masked`: an encoder that learns to fill masks."""

    @field_validator("kind")
    @classmethod
    def _masked_is_not_set(cls, kind: Kind | None) -> Kind | None:
        return None if kind == "masked" else kind  # so that `masked` has the id of a trial that says nothing


class ModelOptions(Options):
    """`model.NAME` for a model from elsewhere."""

    start_token: str | None = None
    """The token that a causal model reads before every text, or `none`; None: the one that pre-training put between documents,
    as far as its tokenizer tells (`models.start_token`). It is recorded with the result."""


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A lower-casing byte-level BPE tokenizer of at most `vocabulary` entries, the same for the same texts."""
    # Not WordPiece: its trainer breaks ties by the order of a hash map, so that two runs gave two vocabularies.
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            special_tokens=[*SPECIAL, AddedToken("<mask>", lstrip=True, special=True)],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    start, end = (("<s>", 0), ("</s>", 2))
    tokenizer.post_processor = processors.RobertaProcessing(end, start, trim_offsets=True, add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", pad_token="<pad>", eos_token="</s>",
        sep_token="</s>", unk_token="<unk>", mask_token=AddedToken("<mask>", lstrip=True), model_max_length=512,
    )  # fmt: skip


def tiny_config(vocabulary: int, options: TinyOptions) -> PretrainedConfig:
    """The configuration of `tiny`: pre-norm, without dropout, with initial weights of SD 1 / sqrt(width)."""
    # With the usual SD of 0.02 so small a model stays on a plateau.
    if options.kind == "causal":
        return GPT2Config(
            vocab_size=vocabulary, n_embd=options.width, n_layer=options.layers, n_head=4, n_positions=514,
            initializer_range=options.width**-0.5, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0,
            eos_token_id=2, pad_token_id=1,
        )  # fmt: skip
    return RobertaPreLayerNormConfig(
        vocab_size=vocabulary, hidden_size=options.width, num_hidden_layers=options.layers,
        num_attention_heads=4, intermediate_size=4 * options.width, max_position_embeddings=514,
        type_vocab_size=1, initializer_range=options.width**-0.5, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip


def segments(tokenizer: Any, texts: Sequence[str], length: int) -> Tokens:
    """All tokens of the texts in rows of at most `length`, special tokens around each row included; empty rows are dropped."""
    encoded = tokenizer(list(texts), truncation=True, max_length=length, stride=0, return_overflowing_tokens=True)
    return [row for row in encoded["input_ids"] if len(row) > 3]


def corrupt(ids: torch.Tensor, special: torch.Tensor, mask: int, vocabulary: int, generator: torch.Generator) -> Any:
    """(inputs, targets) for masked-LM training, both (rows, tokens), int64; a target is -100 where nothing is predicted.

    ids, special: (rows, tokens); special is true for tokens that are never predicted. mask: id of the mask token.
    """
    chosen = (torch.rand(ids.shape, generator=generator) < MASKED) & ~special
    kind = torch.rand(ids.shape, generator=generator)
    noise = torch.randint(vocabulary, ids.shape, generator=generator)
    inputs = torch.where(chosen & (kind < 0.8), mask, torch.where(chosen & (kind >= 0.9), noise, ids))
    return inputs, torch.where(chosen, ids, -100)


def train(model: LanguageModel, texts: Sequence[str], options: TinyOptions, report: Report) -> None:
    """Train a language model in fp32, in place. Raises UserError if there is no text, or if the loss is not finite."""
    lm, tokenizer = model.lm, model.tokenizer
    rows = segments(tokenizer, texts, options.max_tokens)
    if not rows:
        raise UserError("pre-training: there is no text to learn from. Give files that are not empty.")
    size = max(1, options.tokens_per_step * len(rows) // sum(map(len, rows)))
    adam = optimizer.build(lm, options.learning_rate, 0.01)
    schedule = optimizer.schedule(adam, options.steps, 0.1)
    generator = torch.Generator().manual_seed(derive_seed(options.seed, "mask"))
    order = train_batches([str(index) for index in range(len(rows))], [*map(len, rows)], size, options.seed)
    lm.train()
    with seeded(derive_seed(options.seed, "dropout")):
        for step, chosen in enumerate(islice(order, options.steps), start=1):
            loss = LOSSES[model.kind](lm, tokenizer, [rows[index] for index in chosen], generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
            adam.step()
            schedule.step()
            adam.zero_grad()
            if step % 50 == 0 or step == options.steps:
                if not math.isfinite(loss.item()):
                    raise UserError(f"pre-training: the loss is {loss.item()} at step {step}; lower the learning rate.")
                report("pre-train", step, options.steps)
    lm.eval()


def _masked_loss(model: Any, tokenizer: Any, rows: Tokens, generator: torch.Generator) -> torch.Tensor:
    """Mean cross-entropy in nats over the tokens to predict; which ones, the generator draws."""
    batch = pad(rows, tokenizer.pad_token_id)
    special = torch.isin(batch["input_ids"], torch.tensor(tokenizer.all_special_ids))
    inputs, targets = corrupt(batch["input_ids"], special, tokenizer.mask_token_id, len(tokenizer), generator)
    inputs, targets, attended = (value.to(model.device) for value in (inputs, targets, batch["attention_mask"]))
    chosen = targets != -100
    head = getattr(model, "lm_head", None) or getattr(model, "cls", None)  # its name in RoBERTa and in BERT
    if head is not None:  # logits over the vocabulary for the tokens to predict alone: several times faster
        logits = head(model.base_model(inputs, attended).last_hidden_state[chosen])
    else:
        logits = model(input_ids=inputs, attention_mask=attended).logits[chosen]
    return torch.nn.functional.cross_entropy(logits, targets[chosen])


def _causal_loss(model: Any, tokenizer: Any, rows: Tokens, generator: torch.Generator) -> torch.Tensor:
    """Mean cross-entropy in nats over all tokens but the first of each row; nothing is drawn."""
    batch = {name: value.to(model.device) for name, value in pad(rows, tokenizer.pad_token_id).items()}
    logits = model(**batch, use_cache=False).logits[:, :-1]
    followed = batch["attention_mask"][:, 1:].bool()
    return torch.nn.functional.cross_entropy(logits[followed], batch["input_ids"][:, 1:][followed])


LOSSES: dict[Kind, Callable[[Any, Any, Tokens, torch.Generator], torch.Tensor]] = {
    "masked": _masked_loss,
    "causal": _causal_loss,
}
"""Kind of language model -> (model, tokenizer, token ids of the batch's rows, generator) -> what training minimises."""


def begin(start: str | None, texts: Sequence[str], options: TinyOptions) -> LanguageModel:
    """The language model to train, without a classifier.

    start: a checkpoint, whose missing head is initialised by the options' seed; None: a new model and tokenizer of `tiny`'s
    shape. Raises UserError for a checkpoint that cannot be loaded.
    """
    with seeded(derive_seed(options.seed, "weights")), quiet():
        if start is not None:
            return load_lm(start, None, need_head=False)
        tokenizer = train_tokenizer(texts, options.vocabulary)
        model = _untrained(len(tokenizer), options, tokenizer)
    if model.kind == "causal":
        start_token.put(tokenizer, None, len(tokenizer))
    return model


def _untrained(vocabulary: int, options: TinyOptions, tokenizer: Any = None) -> LanguageModel:
    kind = options.kind or "masked"
    lm = AUTO[kind].from_config(tiny_config(vocabulary, options), dtype=torch.float32)
    return LanguageModel(tokenizer, lm, None, kind)


def untrained(options: TinyOptions, texts: Sequence[str] | None = None) -> LanguageModel:
    """A model of tiny's shape, without classifier and training: enough to check an arm's dose against its layers.

    texts: what its tokenizer learns from; without them it has none.
    """
    if texts is not None:
        return begin(None, texts, options)
    with seeded(0):
        return _untrained(100, options)


def tiny(texts: Sequence[str], options: TinyOptions, folder: Path, report: Report) -> Path:
    """The checkpoint folder of `model: tiny` for these texts and options, cached under `folder`.

    On one machine the bits are the same every time. On another CPU they are those of another pre-training run: upstream scores
    differ by more than many arms move them, so the machine is a part of the key.
    """
    here = fingerprint.machine("cpu", options.threads)
    key = digest([here, text_digest(texts), options.model_dump(exclude_none=True)])[:16]

    def make(target: Path) -> None:
        with using_threads(options.threads), quiet():
            model = begin(None, texts, options)
            train(model, texts, options, report)
            model.lm.save_pretrained(target)
            model.tokenizer.save_pretrained(target)

    return cache.entry(folder, "tiny", key, make)
