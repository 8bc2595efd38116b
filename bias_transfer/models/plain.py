"""An ordinary checkpoint folder of a model: one that transformers' own classes load, and read texts with as the project does.

Three things differ between the two. A causal model's start token has to be in the tokenizer's file (`start_token`). A causal
classifier of transformers finds the last token of a text by the id of padding and not by the mask (`last_token`). And a
classifier here truncates texts to the trial's length.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bias_transfer.errors import UserError, first_line
from bias_transfer.models import start_token
from bias_transfer.models.batching import encode, pad
from bias_transfer.models.language_model import AUTO, LanguageModel, quiet

TEXTS = (
    "The person is here.",
    "It is a good day, and everyone knows it: my neighbor, her friend, and the old dog.",
    "A good person",
)
"""Of different lengths, so that a batch of them is padded."""

CLOSE = 1e-5
"""Largest difference of logits between the folder and the model, in units of the largest logit or of 1."""


def save_lm(model: LanguageModel, folder: Path) -> None:
    """Write the language model with its tokenizer. Raises UserError if transformers reads another model from the folder."""
    pooler = getattr(model.encoder, "pooler", None)
    if pooler is not None:
        model.encoder.pooler = (
            None  # it is the classifier's, with random weights, and would be taken for a pre-trained one
        )
    _save(model, model.lm, copy.deepcopy(model.tokenizer), folder)
    if pooler is not None:
        model.encoder.pooler = pooler
    _check(model, model.lm, AUTO[model.kind], None, folder)


def save_classifier(model: LanguageModel, labels: Sequence[str], max_tokens: int, folder: Path) -> None:
    """Write the classifier with its tokenizer, which truncates to `max_tokens`. Raises UserError as `save_lm` does."""
    tokenizer, config = copy.deepcopy(model.tokenizer), model.classifier.config
    tokenizer.model_max_length = max_tokens
    config.id2label, config.label2id = dict(enumerate(labels)), {label: number for number, label in enumerate(labels)}
    _save(model, model.classifier, tokenizer, folder)
    _check(model, model.classifier, AutoModelForSequenceClassification, max_tokens, folder)


def _save(model: LanguageModel, head: Any, tokenizer: Any, folder: Path) -> None:
    # A fast tokenizer writes out how the last call truncated.
    tokenizer([""])
    if model.kind == "causal":
        _complete(tokenizer, head)
    with quiet():
        head.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    if model.kind == "causal":
        _as_plain_tokenizer(folder / "tokenizer_config.json")


def _complete(tokenizer: Any, head: Any) -> None:
    """Give the tokenizer and the configuration of a causal model the tokens that transformers looks for, in place.

    The start token is also the token for the beginning of a text. Texts are padded on the right, by a token that ends none.
    """
    vocabulary = start_token.known(tokenizer, head.config.vocab_size)
    if first := tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"]):
        tokenizer.bos_token = first[0]
    # A text may end in an unknown word, unless the tokenizer has its bytes: that token is the last resort.
    wanted = [tokenizer.pad_token, tokenizer.eos_token, *first, tokenizer.bos_token]
    usable = sorted((token for token in wanted if token in vocabulary), key=lambda token: token == tokenizer.unk_token)
    tokenizer.padding_side = "right"
    for config in (head.config, getattr(head, "generation_config", None)):
        if config is not None:
            config.bos_token_id = tokenizer.bos_token_id
    if usable:
        tokenizer.pad_token = usable[0]
        head.config.pad_token_id = tokenizer.pad_token_id


def _as_plain_tokenizer(file: Path) -> None:
    """Let the tokenizer be read as its tokenizer.json has it: classes of single families rebuild what they put before a text,
    and GPT-NeoX's would lose the start token."""
    content = json.loads(file.read_text(encoding="utf-8"))
    rebuilt = ("add_bos_token", "add_eos_token", "tokenizer_class")
    plain = {key: value for key, value in content.items() if key not in rebuilt}
    file.write_text(json.dumps({**plain, "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2, ensure_ascii=False))


@torch.no_grad()
def _check(model: LanguageModel, head: Any, auto: Any, max_tokens: int | None, folder: Path) -> None:
    length = max_tokens or 64
    rows = encode(model.tokenizer, TEXTS, length)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            read = auto.from_pretrained(folder, dtype=torch.float32).eval().to(head.device)
    except Exception as error:  # as in `language_model.load_lm`
        raise UserError(
            f"the model cannot be read back from its folder by transformers: {first_line(error)}"
        ) from error
    batches = [TEXTS[:1], TEXTS[1:2]] if tokenizer.pad_token_id is None else [TEXTS[:1], TEXTS]
    for texts in batches:
        batch = tokenizer(list(texts), truncation=True, max_length=length, padding=len(texts) > 1, return_tensors="pt")
        wanted = pad([rows[TEXTS.index(text)] for text in texts], tokenizer.pad_token_id)
        if not torch.equal(batch["input_ids"], wanted["input_ids"]):
            raise UserError(
                f"a model of the family {model.family!r} cannot be exported: transformers' tokenizer reads texts differently "
                "from the folder than in the trial."
            )
        ours, theirs = (
            part(**{key: value.to(head.device) for key, value in given.items()}).logits.float().cpu().numpy()
            for part, given in ((head.eval(), wanted), (read, batch))
        )
        seen = wanted["attention_mask"].bool().numpy() if max_tokens is None else np.ones(len(texts), bool)
        if not np.allclose(ours[seen], theirs[seen], rtol=0, atol=CLOSE * max(1.0, float(np.abs(ours[seen]).max()))):
            raise UserError(
                f"a model of the family {model.family!r} cannot be exported: transformers computes other logits from the "
                f"folder (they differ by up to {np.abs(ours[seen] - theirs[seen]).max():.2g})."
            )
