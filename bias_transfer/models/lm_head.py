"""What upstream metrics ask a language model, whether it is masked or causal.

`masked_head.MaskedLMHead` and `causal_head.CausalLMHead` both answer; no metric asks which of the two it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np

SLOT = "{mask}"
"""The place in a text where words are compared or predicted. Each text has one."""

GROUP = "{group}"
"""The place of a group's name in a template."""

Position = Literal["first", "mean", "mask", "last", "classifier"]
"""Which tokens of a text are averaged. first: the first token alone. mean: the text's own tokens, without the special tokens
around it. mask: the {mask}. last: the last token alone. classifier: what the classification head reads, which is the first
token, all tokens with the special ones for a head with mean pooling (ModernBERT), or the last token of a causal model."""


@dataclass(frozen=True)
class NamedSentence:
    """A sentence that names a group, and the same sentence without the name."""

    template: str
    """With {mask}, and {name} in the place of the group's name."""
    name: str
    neutral: str
    """With {mask}: the name is left out, or "person" takes its place."""

    @property
    def text(self) -> str:
        """The sentence with the name in it."""
        return self.template.replace("{name}", self.name)


class Likelihoods(NamedTuple):
    """Log-likelihoods of the two sentences of each pair."""

    total: np.ndarray
    """(pairs, 2), in nats: the sum over tokens."""
    tokens: np.ndarray
    """(pairs, 2): the number of tokens in the sum."""


class Continuations(NamedTuple):
    """Log-likelihoods of texts after others."""

    total: np.ndarray
    """(pairs,), in nats: the sum over the second text's tokens of ln p(token | all before it)."""
    tokens: np.ndarray
    """(pairs,): the number of tokens in the sum."""


class Frame(NamedTuple):
    """A sentence around a word."""

    before: str
    word: str
    after: str


class WordScores(NamedTuple):
    """How likely a model finds the word of each frame."""

    log: np.ndarray
    """(frames,), in nats: the mean of the log-probabilities."""
    probability: np.ndarray
    """(frames,): the score of StereoSet's published script. Of a masked model the mean of the probabilities; of a causal one
    the exponential of `log`."""


class Unmasked(NamedTuple):
    """The log-likelihood of each text to a model that reads it whole, in nats per token."""

    plain: np.ndarray
    """(texts,): the mean over tokens."""
    attended: np.ndarray
    """(texts,): the same, each token multiplied by the attention that it receives."""


class Loss(NamedTuple):
    """Mean cross-entropies of the same tokens, in nats per token; NaN where there are none."""

    model: float
    unigram: float
    """Under the add-one smoothed frequencies of the tokens in other text."""
    tokens: int


class LMHead(Protocol):
    """A language-model head with its tokenizer. All values are computed without gradients and returned in fp64."""

    loss_name: ClassVar[str]
    """The name of its held-out loss among the measures."""
    positions: ClassVar[tuple[Position, ...]]
    """Positions at which a metric may read hidden states of a text (`embeddings.hidden_states`)."""

    def log_odds(self, texts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> np.ndarray:
        """(texts,): ln p(one of the first words in the slot) - ln p(one of the second words), in nats.

        A word that begins a sentence is capitalised. Raises UserError for words that cannot be compared.
        """

    def prior_log_odds(
        self, sentences: Sequence[NamedSentence], first: Sequence[str], second: Sequence[str]
    ) -> np.ndarray:
        """(sentences,): `log_odds` where the model is not told the group's name."""

    def check_words(self, texts: Sequence[str], words: Sequence[str]) -> None:
        """Raises the UserError that `log_odds` would raise, without running the model."""

    def check_slots(self, templates: Sequence[str]) -> None:
        """Raises UserError for a template whose slot `distribution` cannot predict, or not by its {group}; without running the
        model or its tokenizer."""

    def distribution(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, vocabulary): p(token in the slot | text). Raises UserError for a slot that the model cannot predict."""

    def word_probabilities(self, texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """(texts, words): p(the word's sub-tokens in the slot | text), by the chain rule. It includes the probability of longer
        words that begin with the same sub-tokens. Raises UserError for a model that has only one place for a word."""

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> Likelihoods:
        """How likely the model finds both sentences of each pair."""

    def continuations(self, pairs: Sequence[tuple[str, str]]) -> Continuations:
        """How likely the second text of each pair is after the first and a space. A first text that is too long for the model
        loses its beginning. Raises UserError for a model that does not read from left to right."""

    def loss(self, texts: Sequence[str], counts: Mapping[int, int], max_tokens: int) -> Loss:
        """The loss on texts, each truncated to `max_tokens` tokens. counts: token id -> its frequency in other text."""

    def word_scores(self, frames: Sequence[Frame]) -> WordScores:
        """How likely the model finds the word of each frame, or its sentence."""

    def completions(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """The `count` likeliest whole words in the slot of each text, likeliest first, in lower case: two or more letters.

        No word for a text where a probability is not finite.
        """

    def associations(self, template: str, names: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """(names, words), in nats: ln p(name | word) - ln p(name), up to a number that depends on the word alone.

        template: with {group} for the name, and {mask} for the word. NaN where it has them in an order in which the model
        cannot be asked.
        """

    def unmasked(self, texts: Sequence[str]) -> Unmasked:
        """How likely the model finds the tokens of texts that it reads whole. Raises UserError for a model that reads from left
        to right, to which no token is known before it is predicted."""


def filled(text: str, word: str) -> tuple[str, str]:
    """(the text before its slot, the word as it is written there): a word that begins the sentence is capitalised."""
    before, _, _ = text.partition(SLOT)
    return before, word if before.strip() else word[:1].upper() + word[1:]


def with_name(template: str, name: str, word: str) -> tuple[Frame, Frame]:
    """The same sentence, around the name and around the word. template: with {group} and {mask}. What begins the sentence is
    capitalised."""
    frames = []
    for slot, filler, other, placed in ((GROUP, name, SLOT, word), (SLOT, word, GROUP, name)):
        before, _, after = template.partition(slot)
        other_before, _, _ = template.partition(other)
        written, beside = (
            text if start.strip() else text[:1].upper() + text[1:]
            for text, start in ((filler, before), (placed, other_before))
        )
        frames.append(Frame(before.replace(other, beside), written, after.replace(other, beside)))
    return frames[0], frames[1]


def covering(offsets: Sequence[tuple[int, int]], before: str, words: str) -> list[int]:
    """Positions of the tokens that cover a part of `words`, which follow `before` in the text.

    offsets: (start, end) of each token, in characters.
    """
    start, end = len(before.rstrip()), len(before) + len(words)  # the space before a word may be a token of its own
    return [place for place, (first, last) in enumerate(offsets) if first < end and last > start]


def framing_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that stand around any text, and of special tokens, without the mask and the unknown token, which stand
    for a part of the text."""
    inner = {tokenizer.mask_token_id, tokenizer.unk_token_id}
    # A causal model's start token need not be a special one, and may be its token for unknown words as well.
    return ({*tokenizer.all_special_ids} - inner) | {*tokenizer("")["input_ids"]}


def unigram_loss(tokens: Sequence[int], counts: Mapping[int, int], normaliser: float) -> float:
    """The sum over tokens of -ln of their add-one smoothed frequency. normaliser: ln(all counts + size of the vocabulary)."""
    return sum(normaliser - math.log(counts.get(token, 0) + 1) for token in tokens)
