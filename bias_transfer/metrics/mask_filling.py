"""The held-out loss of a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bias_transfer.models.batching import encode
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

HELDOUT_TEXTS, HELDOUT_TOKENS, TRAINING_TEXTS = 200, 64, 5000
"""The text that the held-out loss reads: held-out texts, tokens of each text, and texts for the word frequencies."""


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
