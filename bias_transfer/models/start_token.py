"""The token that a causal model reads before the first word of every text.

Pre-training puts a token between documents, and without it the first word of a text stands in no context that the model knows:
with another token, or none, upstream scores are other ones (docs/science.md, "Causal models").
"""

from __future__ import annotations

from typing import Any

from tokenizers import processors

from bias_transfer.errors import UserError, unknown

NONE = "none"
"""The value of `model.start_token` for no start token."""

BETWEEN_DOCUMENTS = "<|endoftext|>"
"""What GPT-2, GPT-NeoX, OLMo, Qwen and SmolLM put between documents, whatever their chat variants call begin and end."""


def put(tokenizer: Any, wanted: str | None, size: int) -> str | None:
    """Make the tokenizer begin every text with the start token, and end none with a token, in place; returns the token.

    wanted: a token of the vocabulary, "none", or None for the default (`default`); size: number of the model's embeddings.
    Raises UserError for a token that the vocabulary lacks.
    """
    vocabulary = known(tokenizer, size)
    if wanted not in (None, NONE) and wanted not in vocabulary:
        allowed = [token for token in tokenizer.all_special_tokens if token in vocabulary]
        raise UserError(unknown("model.start_token", str(wanted), [*allowed, NONE]))
    token = default(tokenizer, size) if wanted is None else wanted
    if token is None or token == NONE:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
        return None
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[token, "$A"], special_tokens=[(token, vocabulary[token])]
    )
    return token


def default(tokenizer: Any, size: int) -> str | None:
    """The token that pre-training put between documents, as far as the tokenizer tells: the one that it puts before a text by
    itself; else <|endoftext|>, if the vocabulary has it; else its token for the beginning or end of a text; else none."""
    vocabulary = known(tokenizer, size)
    first = tokenizer("")["input_ids"][:1]
    before = tokenizer.convert_ids_to_tokens(first) if first and first[0] != tokenizer.eos_token_id else []
    candidates = [*before, BETWEEN_DOCUMENTS, tokenizer.bos_token, tokenizer.eos_token]
    return next((token for token in candidates if token in vocabulary), None)


def known(tokenizer: Any, size: int) -> dict[str, int]:
    """Token -> id. A tokenizer read from a GGUF file may have tokens of its class that the model has no embedding for."""
    return {token: index for token, index in tokenizer.get_vocab().items() if index < size}
