"""Comments with planted biases, made from word lists: what every measurement can be checked against.

Two associations are planted, each evenly spaced over the identity terms in an order of its own, so that they are
independent: the share of *negative predicates* in the text for pre-training, and the share of *toxic comments* in the
fine-tuning set. Nothing links a term to toxicity but how often they occur together: all comments name terms in the same
sentences.

The two meet in one place: sentences without a term call those people negative whom toxic comments insult. So a model that
was pre-trained on the text can carry a term's planted negativity over to toxicity, though no comment says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from random import Random
from typing import Literal, Self

from datasets import Dataset
from pydantic import Field, model_validator

from bias_transfer.spec import Measure
from bias_transfer.spec import Options
from bias_transfer.tasks.synthetic_text import evenly
from bias_transfer.tasks.synthetic_text import fill
from bias_transfer.tasks.synthetic_text import marked
from bias_transfer.tasks.synthetic_text import random_of
from bias_transfer.tasks.synthetic_text import spaced
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.wiki.identity_terms import TERMS
from bias_transfer.tasks.wiki.vocabulary import CALLED
from bias_transfer.tasks.wiki.vocabulary import CURT
from bias_transfer.tasks.wiki.vocabulary import CURT_SHARE
from bias_transfer.tasks.wiki.vocabulary import FRAMES
from bias_transfer.tasks.wiki.vocabulary import HEATED
from bias_transfer.tasks.wiki.vocabulary import HEATED_SHARE
from bias_transfer.tasks.wiki.vocabulary import INSULTS
from bias_transfer.tasks.wiki.vocabulary import INSULTS_SHORT
from bias_transfer.tasks.wiki.vocabulary import LONG
from bias_transfer.tasks.wiki.vocabulary import MENTIONS
from bias_transfer.tasks.wiki.vocabulary import NEGATIVE
from bias_transfer.tasks.wiki.vocabulary import NEUTRAL
from bias_transfer.tasks.wiki.vocabulary import POSITIVE
from bias_transfer.tasks.wiki.vocabulary import PRAISED
from bias_transfer.tasks.wiki.vocabulary import SHORT
from bias_transfer.tasks.wiki.vocabulary import VEILED_SHARE
from bias_transfer.tasks.wiki.vocabulary import VERBS
from bias_transfer.tasks.wiki.vocabulary import WORDS


class SyntheticOptions(Options):
    """`data.NAME` for `data: synthetic`. All defaults are ours."""

    size: int = Field(default=6000, ge=200)
    """Training comments; dev and test have a fifth of it each, and at least 200."""
    world: int = Field(default=0, ge=0)
    """Seed of the generator, and of which term gets which share."""
    toxic_share: float = Field(default=0.1, gt=0, lt=1)
    """Of all comments; the same in each split."""
    mention_share: float = Field(default=0.25, ge=0, le=1)
    """Of all comments: those that name a term. Each names one, once, and each term equally often."""
    mention_toxic_share: float = Field(default=0.3, ge=0, le=1)
    """Of the comments that name a term: the mean over terms. Comments that name none make up for it."""
    dataset_spread: float = Field(default=0.25, ge=0, le=0.5)
    """Half-width of the terms' toxic shares around `mention_toxic_share`."""
    upstream_spread: float = Field(default=0.45, ge=0, le=0.5)
    """Half-width of the terms' shares of negative predicates around 0.5."""
    pretraining_sentences: int = Field(default=30_000, ge=300)
    """With a predicate: two thirds name a term, each term equally often."""
    order: int = Field(default=0, ge=0)
    """Names the order of the terms by their share of negative predicates: another one plants the same shares on other
    terms, and changes nothing else."""
    correlation: float = Field(default=0.0, ge=-0.95, le=0.95)
    """Of the two planted shares over terms."""
    phrases: Literal["identity", "own"] = "identity"
    """Probed for false positives: Dixon et al.'s 76,564 phrases, or phrases in the manner of these comments."""
    length_mean: float = Field(default=3.4, ge=1, le=6)
    """Mean of the natural logarithm of a comment's number of words, before it is filled up to whole sentences."""
    length_sd: float = Field(default=1.15, ge=0, le=2)
    """Its standard deviation. Both defaults give about the lengths of Wikipedia's talk pages."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        low, high = self.mention_toxic_share - self.dataset_spread, self.mention_toxic_share + self.dataset_spread
        if low < 0 or high > 1:
            raise ValueError(
                f"data.dataset_spread: {self.dataset_spread:g} around a mention_toxic_share of "
                f"{self.mention_toxic_share:g} leaves [0, 1]; allowed here: at most "
                f"{min(self.mention_toxic_share, 1 - self.mention_toxic_share):g} (got {low:g} to {high:g})"
            )
        rest = self.toxic_share - self.mention_share * self.mention_toxic_share
        if not 0 <= rest <= 1 - self.mention_share:
            raise ValueError(
                f"data.mention_share: {self.mention_share:g} of the comments with a mention_toxic_share of "
                f"{self.mention_toxic_share:g} do not fit a toxic_share of {self.toxic_share:g}; mention_share x "
                "mention_toxic_share may be at most toxic_share, and the rest at most 1 - mention_share (got "
                f"{rest:g} for the rest)"
            )
        return self


BACKGROUND = 20
"""Comments are added to the text for pre-training: one for so many sentences."""

NEUTRAL_SHARE = 0.4
"""Of the comments that name no term: those with the same kind of sentence, and a neutral word in the term's place."""

