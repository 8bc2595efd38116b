"""Masked-LM pre-training, from scratch or continued: makes `model: tiny`, and gives a head to a checkpoint without one.

python -m bias_transfer.pretrain --from FOLDER_OR_NONE --text FILES --steps N --out FOLDER
"""

from __future__ import annotations

if __name__ == "__main__":  # first: --help answers before torch is loaded
    from bias_transfer.commands.pretrain import app

    app()

import hashlib
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast, RobertaPreLayerNormConfig

from bias_transfer.storage import cache
from bias_transfer.training import optimizer
from bias_transfer.models.batching import Tokens
from bias_transfer.models.batching import pad
from bias_transfer.training.sampling import train_batches
from bias_transfer.console import Report
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.language_model import load_masked_lm
from bias_transfer.models.language_model import quiet
from bias_transfer.determinism import seeded
from bias_transfer.determinism import using_threads
from bias_transfer.spec import NUMERICS
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.hashing import derive_seed

MASKED = 0.15
"""Share of tokens to predict: 80 % of them masked, 10 % replaced at random, 10 % left (Devlin et al. 2019, section 3.1)."""

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""In RoBERTa's order, so that its default ids fit; the mask token follows."""


FINETUNING_RATE = 1e-3
"""The learning rate that fine-tuning `tiny` takes unless told otherwise (ours)."""


