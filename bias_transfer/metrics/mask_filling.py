"""Bias of the language model, measured after the upstream intervention and before fine-tuning."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from bias_transfer.models.batching import Tokens
from bias_transfer.models.batching import encode
from bias_transfer.models.batching import length_batches
from bias_transfer.models.batching import pad
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

VERDICT = 0.05
"""VADER's own bound: a compound score of at least it is positive, of at most its negative is negative."""

HELDOUT_TEXTS, HELDOUT_TOKENS, TRAINING_TEXTS = 200, 64, 5000
"""How much text the held-out masked-LM loss reads."""

WORD_BEGINS = "Ġ▁"

Scorer = Callable[[Sequence[str]], np.ndarray]


def vader(words: Sequence[str]) -> np.ndarray:
    """-1, 0 or 1 for each word: VADER's verdict on "A person is {word}." (Hutto and Gilbert 2014)."""
    score = SentimentIntensityAnalyzer().polarity_scores
    compound = np.array([score(f"A person is {word}.")["compound"] for word in words])
    return np.asarray(np.sign(compound) * (np.abs(compound) >= VERDICT))


SCORERS: dict[str, Scorer] = {"vader": vader}
"""Name -> verdicts on words: -1 negative, 0 neither, 1 positive."""


def whole_words(tokenizer: Any) -> dict[int, str]:
    """Token id -> word, lower-cased, for the entries that stand for a whole word: letters only, of two or more.

    Byte-level BPE and SentencePiece mark the beginning of words; WordPiece marks their continuation.
    """
    vocabulary = {token: index for token, index in tokenizer.get_vocab().items() if token}
    if sum(token[0] in WORD_BEGINS for token in vocabulary) > sum(token.startswith("##") for token in vocabulary):
        words = {index: token[1:] for token, index in vocabulary.items() if token[0] in WORD_BEGINS}
    else:
        words = {index: token for token, index in vocabulary.items() if not token.startswith("##")}
    return {index: word.lower() for index, word in sorted(words.items()) if len(word) > 1 and word.isalpha()}


def negative_sentiment(
    model: LanguageModel, groups: Sequence[str], templates: Mapping[str, str], scorer: str, top_k: int | None
) -> list[Measure]:
    """Negative sentiment of the fills for each group and template, less that of the template without the group
    (Hutchinson et al. 2020, with SCIENCE.md's denominators).

    templates: with {group} and {mask} -> without {group}. top_k None: negative mass / (negative + positive mass) over all
    words that the scorer judges; else over the k most probable whole words, sum p neg / sum p. value: in [-1, 1]; n: words
    it rests on. Beside it `lexicon_coverage`: the share of probability that the judged words hold.
    """
    pairs = [(group, with_group) for with_group in templates for group in groups]
    plain = list(templates.values())
    ids, verdicts = _fills(model.tokenizer, SCORERS[scorer], tuple(groups), scorer)
    texts = [text.format(group=group, mask="{mask}") for group, text in pairs]
    scores, coverage = _negative_share(mask_probabilities(model, texts), ids, verdicts, top_k)
    base, _ = _negative_share(mask_probabilities(model, plain), ids, verdicts, top_k)
    without = dict(zip(templates, base, strict=True))
    n = int((verdicts != 0).sum()) if top_k is None else min(top_k, len(ids))
    measures = []
    for (group, text), score, covered in zip(pairs, scores, coverage, strict=True):
        value = float(score - without[text])
        measures.append(Measure("upstream", "negative_sentiment", group, text, value, n if value == value else 0))
        measures.append(Measure("upstream", "lexicon_coverage", group, text, float(covered), n))
    return measures


