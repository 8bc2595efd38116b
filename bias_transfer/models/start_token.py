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


def put(tokenizer: Any, wanted: str | None) -> str | None:
    """Make the tokenizer begin every text with the start token, and end none with a token, in place; returns the token.

    wanted: a token of the vocabulary, "none", or None for the default (`default`). Raises UserError for a token that the
    vocabulary lacks.
    """
    if wanted not in (None, NONE) and wanted not in tokenizer.get_vocab():
        raise UserError(f"{unknown('model.start_token', wanted, [*tokenizer.all_special_tokens, NONE])}")
    token = default(tokenizer) if wanted is None else wanted
    if token is None or token == NONE:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
        return None
    special = [(token, tokenizer.convert_tokens_to_ids(token))]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[token, "$A"], special_tokens=special
    )
    return token


def default(tokenizer: Any) -> str | None:
    """The token that pre-training put between documents, as far as the tokenizer tells: the one that it puts before a text by
    itself; else <|endoftext|>, if the vocabulary has it; else its token for the beginning or end of a text; else none."""
    first = tokenizer("")["input_ids"][:1]
    if first and first[0] in tokenizer.all_special_ids and first[0] != tokenizer.eos_token_id:
        return str(tokenizer.convert_ids_to_tokens(first[0]))
    if BETWEEN_DOCUMENTS in tokenizer.get_vocab():
        return BETWEEN_DOCUMENTS
    token: str | None = tokenizer.bos_token or tokenizer.eos_token
    return token