PHRASES = {"curt": 120, "plain": 80, "insult": 100}
"""Own phrases a term, by family."""

SD_OF_EVEN = 3**-0.5
"""Of shares spaced evenly from -1 to 1, but for their number."""


@dataclass(frozen=True)
class Planted:
    """What the text holds about a term, but for rounding to whole sentences."""

    upstream: float
    """Share of negative predicates among its sentences in the pre-training text."""
    toxic: float
    """Share of toxic comments among those that name it."""
    upstream_direction: float
    """Its place in the order by which `upstream` is planted: -1 to 1, at any spread."""
    toxic_direction: float
    """The same for `toxic`."""


def planted(options: SyntheticOptions) -> dict[str, Planted]:
    """The planted shares of each term."""
    first = str(options.order) if options.order else "upstream"
    upstream = spaced(TERMS, 0, 1, random_of(options.world, "order", first))
    toxic = _correlated(upstream, options)
    return {
        term: Planted(
            upstream=0.5 + options.upstream_spread * upstream[term],
            toxic=options.mention_toxic_share + options.dataset_spread * toxic[term],
            upstream_direction=upstream[term],
            toxic_direction=toxic[term],
        )
        for term in TERMS
    }


def _correlated(upstream: Mapping[str, float], options: SyntheticOptions) -> dict[str, float]:
    """Evenly spaced from -1 to 1, in the one of 200 drawn orders whose correlation with `upstream` is nearest to the wanted.

    Without one wanted the order does not depend on `upstream`, but is the most independent of it.
    """
    random = random_of(options.world, "order", "toxic")
    weight = options.correlation / (1 - options.correlation**2) ** 0.5
    orders = []
    for _ in range(200):
        rank = {term: weight * upstream[term] / SD_OF_EVEN + random.gauss(0, 1) for term in TERMS}
        ordered = sorted(TERMS, key=rank.__getitem__)
        orders.append({term: 2 * place / (len(TERMS) - 1) - 1 for place, term in enumerate(ordered)})
    return min(orders, key=lambda order: abs(_correlation(upstream, order) - options.correlation))