class TinyOptions(Options):
    """`model.NAME` for `model: tiny`, a small masked LM pre-trained on the text at hand."""

    steps: int = Field(default=1500, ge=1)
    tokens_per_step: int = Field(default=1200, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    max_tokens: int = Field(default=32, ge=8, le=512)
    width: int = Field(default=128, ge=8, multiple_of=4)
    layers: int = Field(default=2, ge=1)
    vocabulary: int = Field(default=8000, ge=300)
    seed: int = Field(default=0, ge=0)
    """Its own: every trial seed fine-tunes the same pre-trained model."""
    threads: int = Field(default=1, ge=1)
    """Two are no faster at this size, and much slower on a machine that has something else to do."""


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A lower-casing byte-level BPE tokenizer of at most `vocabulary` entries, the same for the same texts.

    (WordPiece's trainer breaks ties by the order of a hash map: two runs gave two vocabularies.)
    """
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


def tiny_config(vocabulary: int, options: TinyOptions) -> RobertaPreLayerNormConfig:
    """Pre-norm, and weights drawn with SD 1/sqrt(width): with the usual 0.02 so small a model stays on a plateau."""
    return RobertaPreLayerNormConfig(
        vocab_size=vocabulary, hidden_size=options.width, num_hidden_layers=options.layers,
        num_attention_heads=4, intermediate_size=4 * options.width, max_position_embeddings=514,
        type_vocab_size=1, initializer_range=options.width**-0.5, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip


def segments(tokenizer: Any, texts: Sequence[str], length: int) -> Tokens:
    """All tokens of the texts, in rows of at most `length` with the special tokens around each; rows of nothing dropped."""
    encoded = tokenizer(list(texts), truncation=True, max_length=length, stride=0, return_overflowing_tokens=True)
    return [row for row in encoded["input_ids"] if len(row) > 3]


def corrupt(ids: torch.Tensor, special: torch.Tensor, mask: int, vocabulary: int, generator: torch.Generator) -> Any:
    """(inputs, targets) for masked-LM training; targets are -100 where nothing is to be predicted.

    ids, special: (batch, tokens); special marks what is never chosen.
    """
    chosen = (torch.rand(ids.shape, generator=generator) < MASKED) & ~special
    kind = torch.rand(ids.shape, generator=generator)
    noise = torch.randint(vocabulary, ids.shape, generator=generator)
    inputs = torch.where(chosen & (kind < 0.8), mask, torch.where(chosen & (kind >= 0.9), noise, ids))
    return inputs, torch.where(chosen, ids, -100)


def train(model: Any, tokenizer: Any, texts: Sequence[str], options: TinyOptions, report: Report) -> None:
    """Masked-LM training in fp32, in place. Raises UserError when the loss is no longer finite."""
    rows = segments(tokenizer, texts, options.max_tokens)
    if not rows:
        raise UserError("pre-training: there is no text to learn from")
    size = max(1, options.tokens_per_step * len(rows) // sum(map(len, rows)))
    adam = optimizer.build(model, options.learning_rate, 0.01)
    schedule = optimizer.schedule(adam, options.steps, 0.1)
    generator = torch.Generator().manual_seed(derive_seed(options.seed, "mask"))
    order = train_batches([str(index) for index in range(len(rows))], [*map(len, rows)], size, options.seed)
    model.train()
    with seeded(derive_seed(options.seed, "dropout")):
        for step, chosen in enumerate(islice(order, options.steps), start=1):
            loss = _loss(model, tokenizer, [rows[index] for index in chosen], generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            schedule.step()
            adam.zero_grad()
            if step % 50 == 0 or step == options.steps:
                if not math.isfinite(loss.item()):
                    raise UserError(f"pre-training: the loss is {loss.item()} at step {step}; lower the learning rate")
                report("pre-train", step, options.steps)
    model.eval()


def _loss(model: Any, tokenizer: Any, rows: Tokens, generator: torch.Generator) -> torch.Tensor:
    """Mean cross-entropy over the chosen tokens."""
    batch = pad(rows, tokenizer.pad_token_id)
    special = torch.isin(batch["input_ids"], torch.tensor(tokenizer.all_special_ids))
    inputs, targets = corrupt(batch["input_ids"], special, tokenizer.mask_token_id, len(tokenizer), generator)
    inputs, targets, kept = (value.to(model.device) for value in (inputs, targets, batch["attention_mask"]))
    chosen = targets != -100
    head = getattr(model, "lm_head", None) or getattr(model, "cls", None)  # RoBERTa's name for it, and BERT's
    if head is not None:  # the vocabulary's logits for the chosen tokens alone: several times faster
        logits = head(model.base_model(inputs, kept).last_hidden_state[chosen])
    else:
        logits = model(input_ids=inputs, attention_mask=kept).logits[chosen]
    return torch.nn.functional.cross_entropy(logits, targets[chosen])


def begin(start: str | None, texts: Sequence[str], options: TinyOptions) -> tuple[Any, Any]:
    """(masked LM, tokenizer) to train: of a checkpoint, or fresh. A head that the checkpoint lacks is drawn by the seed.

    Raises UserError for a checkpoint that cannot be loaded.
    """
    with seeded(derive_seed(options.seed, "weights")), quiet():
        if start is not None:
            return load_masked_lm(start, None, need_head=False)
        tokenizer = train_tokenizer(texts, options.vocabulary)
        return AutoModelForMaskedLM.from_config(tiny_config(len(tokenizer), options), dtype=torch.float32), tokenizer


def untrained(options: TinyOptions, vocabulary: int = 100) -> LanguageModel:
    """A model of tiny's shape before any training: to check an arm's dose against its layers."""
    config = tiny_config(vocabulary, options)
    with seeded(0):
        masked_lm = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    return LanguageModel(None, masked_lm, None)


def tiny(texts: Sequence[str], options: TinyOptions, folder: Path, report: Report) -> Path:
    """The checkpoint of `model: tiny` for these texts and options, from the cache or made now; the same bits every time."""
    key = digest([NUMERICS, hashlib.sha256("\0".join(texts).encode()).hexdigest(), options.model_dump()])[:16]

    def make(target: Path) -> None:
        with using_threads(options.threads), quiet():
            model, tokenizer = begin(None, texts, options)
            train(model, tokenizer, texts, options, report)
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)

    return cache.entry(folder, "tiny", key, make)
