"""Turn texts into token ids, and token ids into padded batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

Tokens = list[list[int]]
"""Token ids of each text, special tokens included, not padded."""

MOST_TOKENS = 512
"""Tokens to which the texts of upstream metrics are truncated."""

Encode = Callable[[Sequence[str]], Tokens]
"""Texts -> token ids of each, in their order."""


def encode(tokenizer: object, texts: Sequence[str], max_tokens: int) -> Tokens:
    """Token ids of each text with the model's special tokens, truncated to `max_tokens`, not padded."""
    return list(tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]) if texts else []  # type: ignore[operator]


def treated_rows(texts: Sequence[str], untreated: Sequence[str], rows: Tokens, encode: Encode) -> Tokens:
    """Token ids of each of the treated set's `texts`: those of the untreated texts, in `rows`, and new ones from `encode`.

    An arm leaves most texts as they were, and all trials that read the same untreated set share its token ids.
    """
    known = dict(zip(untreated, rows, strict=True))
    new = [text for text in dict.fromkeys(texts) if text not in known]
    known |= zip(new, encode(new), strict=True)
    return [known[text] for text in texts]


def pad(rows: Sequence[Sequence[int]], padding: int | None) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, both (rows, tokens of the longest row), int64. padding: id of the padding token.

    None, for a tokenizer without one, pads by id 0: causal models tell padding by the attention mask alone.
    """
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding or 0] * (width - len(row))] for row in rows])
    # By length and not by id: a tokenizer may use its padding token within a text too.
    lengths = torch.tensor([len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long()}


def length_batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Positions of the rows in batches, shortest rows first, of at most `tokens` tokens per batch with padding.

    A row that is longer than `tokens` is a batch by itself. lengths: tokens of each row.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * lengths[index] > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def equal_length_batches(lengths: Sequence[int], size: Callable[[int], int]) -> Iterator[list[int]]:
    """Positions of the rows in batches of rows of one length, shortest first. size: length -> rows per batch, at most."""
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    for length, rows in sorted(by_length.items()):
        for start in range(0, len(rows), size(length)):
            yield rows[start : start + size(length)]


def shared_beginning(rows: Tokens) -> int:
    """The number of tokens that all rows begin with."""
    # Of rows in order, the first and the last differ soonest.
    first, last = min(rows), max(rows)
    return next((place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