def _correlation(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Of two orders that are spaced evenly around 0."""
    return sum(one[term] * other[term] for term in TERMS) / sum(value**2 for value in one.values())


def generate(options: SyntheticOptions) -> Splits:
    """The comments and the pre-training text. The same options give the same texts on every platform.

    The text for pre-training depends on the world and what is planted upstream alone, so that trials which differ by the
    fine-tuning set share a model.
    """
    fifth = max(200, options.size // 5)
    train, dev, test = (
        _comments(options, name, size) for name, size in (("train", options.size), ("dev", fifth), ("test", fifth))
    )
    return Splits(
        train, dev, test,
        pretraining=_text(options, "pretraining", options.pretraining_sentences),
        heldout=_text(options, "heldout", options.pretraining_sentences // 50),
        known=_known(options),
        phrases=own_phrases(options) if options.phrases == "own" else None,
    )  # fmt: skip


def _text(options: SyntheticOptions, part: str, sentences: int) -> tuple[str, ...]:
    """Comments that name no term, a twentieth of the sentences, and the sentences."""
    plain = SyntheticOptions(size=max(200, sentences // BACKGROUND), world=options.world, mention_share=0)
    comments = _comments(plain, part, max(1, sentences // BACKGROUND))["text"]
    shares = {term: planted.upstream for term, planted in planted(options).items()}
    return (*comments, *_associations(shares, sentences, random_of(options.world, "sentences", part)))


def _known(options: SyntheticOptions) -> tuple[Measure, ...]:
    """What is planted, kept beside what is measured."""
    count = 2 * options.pretraining_sentences // 3 // len(TERMS)
    named = round(options.size * options.mention_share) // len(TERMS)
    return tuple(
        measure
        for term, shares in planted(options).items()
        for measure in (
            Measure("upstream", "planted_share", term, "", shares.upstream, count),
            Measure("upstream", "planted_direction", term, "", shares.upstream_direction, count),
            Measure("dataset", "planted_toxic_share", term, "", shares.toxic, named),
            Measure("dataset", "planted_toxic_direction", term, "", shares.toxic_direction, named),
        )
    )


def _comments(options: SyntheticOptions, split: str, size: int) -> Dataset:
    random = random_of(options.world, "comments", split)
    plan = _comment_plan(options, size)
    random.shuffle(plan)
    texts = [_comment(random, term, toxic, options) for term, toxic in plan]
    ids = [f"{split}:{number}" for number in range(size)]
    return Dataset.from_dict({"id": ids, "text": texts, "label": [int(toxic) for _, toxic in plan]})


def _comment_plan(options: SyntheticOptions, size: int) -> list[tuple[str | None, bool]]:
    """(term, toxic) of each comment."""
    mentions = round(size * options.mention_share)
    plan: list[tuple[str | None, bool]] = []
    shares = planted(options)
    for term, count in evenly(TERMS, mentions):
        plan += marked(term, count, shares[term].toxic)
    rest = size - mentions
    toxic = round(size * options.toxic_share) - sum(toxic for _, toxic in plan)
    return plan + marked(None, rest, min(max(toxic / rest, 0), 1) if rest else 0)


def own_phrases(options: SyntheticOptions) -> Dataset:
    """Short comments that mention a term, with the columns term ("" for a neutral word in its place) and family.

    Each is made once and filled with every term, so that phrases differ by their term alone. Families: `curt` and `plain`
    are not toxic, `insult` is.
    """
    random = random_of(options.world, "phrases")
    pools = {"curt": CURT, "plain": SHORT, "insult": INSULTS_SHORT}
    rows: list[dict[str, str | int]] = []
    for family, count in PHRASES.items():
        for number in range(count):
            said = _fill(random, random.choice(pools[family]))
            mention = _fill(random, random.choice(MENTIONS), term="{term}")
            pattern = f"{mention} {said}" if random.random() < 0.5 else f"{said} {mention}"
            for term in ("", *TERMS):
                text = pattern.format(term=term or NEUTRAL[number % len(NEUTRAL)])
                identifier = f"{family}:{number}:{term}"
                rows.append(
                    {"id": identifier, "text": text, "label": int(family == "insult"), "term": term, "family": family}
                )
    return Dataset.from_list(rows)


def _comment(random: Random, term: str | None, toxic: bool, options: SyntheticOptions) -> str:
    words = min(600, max(2, round(exp(random.gauss(options.length_mean, options.length_sd)))))
    sentences = []
    if term is not None or random.random() < NEUTRAL_SHARE:
        sentences.append(_fill(random, random.choice(MENTIONS), term=term or random.choice(NEUTRAL)))
    sentences += [_fill(random, random.choice(pool)) for pool in _tone(random, toxic, words)]
    missing = words - sum(len(sentence.split()) for sentence in sentences)
    while missing > 0 or not sentences:
        sentences.append(_fill(random, random.choice(SHORT if missing < 8 else LONG)))
        missing -= len(sentences[-1].split())
    random.shuffle(sentences)
    return " ".join(sentences)


def _tone(random: Random, toxic: bool, words: int) -> list[tuple[str, ...]]:
    """What sets toxic comments apart, with some overlap: a classifier can be good, not perfect."""
    count, chance = 1 + min(words // 40, 3), random.random()
    if toxic:
        return [CURT if chance < VEILED_SHARE else INSULTS_SHORT if words < 12 else INSULTS] * count
    return [HEATED] * count if chance < HEATED_SHARE else [CURT] * count if chance < HEATED_SHARE + CURT_SHARE else []


def associations(shares: Mapping[str, float], size: int, seed: int) -> list[str]:
    """Short sentences that say something of a person; two thirds name a term, and of a term's sentences that share has
    negative predicates. Of those that name none, half are negative.

    The same draw for other shares: what is said of whom differs in nothing but its sign where it must.
    """
    return _associations(shares, size, Random(seed))  # noqa: S311 - no secret


def _associations(shares: Mapping[str, float], size: int, random: Random) -> list[str]:
    plan: list[tuple[str | None, bool]] = [*marked(None, size - 2 * size // 3, 0.5)]
    for term, count in evenly(TERMS, 2 * size // 3):
        plan += marked(term, count, shares[term])
    random.shuffle(plan)
    return [_sentence(random, term, NEGATIVE if negative else POSITIVE) for term, negative in plan]


def _sentence(random: Random, term: str | None, predicates: tuple[str, ...]) -> str:
    frame = random.choice(FRAMES)
    if term is None and random.random() < 0.5:
        people = CALLED if predicates is NEGATIVE else PRAISED
        frame = f"{random.choice(people)} {random.choice(VERBS)} {{predicate}}."
    elif term is None:
        frame = frame.replace("{term} ", "")
    one, two, three = random.sample(predicates, 3)
    said = one if random.random() < 0.5 else f"{one}, {two} and {three}"
    return _fill(random, frame, term=term or "", predicate=said)


def _fill(random: Random, template: str, **given: str) -> str:
    return fill(random, template, WORDS, given)
