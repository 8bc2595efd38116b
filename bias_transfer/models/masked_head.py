"""A masked language model's answers: the slot is a mask, and the model reads both sides of it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from bias_transfer.errors import UserError
from bias_transfer.models.batching import MOST_TOKENS, Tokens, encode, length_batches, pad
from bias_transfer.models.lm_head import (
    SLOT,
    Continuations,
    Frame,
    Likelihoods,
    Loss,
    NamedSentence,
    Position,
    Unmasked,
    WordScores,
    covering,
    filled,
    framing_ids,
    unigram_loss,
    with_name,
)
from bias_transfer.models.vocabulary import whole_words

LOGITS = 2**24
"""Logits per forward pass, at most, where all tokens of a text are asked for: in fp64 they take 128 MiB."""


class Ask(NamedTuple):
    """Some tokens, in the places of masks in a row."""

    row: tuple[int, ...]
    places: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """One sentence as token ids, with its slot masked."""

    row: list[int]
    place: int
    """Position of the mask."""
    ids: tuple[int, ...]
    """Token id of each word, as it is written at that position."""
    named: tuple[int, ...] = ()
    """Positions of the group's name."""


@dataclass(frozen=True)
class MaskedLMHead:
    """Implements `lm_head.LMHead`."""

    tokenizer: Any
    lm: Any

    loss_name: ClassVar[str] = "masked_lm_loss"
    positions: ClassVar[tuple[Position, ...]] = ("first", "mean", "mask")

    def log_odds(self, texts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """One mask, so each word must be a single token."""
        return self._preference([slot(self.tokenizer, text, (*first, *second)) for text in texts], len(first))

    def prior_log_odds(
        self, sentences: Sequence[NamedSentence], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """With a mask for each sub-token of the name, whose article stays (Kurita et al. 2019)."""
        slots = [slot(self.tokenizer, each.template, (*first, *second), each.name) for each in sentences]
        return self._preference([self.prior(each) for each in slots], len(first))

    def prior(self, named: Slot) -> Slot:
        """The slot with the name masked as well."""
        return Slot(masked(self.tokenizer, named.row, named.named), named.place, named.ids)

    def check_words(self, texts: Sequence[str], words: Sequence[str]) -> None:
        """Each word must be one token of the vocabulary, and another one than the others."""
        for text in texts:
            slot(self.tokenizer, text, words)

    def _preference(self, slots: Sequence[Slot], split: int) -> np.ndarray:
        """(slots,): ln p of the first `split` words minus ln p of the others."""
        at_mask = self._probabilities([each.row for each in slots], [each.place for each in slots])
        of_words = np.take_along_axis(at_mask, np.array([each.ids for each in slots]), axis=1)
        return np.asarray(np.log(of_words[:, :split].sum(axis=1)) - np.log(of_words[:, split:].sum(axis=1)))

    def check_slots(self, templates: Sequence[str]) -> None:
        """A mask may stand anywhere."""

    def distribution(self, texts: Sequence[str]) -> np.ndarray:
        """At the mask."""
        mask = self.tokenizer.mask_token_id
        rows = encode(self.tokenizer, [text.format(mask=self.tokenizer.mask_token) for text in texts], MOST_TOKENS)
        return self._probabilities(rows, [row.index(mask) for row in rows])

    def word_probabilities(self, texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """Refused."""
        raise UserError(
            "metric.multi_token: a masked language model fills one mask with one token, so words of several tokens have no "
            "probability there. Leave the option out, or use a causal model."
        )

    @torch.no_grad()
    def _probabilities(self, rows: Tokens, places: Sequence[int]) -> np.ndarray:
        """p(token | row) at one position of each row of token ids: (rows, vocabulary), fp64. places: (rows,)."""
        lm = self.lm.eval()
        probability = np.empty((len(rows), lm.config.vocab_size))
        at = torch.tensor(places)
        for chosen in length_batches([*map(len, rows)], 2048):
            batch = pad([rows[index] for index in chosen], self.tokenizer.pad_token_id)
            logits = lm(**{name: value.to(lm.device) for name, value in batch.items()}).logits
            # In fp64, since upstream measures are differences of logarithms of small probabilities.
            at_mask = logits[torch.arange(len(chosen)), at[chosen].to(lm.device)]
            probability[chosen] = at_mask.double().softmax(dim=-1).cpu().numpy()
        return probability

    def continuations(self, pairs: Sequence[tuple[str, str]]) -> Continuations:
        """Raises UserError."""
        raise UserError(
            "a masked language model does not continue a text, so that it cannot be asked for an answer. Leave metric.bbq out, "
            "or use a causal model."
        )

    @torch.no_grad()
    def likelihoods(self, pairs: Sequence[tuple[str, str]], batch_tokens: int = 2048) -> Likelihoods:
        """Pseudo-log-likelihoods: the sum over the tokens that both sentences share of ln p(token | the sentence with this
        token masked) (Nangia et al. 2020, section 3).

        batch_tokens: tokens per forward pass; no result depends on it.
        """
        rows = encode(self.tokenizer, [text for pair in pairs for text in pair], MOST_TOKENS)
        framing = framing_ids(self.tokenizer)
        masks = [  # (row, position): a pair's two sentences are neighbouring rows
            (2 * number + side, place)
            for number in range(len(pairs))
            for both in shared_places(rows[2 * number], rows[2 * number + 1], framing)
            for side, place in enumerate(both)
        ]
        totals = np.zeros(len(rows))
        for chosen in length_batches([len(rows[row]) for row, _ in masks], batch_tokens):
            batch = [masks[index] for index in chosen]
            # Not `totals[rows] += ...`, which would add only once for a row that occurs several times in the batch.
            np.add.at(totals, [row for row, _ in batch], self._log_probabilities(rows, batch))
        counts = np.bincount([row for row, _ in masks], minlength=len(rows))
        return Likelihoods(totals.reshape(-1, 2), counts.reshape(-1, 2))

    def _log_probabilities(self, rows: Tokens, masks: Sequence[tuple[int, int]]) -> np.ndarray:
        """(masks,): ln p of the token at each (row, position), when it is masked."""
        lm, mask = self.lm.eval(), self.tokenizer.mask_token_id
        inputs = [[*rows[row][:place], mask, *rows[row][place + 1 :]] for row, place in masks]
        batch = {name: value.to(lm.device) for name, value in pad(inputs, self.tokenizer.pad_token_id).items()}
        logits = lm(**batch).logits[range(len(masks)), [place for _, place in masks]]
        right = torch.tensor([[rows[row][place]] for row, place in masks], device=logits.device)
        return np.asarray(logits.double().log_softmax(dim=-1).gather(1, right)[:, 0].cpu().numpy())

    def word_scores(self, frames: Sequence[Frame]) -> WordScores:
        """Of the word's sub-tokens, filled from left to right: each is asked for at a mask that stands for it and for those
        after it, as in the published script of StereoSet."""
        asks, owner = list[Ask](), list[int]()
        for number, (row, (places,)) in enumerate(zip(*self._located([(frame,) for frame in frames]), strict=True)):
            for place in places:
                seen = (*row[:place], self.tokenizer.mask_token_id, *row[places[-1] + 1 :])
                asks.append(Ask(seen, (place,), (row[place],)))
                owner.append(number)
        log_p, n = self._asked(asks)[:, 0], np.bincount(owner, minlength=len(frames))
        logs, shares = (np.bincount(owner, value, minlength=len(frames)) for value in (log_p, np.exp(log_p)))
        return WordScores(logs / n, shares / n)

    def _located(self, sentences: Sequence[Sequence[Frame]]) -> tuple[Tokens, list[list[list[int]]]]:
        """(token ids, positions of each word) of each sentence, which is given as a frame around each of its words.

        Raises UserError for a word that the tokenizer does not know.
        """
        encoded = self.tokenizer(["".join(frames[0]) for frames in sentences], return_offsets_mapping=True)
        rows = [list(row) for row in encoded["input_ids"]]
        places = [
            [covering(offsets, frame.before, frame.word) for frame in frames]
            for frames, offsets in zip(sentences, encoded["offset_mapping"], strict=True)
        ]
        for frames, row, of_words in zip(sentences, rows, places, strict=True):
            for frame, of_word in zip(frames, of_words, strict=True):
                if not of_word or self.tokenizer.unk_token_id in [row[place] for place in of_word]:
                    raise UserError(
                        f"the tokenizer's vocabulary has no entry for {frame.word!r}. Use other words, or another model."
                    )
        return rows, places

    @torch.no_grad()
    def _asked(self, asks: Sequence[Ask]) -> np.ndarray:
        """(asks, tokens of the longest): ln p of each token at its place, fp64; 0 where an ask has fewer tokens.

        Asks that share row and places share a forward pass.
        """
        lm, found = self.lm.eval(), np.zeros((len(asks), max((len(ask.tokens) for ask in asks), default=0)))
        by_row: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        for number, ask in enumerate(asks):
            by_row.setdefault((ask.row, ask.places), []).append(number)
        rows = list(by_row)
        for chosen in length_batches([len(row) for row, _ in rows], 1024):
            batch = pad([rows[index][0] for index in chosen], self.tokenizer.pad_token_id)
            logits = lm(**{name: value.to(lm.device) for name, value in batch.items()}).logits
            for of_row, index in zip(logits, chosen, strict=True):
                places, numbers = list(rows[index][1]), by_row[rows[index]]
                log_p = of_row[places].double().log_softmax(dim=-1)
                tokens = torch.tensor([asks[number].tokens for number in numbers], device=log_p.device)
                found[numbers, : len(places)] = log_p[torch.arange(len(places)), tokens].cpu().numpy()
        return found

    def completions(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """Among the words of the vocabulary; one that is an entry in capitals as well counts by the likelier of the two."""
        ids = whole_words(self.tokenizer)
        words, completions = [*ids.values()], list[list[str]]()
        for start in range(0, len(texts), 64):  # in parts, since the probabilities of all texts together would be large
            for row in self.distribution(texts[start : start + 64])[:, [*ids]]:
                ranked = dict.fromkeys(words[place] for place in np.argsort(-row, kind="stable"))
                completions.append([*ranked][:count] if np.isfinite(row).all() else [])
        return completions

    def associations(self, template: str, names: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """With as many masks as the name has sub-tokens, whose log-probabilities are added (Ahn and Oh 2021). The prior masks
        the word as well (Kurita et al. 2019)."""
        rows, places = self._located([with_name(template, name, word) for name in names for word in words])
        asks = []
        for row, (name, word) in zip(rows, places, strict=True):
            tokens = tuple(row[place] for place in name)
            for hidden in (name, [*name, *word]):
                asks.append(Ask(tuple(masked(self.tokenizer, row, hidden)), tuple(name), tokens))
        told, prior = self._asked(asks).sum(axis=1).reshape(-1, 2).T
        return np.asarray(told - prior).reshape(len(names), len(words))

    @torch.no_grad()
    def unmasked(self, texts: Sequence[str]) -> Unmasked:
        """AUL and AULA (Kaneko and Bollegala 2022): the mean over the tokens, without those around the text, of ln p(token |
        the whole text), and of its product with the attention that the token receives, averaged over layers, heads and all
        tokens that attend."""
        rows, framing = encode(self.tokenizer, texts, MOST_TOKENS), framing_ids(self.tokenizer)
        plain, attended = np.full(len(rows), math.nan), np.full(len(rows), math.nan)
        budget = max(1, min(1024, LOGITS // self.lm.config.vocab_size))
        with _eager(self.lm) as lm:
            for chosen in length_batches([*map(len, rows)], budget):
                batch = pad([rows[index] for index in chosen], self.tokenizer.pad_token_id)
                inputs = {name: value.to(lm.device) for name, value in batch.items()}
                output = lm(**inputs, output_attentions=True)
                received = _received(output.attentions, inputs["attention_mask"])
                for index, logits, weights in zip(chosen, output.logits, received, strict=True):
                    places = [place for place, token in enumerate(rows[index]) if token not in framing]
                    tokens = torch.tensor([rows[index][place] for place in places], device=logits.device)
                    log_p = logits[places].double().log_softmax(dim=-1)[torch.arange(len(places)), tokens]
                    plain[index], attended[index] = float(log_p.mean()), float((log_p * weights[places]).mean())
        return Unmasked(plain, attended)

    @torch.no_grad()
    def loss(self, texts: Sequence[str], counts: Mapping[int, int], max_tokens: int) -> Loss:
        """Every seventh token is masked, the first one shifted from text to text: nothing is drawn, so that all arms are
        compared on the same tokens."""
        rows = [row for row in encode(self.tokenizer, texts, max_tokens) if len(row) > 2]
        total, unigram, n = 0.0, 0.0, 0
        special = torch.tensor(self.tokenizer.all_special_ids)
        device, vocabulary = self.lm.device, self.lm.config.vocab_size
        normaliser = math.log(sum(counts.values()) + vocabulary)
        for chosen in length_batches([*map(len, rows)], 4096):
            batch = pad([rows[index] for index in chosen], self.tokenizer.pad_token_id)
            ids = batch["input_ids"]
            # The shift depends on the text's number and not on its batch: the same tokens are hidden whatever the batches are.
            shift = torch.tensor(chosen)[:, None] % 7
            hidden = ((torch.arange(ids.shape[1]) % 7) == shift) & ~torch.isin(ids, special)
            inputs = torch.where(hidden, self.tokenizer.mask_token_id, ids).to(device)
            logits = self.lm.eval()(input_ids=inputs, attention_mask=batch["attention_mask"].to(device)).logits
            right = logits[hidden.to(device)].double().log_softmax(dim=-1).gather(1, ids[hidden].to(device)[:, None])
            total -= float(right.sum())
            unigram += unigram_loss(ids[hidden].tolist(), counts, normaliser)
            n += int(hidden.sum())
        return Loss(total / n, unigram / n, n) if n else Loss(math.nan, math.nan, 0)


@contextmanager
def _eager(lm: Any) -> Iterator[Any]:
    """The model with attention that is computed step by step, since fused kernels return no attention weights."""
    fused = lm.config._attn_implementation
    lm.set_attn_implementation("eager")
    try:
        yield lm.eval()
    finally:
        lm.set_attn_implementation(fused)


def _received(attentions: Sequence[torch.Tensor], attended: torch.Tensor) -> torch.Tensor:
    """(texts, tokens), fp64: the attention that each token receives, the mean over layers, heads and tokens that attend.

    attentions: per layer (texts, heads, attending tokens, tokens); attended: (texts, tokens), 0 for padding.
    """
    total = torch.zeros(attended.shape, dtype=torch.float64, device=attended.device)
    for layer in attentions:
        of_heads = layer.double().mean(dim=1)
        # masked_fill instead of a product: padding that attends may give anything, NaN included.
        total += of_heads.masked_fill(attended[:, :, None] == 0, 0).sum(dim=1)
    return total / len(attentions) / attended.sum(dim=1, keepdim=True)


def slot(tokenizer: Any, text: str, words: Sequence[str], name: str = "") -> Slot:
    """The sentence's tokens with a mask for {mask}, and the token id of each word in its place.

    name: stands for {name}. At the beginning of a text and within it, the same word may be two entries of the vocabulary, so
    its id is looked up in its place. Raises UserError for a word that the tokenizer splits or does not know, and for two words
    with the same token or in whose presence the rest of the sentence is split differently.
    """
    ids, masks = list[int](), set[tuple[tuple[int, ...], int, tuple[int, ...]]]()
    written = [filled(text, word)[1] for word in words]
    sentences = [text.replace(SLOT, word).replace("{name}", name) for word in written]
    encoded = tokenizer(sentences, return_offsets_mapping=True)
    for word, row, offsets in zip(written, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        places = covering(offsets, text.partition(SLOT)[0].replace("{name}", name), word)
        if len(places) != 1:
            raise UserError(
                f"the tokenizer splits {word!r} in {text!r} into {len(places)} sub-tokens, and a comparison of words at one "
                "mask needs one. Use words, or a model, whose vocabulary has them as a whole."
            )
        (place,) = places
        ids.append(row[place])
        before_name = text.partition("{name}")[0].replace(SLOT, word)
        named = covering(offsets, before_name, name) if name else []
        # What is around the mask must be the same whichever word was masked in it.
        masks.add((tuple(masked(tokenizer, row, places)), place, tuple(named)))
    if tokenizer.unk_token_id in ids:
        raise UserError(
            f"the tokenizer's vocabulary has no entry for {written[ids.index(tokenizer.unk_token_id)]!r} in {text!r}. "
            "Use other words, or another model."
        )
    if len(masks) > 1 or len(set(ids)) < len(ids):
        raise UserError(
            f"the tokenizer splits {text!r} differently depending on the word, or reads two words as the same token, so that "
            "the words cannot be compared. Use other words, or a model with another tokenizer."
        )
    ((tokens, at_mask, names),) = masks
    return Slot(list(tokens), at_mask, tuple(ids), names)


def masked(tokenizer: Any, row: Sequence[int], places: Sequence[int]) -> list[int]:
    """The row with masks at these positions."""
    return [tokenizer.mask_token_id if place in places else token for place, token in enumerate(row)]


def shared_places(more: Sequence[int], less: Sequence[int], framing: set[int]) -> list[tuple[int, int]]:
    """Positions, in both sentences, of the tokens that they share: those of the longest matching runs, without framing tokens.

    more, less: token ids of the whole sentences, so that a word is compared in the form that its position gives it ("She" is
    not " she").
    """
    runs = difflib.SequenceMatcher(None, more, less, autojunk=False).get_matching_blocks()
    places = [(run.a + step, run.b + step) for run in runs for step in range(run.size)]
    return [(first, second) for first, second in places if more[first] not in framing]
