"""Probabilities of words at a mask, on which upstream measures are built, and the held-out masked-LM loss."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bias_transfer.models.batching import Tokens, encode, length_batches, pad
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

HELDOUT_TEXTS, HELDOUT_TOKENS, TRAINING_TEXTS = 200, 64, 5000
"""The text that the held-out masked-LM loss reads: held-out texts, tokens of each text, and texts for the word frequencies."""

WORD_BEGINS = "Ġ▁"
"""Marks of a word's beginning, of byte-level BPE and of SentencePiece."""


def whole_words(tokenizer: Any) -> dict[int, str]:
    """Token id -> word, lower-cased, for the vocabulary entries that are a whole word of two or more letters.

    Byte-level BPE and SentencePiece mark the beginning of a word; WordPiece marks its continuation.
    """
    vocabulary = {token: index for token, index in tokenizer.get_vocab().items() if token}
    if sum(token[0] in WORD_BEGINS for token in vocabulary) > sum(token.startswith("##") for token in vocabulary):
        words = {index: token[1:] for token, index in vocabulary.items() if token[0] in WORD_BEGINS}
    else:
        words = {index: token for token, index in vocabulary.items() if not token.startswith("##")}
    return {index: word.lower() for index, word in sorted(words.items()) if len(word) > 1 and word.isalpha()}


def mask_probabilities(model: LanguageModel, texts: Sequence[str]) -> np.ndarray:
    """p(token | text) at the {mask} of each text: (texts, vocabulary), fp64. Each text has exactly one {mask}."""
    mask, token = model.tokenizer.mask_token_id, model.tokenizer.mask_token
    rows = encode(model.tokenizer, [text.format(mask=token) for text in texts], 512)
    return probabilities(model, rows, [row.index(mask) for row in rows])


@torch.no_grad()
def probabilities(model: LanguageModel, rows: Tokens, places: Sequence[int]) -> np.ndarray:
    """p(token | row) at one position of each row of token ids: (rows, vocabulary), fp64. places: (rows,)."""
    masked_lm = model.masked_lm.eval()
    probability = np.empty((len(rows), masked_lm.config.vocab_size))
    at = torch.tensor(places)
    for chosen in length_batches([*map(len, rows)], 2048):
        batch = pad([rows[index] for index in chosen], model.tokenizer.pad_token_id)
        device = masked_lm.device
        logits = masked_lm(**{name: value.to(device) for name, value in batch.items()}).logits
        # In fp64, since upstream measures are differences of logarithms of small probabilities.
        at_mask = logits[torch.arange(len(chosen)), at[chosen].to(device)]
        probability[chosen] = at_mask.double().softmax(dim=-1).cpu().numpy()
    return probability


@torch.no_grad()
def masked_lm_loss(model: LanguageModel, heldout: Sequence[str], training: Sequence[str]) -> list[Measure]:
    """`masked_lm_loss` on held-out text, and next to it `unigram_loss`: the cross-entropy of the same tokens under the word
    frequencies of the training text (add-one smoothed), which a model reaches that has learned nothing but these.

    Both in nats per token; n: tokens, and NaN with n = 0 where there are none. Every seventh token is masked, the first one
    shifted from text to text: nothing is drawn, so that all arms are compared on the same tokens.
    """
    rows = [row for row in encode(model.tokenizer, heldout[:HELDOUT_TEXTS], HELDOUT_TOKENS) if len(row) > 2]
    special = {*model.tokenizer.all_special_ids}
    training_rows = encode(model.tokenizer, training[:TRAINING_TEXTS], HELDOUT_TOKENS)
    counts = Counter(token for row in training_rows for token in row if token not in special)
    loss, unigram, n = _every_seventh(model, rows, counts)
    return [
        Measure("upstream", "masked_lm_loss", "", "", loss, n),
        Measure("upstream", "unigram_loss", "", "", unigram, n),
    ]


def _every_seventh(model: LanguageModel, rows: Tokens, counts: Mapping[int, int]) -> tuple[float, float, int]:
    """(masked-LM loss, unigram loss, tokens) of every seventh token. counts: token id -> its frequency in the training text."""
    total, unigram, n = 0.0, 0.0, 0
    special = torch.tensor(model.tokenizer.all_special_ids)
    device, vocabulary = model.masked_lm.device, model.masked_lm.config.vocab_size
    normaliser = math.log(sum(counts.values()) + vocabulary)
    for chosen in length_batches([*map(len, rows)], 4096):
        batch = pad([rows[index] for index in chosen], model.tokenizer.pad_token_id)
        ids = batch["input_ids"]
        # The shift depends on the text's number and not on its batch: the same tokens are hidden whatever the batches are.
        shift = torch.tensor(chosen)[:, None] % 7
        hidden = ((torch.arange(ids.shape[1]) % 7) == shift) & ~torch.isin(ids, special)
        inputs = torch.where(hidden, model.tokenizer.mask_token_id, ids).to(device)
        logits = model.masked_lm.eval()(input_ids=inputs, attention_mask=batch["attention_mask"].to(device)).logits
        right = logits[hidden.to(device)].double().log_softmax(dim=-1).gather(1, ids[hidden].to(device)[:, None])
        total -= float(right.sum())
        unigram += sum(normaliser - math.log(counts.get(token, 0) + 1) for token in ids[hidden].tolist())
        n += int(hidden.sum())
    return (total / n, unigram / n, n) if n else (math.nan, math.nan, 0)