def _fills(tokenizer: Any, scorer: Scorer, groups: tuple[str, ...], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the whole words that may fill the mask, without the groups' own words, and the scorer's verdict on each."""
    own = {word for group in groups for word in group.lower().split()}
    words = {index: word for index, word in whole_words(tokenizer).items() if word not in own}
    return np.array(list(words)), _verdicts(name, tuple(words.values()))


@functools.lru_cache(maxsize=4)
def _verdicts(scorer: str, words: tuple[str, ...]) -> np.ndarray:
    return SCORERS[scorer](words)


def _negative_share(
    probabilities: np.ndarray, ids: np.ndarray, verdicts: np.ndarray, top_k: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """(texts,) negative share and (texts,) share of probability it rests on; NaN where no fill has any, and for all where
    the judged words are of one sign only: their share says nothing of the model."""
    fills = probabilities[:, ids]
    if top_k is not None:
        kept = np.argsort(-fills, axis=1, kind="stable")[:, :top_k]
        fills = _only(fills, kept)
        whole = fills.sum(axis=1)
    else:
        whole = fills[:, verdicts != 0].sum(axis=1)
    negative = fills[:, verdicts < 0].sum(axis=1)
    told_apart = (verdicts < 0).any() and (top_k is not None or (verdicts > 0).any())
    share = np.divide(negative, whole, out=np.full(len(whole), math.nan), where=(whole > 0) & told_apart)
    return share, fills[:, verdicts != 0].sum(axis=1)


def _only(fills: np.ndarray, kept: np.ndarray) -> np.ndarray:
    chosen = np.zeros_like(fills)
    np.put_along_axis(chosen, kept, np.take_along_axis(fills, kept, axis=1), axis=1)
    return chosen


def mask_probabilities(model: LanguageModel, texts: Sequence[str]) -> np.ndarray:
    """p(token | text) at the {mask} of each text: (texts, vocabulary), fp64. Exactly one {mask} a text."""
    mask, token = model.tokenizer.mask_token_id, model.tokenizer.mask_token
    rows = encode(model.tokenizer, [text.format(mask=token) for text in texts], 512)
    return probabilities(model, rows, [row.index(mask) for row in rows])


@torch.no_grad()
def probabilities(model: LanguageModel, rows: Tokens, places: Sequence[int]) -> np.ndarray:
    """p(token | row) at one place of each row of token ids: (rows, vocabulary), fp64."""
    masked_lm = model.masked_lm.eval()
    found = np.empty((len(rows), masked_lm.config.vocab_size))
    at = torch.tensor(places)
    for chosen in length_batches([*map(len, rows)], 2048):
        batch = pad([rows[index] for index in chosen], model.tokenizer.pad_token_id)
        device = masked_lm.device
        logits = masked_lm(**{name: value.to(device) for name, value in batch.items()}).logits
        found[chosen] = logits[torch.arange(len(chosen)), at[chosen].to(device)].double().softmax(dim=-1).cpu().numpy()
    return found


@torch.no_grad()
def masked_lm_loss(model: LanguageModel, heldout: Sequence[str], training: Sequence[str]) -> list[Measure]:
    """Held-out masked-LM loss, and beside it `unigram_loss`, the cross-entropy of the same tokens under the word
    frequencies of the training text (add-one smoothed), which a model reaches that has learned nothing else. Nats a token.

    Every seventh token is masked, in seven shifts over the texts: nothing is drawn, so arms are compared on the same tokens.
    """
    rows = [row for row in encode(model.tokenizer, heldout[:HELDOUT_TEXTS], HELDOUT_TOKENS) if len(row) > 2]
    seen = Counter(token for row in encode(model.tokenizer, training[:TRAINING_TEXTS], HELDOUT_TOKENS) for token in row)
    for token in model.tokenizer.all_special_ids:
        seen.pop(token, None)
    loss, unigram, n = _every_seventh(model, rows, seen)
    return [
        Measure("upstream", "masked_lm_loss", "", "", loss, n),
        Measure("upstream", "unigram_loss", "", "", unigram, n),
    ]


def _every_seventh(model: LanguageModel, rows: Tokens, seen: Mapping[int, int]) -> tuple[float, float, int]:
    total, unigram, n = 0.0, 0.0, 0
    special = torch.tensor(model.tokenizer.all_special_ids)
    device, vocabulary = model.masked_lm.device, model.masked_lm.config.vocab_size
    normaliser = math.log(sum(seen.values()) + vocabulary)
    for chosen in length_batches([*map(len, rows)], 4096):
        batch = pad([rows[index] for index in chosen], model.tokenizer.pad_token_id)
        ids = batch["input_ids"]
        shift = torch.tensor(chosen)[:, None] % 7
        hidden = ((torch.arange(ids.shape[1]) % 7) == shift) & ~torch.isin(ids, special)
        inputs = torch.where(hidden, model.tokenizer.mask_token_id, ids).to(device)
        logits = model.masked_lm.eval()(input_ids=inputs, attention_mask=batch["attention_mask"].to(device)).logits
        right = logits[hidden.to(device)].double().log_softmax(dim=-1).gather(1, ids[hidden].to(device)[:, None])
        total -= float(right.sum())
        unigram += sum(normaliser - math.log(seen.get(token, 0) + 1) for token in ids[hidden].tolist())
        n += int(hidden.sum())
    return (total / n, unigram / n, n) if n else (math.nan, math.nan, 0)
