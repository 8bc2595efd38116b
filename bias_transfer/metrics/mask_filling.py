"""The whole words of a vocabulary, among which upstream measures choose, and the held-out loss of a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bias_transfer.models.batching import encode
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

HELDOUT_TEXTS, HELDOUT_TOKENS, TRAINING_TEXTS = 200, 64, 5000
"""The text that the held-out loss reads: held-out texts, tokens of each text, and texts for the word frequencies."""

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


def heldout_loss(model: LanguageModel, heldout: Sequence[str], training: Sequence[str]) -> list[Measure]:
    """`masked_lm_loss` or `causal_lm_loss`, whichever the model has, on held-out text, and next to it `unigram_loss`: the
    cross-entropy of the same tokens under the word frequencies of the training text (add-one smoothed), which a model reaches
    that has learned nothing but these.

    Both in nats per token; n: tokens, and NaN with n = 0 where there are none. Which tokens are predicted is the same for all
    arms.
    """
    special = {*model.tokenizer.all_special_ids}
    training_rows = encode(model.tokenizer, training[:TRAINING_TEXTS], HELDOUT_TOKENS)
    counts = Counter(token for row in training_rows for token in row if token not in special)
    loss = model.head.loss(heldout[:HELDOUT_TEXTS], counts, HELDOUT_TOKENS)
    return [
        Measure("upstream", model.head.loss_name, "", "", loss.model, loss.tokens),
        Measure("upstream", "unigram_loss", "", "", loss.unigram, loss.tokens),
    ]
