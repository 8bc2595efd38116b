"""A causal language model's answers: it reads from left to right, so the slot is what comes next, or a part of a sentence.

The tokenizer puts the model's start token, if it has one, before every text (`language_model.START_TOKENS`), so the first
word has a probability too. Without a start token the first token of a text has none, and likelihoods leave it out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from bias_transfer.errors import UserError
from bias_transfer.models.batching import MOST_TOKENS, Tokens, encode, length_batches, pad
from bias_transfer.models.lm_head import (
    GROUP,
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
from bias_transfer.models.vocabulary import Pieces, pieces

LOGITS = 2**24
"""Logits (tokens times vocabulary) per forward pass: in fp64 they take 128 MiB. No result depends on it beyond rounding."""


BEGINNINGS, MOST_BEGINNINGS = 64, 1024
"""Beginnings of words that are read together, and at most per text, in the search for the likeliest next words."""


@dataclass(frozen=True)
class CausalLMHead:
    """Implements `lm_head.LMHead`."""

    tokenizer: Any
    lm: Any

    loss_name: ClassVar[str] = "causal_lm_loss"
    positions: ClassVar[tuple[Position, ...]] = ("last", "mean")

    def log_odds(self, texts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """By the log-likelihood of the whole sentence with each word in it. Where the slot is last, this is the next-token
        distribution, by the chain rule over the word's sub-tokens. The likelihoods of a list's words are added."""
        words = (*first, *second)
        rows = [row for text in texts for row in self._sentences(text, words)]
        likelihoods = self.sums(rows).reshape(len(texts), len(words))
        sides = (likelihoods[:, : len(first)], likelihoods[:, len(first) :])
        of_first, of_second = (np.logaddexp.reduce(side, axis=1) for side in sides)
        return np.asarray(of_first - of_second)

    def prior_log_odds(
        self, sentences: Sequence[NamedSentence], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """In the same sentence about a person."""
        return self.log_odds([each.neutral for each in sentences], first, second)

    def check_words(self, texts: Sequence[str], words: Sequence[str]) -> None:
        """The tokenizer must know each word, and tell it from the others."""
        for text in texts:
            self._sentences(text, words)

    def _sentences(self, text: str, words: Sequence[str]) -> Tokens:
        """Token ids of the sentence with each word in its slot."""
        before, after = text.partition(SLOT)[0], text.partition(SLOT)[2]
        written = [filled(text, word)[1] for word in words]
        encoded = self.tokenizer([before + word + after for word in written], return_offsets_mapping=True)
        rows = [list(row) for row in encoded["input_ids"]]
        for word, row, offsets in zip(written, rows, encoded["offset_mapping"], strict=True):
            if self.tokenizer.unk_token_id in [row[place] for place in covering(offsets, before, word)]:
                raise UserError(
                    f"the tokenizer's vocabulary has no entry for {word!r} in {text!r}. Use other words, or another model."
                )
        if len({*map(tuple, rows)}) < len(rows):
            raise UserError(
                f"the tokenizer reads two words as the same tokens in {text!r}, so that the words cannot be compared. "
                "Use other words, or a model with another tokenizer."
            )
        return rows

    def check_slots(self, templates: Sequence[str]) -> None:
        """Something must stand before each slot, and the group's name must, where a template has one."""
        self._before_slot(templates)
        if late := [template for template in templates if GROUP in template.partition(SLOT)[2]]:
            raise UserError(
                f"a causal language model reads from left to right, so what it predicts in {late[0]!r} is the same for all "
                "groups. Use a template in which the group comes before the slot, or words_a and words_b, which are compared "
                "in whole sentences."
            )

    def distribution(self, texts: Sequence[str]) -> np.ndarray:
        """Of the token that follows what stands before the slot; what stands after it is not read."""
        return self.next_token(encode(self.tokenizer, self._before_slot(texts), MOST_TOKENS))

    def _before_slot(self, texts: Sequence[str]) -> list[str]:
        starts = [text.partition(SLOT)[0].rstrip() for text in texts]
        if empty := [text for text, start in zip(texts, starts, strict=True) if not start]:
            raise UserError(
                f"a causal language model reads from left to right, and nothing stands before the slot in {empty[0]!r}. Use a "
                "template in which the group comes before the slot."
            )
        return starts

    @torch.no_grad()
    def word_probabilities(self, texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """The words' sub-tokens form a trie, whose inner nodes need a forward pass each. What stands before the slot is read
        once per text, and its keys and values are used for all nodes."""
        pieces = self._pieces(words)
        followers: dict[tuple[int, ...], list[int]] = {}
        for word in pieces:
            for depth, token in enumerate(word):
                tokens = followers.setdefault(word[:depth], [])
                if token not in tokens:
                    tokens.append(token)
        found = np.empty((len(texts), len(words)))
        for number, row in enumerate(encode(self.tokenizer, self._before_slot(texts), MOST_TOKENS)):
            steps = dict(self._steps(row, followers))
            found[number] = [
                math.exp(sum(steps[word[:depth], token] for depth, token in enumerate(word))) for word in pieces
            ]
        return found

    def _steps(
        self, row: Sequence[int], followers: Mapping[tuple[int, ...], Sequence[int]]
    ) -> Iterator[tuple[tuple[tuple[int, ...], int], float]]:
        """((node, token), ln p(token | row, node)) for each node of the trie and each token that follows it there."""
        lm = self.lm.eval()
        read = lm(torch.tensor([row], device=lm.device), use_cache=True)
        yield from _edges((), read.logits[0, -1:], followers[()])
        by_depth: dict[int, list[tuple[int, ...]]] = {}
        for node in followers:
            by_depth.setdefault(len(node), []).append(node)
        for depth, nodes in by_depth.items():
            if depth == 0:
                continue
            size = max(1, LOGITS // (depth * lm.config.vocab_size))
            for start in range(0, len(nodes), size):
                batch = nodes[start : start + size]
                cache = copy.deepcopy(read.past_key_values)
                cache.batch_repeat_interleave(len(batch))
                ids = torch.tensor(batch, device=lm.device)
                seen = torch.ones(len(batch), len(row) + depth, dtype=torch.long, device=lm.device)
                logits = lm(ids, past_key_values=cache, attention_mask=seen, use_cache=True).logits[:, -1:]
                for node, of_node in zip(batch, logits, strict=True):
                    yield from _edges(node, of_node, followers[node])

    def _pieces(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The sub-tokens of each word within a text."""
        before = self.tokenizer("a")["input_ids"]
        rows = self.tokenizer([f"a {word}" for word in words])["input_ids"] if words else []
        return [tuple(row[len(before) :]) for row in rows]

    def next_token(self, rows: Tokens) -> np.ndarray:
        """(rows, vocabulary): p(token | the whole row before it), fp64."""
        probability = np.empty((len(rows), self.lm.config.vocab_size))
        for chosen, logits in self._logits(rows):
            for index, values in zip(chosen, logits, strict=True):
                probability[index] = values[len(rows[index]) - 1].double().softmax(dim=-1).cpu().numpy()
        return probability

    def sums(self, rows: Tokens) -> np.ndarray:
        """(rows,), in nats: the sum over the tokens of each row but the first of ln p(token | those before it), fp64."""
        # The last token is predicted and never read, so rows that differ in it alone need one forward pass for all.
        inputs = {row: number for number, row in enumerate(dict.fromkeys(tuple(row[:-1]) for row in rows))}
        ending = [list[int]() for _ in inputs]
        for number, row in enumerate(rows):
            ending[inputs[tuple(row[:-1])]].append(number)
        totals, read = np.zeros(len(rows)), [list(row) for row in inputs]
        for chosen, logits in self._logits(read):
            for index, values in zip(chosen, logits, strict=True):
                row = read[index]
                common = _log_p(values, range(len(row) - 1), row[1:]).sum()
                last = [rows[number][-1] for number in ending[index]]
                totals[ending[index]] = common + _log_p(values, [len(row) - 1] * len(last), last)
        return totals

    @torch.no_grad()
    def _logits(self, rows: Tokens) -> Iterator[tuple[list[int], torch.Tensor]]:
        """(positions in `rows`, logits (rows of the batch, tokens, vocabulary)), in batches of similar length."""
        lm = self.lm.eval()
        budget = max(1, min(2048, LOGITS // lm.config.vocab_size))
        for chosen in length_batches([*map(len, rows)], budget):
            batch = pad([rows[index] for index in chosen], self.tokenizer.pad_token_id)
            yield chosen, lm(**{name: value.to(lm.device) for name, value in batch.items()}, use_cache=False).logits

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> Likelihoods:
        """Log-likelihoods: the sum over all tokens of the sentence."""
        rows = encode(self.tokenizer, [text for pair in pairs for text in pair], MOST_TOKENS)
        counts = np.array([len(row) - 1 for row in rows])
        return Likelihoods(self.sums(rows).reshape(-1, 2), counts.reshape(-1, 2))

    def continuations(self, pairs: Sequence[tuple[str, str]]) -> Continuations:
        """By the tokens that cover the second text, of both texts tokenised together."""
        most = min(MOST_TOKENS, getattr(self.lm.config, "max_position_embeddings", None) or MOST_TOKENS)
        encoded = self.tokenizer([f"{first} {second}" for first, second in pairs], return_offsets_mapping=True)
        rows, start, counts = list[list[int]](), self.tokenizer("")["input_ids"], list[int]()
        for (first, second), row, offsets in zip(pairs, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            counts.append(len(covering(offsets, f"{first} ", second)))
            if counts[-1] + len(start) >= most:
                raise UserError(f"a text of {counts[-1]} tokens is to follow another: this model reads {most} in all.")
            rows.append([*start, *row[len(start) :][len(start) - most :]])
        totals = np.zeros(len(rows))
        for chosen, logits in self._logits([row[:-1] for row in rows]):
            for index, values in zip(chosen, logits, strict=True):
                last, count = len(rows[index]) - 1, counts[index]
                totals[index] = _log_p(values, range(last - count, last), rows[index][-count:]).sum()
        return Continuations(totals, np.array(counts))

    def word_scores(self, frames: Sequence[Frame]) -> WordScores:
        """Of all tokens of the sentence, as in the published script."""
        rows = encode(self.tokenizer, ["".join(frame) for frame in frames], MOST_TOKENS)
        mean = self.sums(rows) / np.array([len(row) - 1 for row in rows])
        return WordScores(mean, np.exp(mean))

    def associations(self, template: str, names: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """ln p(word | the text before it, about the name), by the chain rule: by Bayes' theorem this is ln p(name | word) - ln
        p(name) + ln p(word). What stands after the word is not read, and the name has to stand before it."""
        before, _, _ = template.partition(SLOT)
        if GROUP not in before:
            return np.full((len(names), len(words)), math.nan)
        texts = [with_name(template.partition(SLOT)[0] + SLOT, name, "")[1].before + SLOT for name in names]
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.word_probabilities(texts, words)))

    def completions(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """Of one or several sub-tokens, by the chain rule: p(its sub-tokens) x p(what follows goes on with no word).

        A word counts by its likeliest sub-tokens. Beginnings are read likeliest first, until none is left that is likelier than
        the word of rank `count`: the words are then the likeliest of all. A model that knows no word is cut off after
        `MOST_BEGINNINGS`.
        """
        known = pieces(self.tokenizer)
        rows = encode(self.tokenizer, self._before_slot(texts), MOST_TOKENS)
        return [self._next_words(row, count, known) for row in rows]

    @torch.no_grad()
    def _next_words(self, row: Sequence[int], count: int, known: Pieces) -> list[str]:
        lm = self.lm.eval()
        read = lm(torch.tensor([row], device=lm.device), use_cache=True)
        start = read.logits[0, -1].double().softmax(dim=-1).cpu().numpy()
        beginnings: list[tuple[float, tuple[int, ...]]] = [(start[token], (token,)) for token in known.first]
        words, later, bound = dict[str, float](), list(known.later), 0.0
        if not np.isfinite(start).all():
            return []
        for _ in range(MOST_BEGINNINGS // BEGINNINGS):
            beginnings = sorted((entry for entry in beginnings if entry[0] > bound), key=lambda entry: -entry[0])
            chosen, beginnings = beginnings[:BEGINNINGS], beginnings[BEGINNINGS:]
            if not chosen:
                break
            following = self._following(read.past_key_values, len(row), [tokens for _, tokens in chosen])[:, later]
            for (p, tokens), goes_on in zip(chosen, following, strict=True):
                word = (known.first[tokens[0]] + "".join(known.later[token] for token in tokens[1:])).lower()
                if len(word) > 1:
                    words[word] = max(words.get(word, 0.0), p * (1 - goes_on.sum()))
            bound = sorted(words.values())[-count] if len(words) >= count else 0.0
            beginnings += [
                (p * goes_on[place], (*tokens, later[place]))
                for (p, tokens), goes_on in zip(chosen, following, strict=True)
                for place in np.flatnonzero(p * goes_on > bound)
            ]
        return sorted(words, key=lambda word: -words[word])[:count]

    def _following(self, keys_and_values: Any, read: int, beginnings: Sequence[tuple[int, ...]]) -> np.ndarray:
        """(beginnings, vocabulary): p(next token | the text that was read, the beginning), fp64. read: its tokens."""
        lm, batch = self.lm, pad(beginnings, self.tokenizer.pad_token_id)
        cache = copy.deepcopy(keys_and_values)
        cache.batch_repeat_interleave(len(beginnings))
        seen = torch.cat([torch.ones(len(beginnings), read, dtype=torch.long), batch["attention_mask"]], dim=1)
        logits = lm(
            batch["input_ids"].to(lm.device), past_key_values=cache, attention_mask=seen.to(lm.device), use_cache=True
        ).logits
        last = torch.tensor([len(tokens) - 1 for tokens in beginnings], device=logits.device)
        at_last = logits[torch.arange(len(beginnings)), last]
        return np.asarray(at_last.double().softmax(dim=-1).cpu().numpy())

    def unmasked(self, texts: Sequence[str]) -> Unmasked:
        """Refused."""
        raise UserError(
            "metric.aul: a causal language model predicts each token from those before it, and never one that it reads. Leave "
            "the option out (the likelihood per token is measured with the pairs), or use a masked model."
        )

    def loss(self, texts: Sequence[str], counts: Mapping[int, int], max_tokens: int) -> Loss:
        """Of every token of the text but the first, if the model has no start token."""
        rows = [row for row in encode(self.tokenizer, texts, max_tokens) if len(row) > 1]
        framing = framing_ids(self.tokenizer)
        normaliser = math.log(sum(counts.values()) + self.lm.config.vocab_size)
        total, unigram, n = 0.0, 0.0, 0
        for chosen, logits in self._logits(rows):
            for index, values in zip(chosen, logits, strict=True):
                row = rows[index]
                places = [place for place in range(1, len(row)) if row[place] not in framing]
                tokens = [row[place] for place in places]
                total -= float(_log_p(values, [place - 1 for place in places], tokens).sum())
                unigram += unigram_loss(tokens, counts, normaliser)
                n += len(tokens)
        return Loss(total / n, unigram / n, n) if n else Loss(math.nan, math.nan, 0)


def _log_p(logits: torch.Tensor, places: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
    """(tokens,): ln p of each token by the logits at its place. logits: (places, vocabulary)."""
    chosen = logits[list(places)].double()
    of_tokens = chosen[torch.arange(len(tokens)), list(tokens)]
    return np.asarray((of_tokens - chosen.logsumexp(dim=-1)).cpu().numpy())


def _edges(
    node: tuple[int, ...], logits: torch.Tensor, tokens: Sequence[int]
) -> Iterator[tuple[tuple[tuple[int, ...], int], float]]:
    """((node, token), ln p(token | node)). logits: (1, vocabulary)."""
    yield from zip(((node, token) for token in tokens), _log_p(logits, [0] * len(tokens), tokens).tolist(), strict=True)
