"""Synthetic comments with planted biases, made from word lists: known values against which measurements can be checked.

Two associations are planted, each evenly spaced over the identity terms in an order of its own, so that they are
independent: the share of *negative predicates* in the text for pre-training, and the share of *toxic comments* in the
fine-tuning set. The only link between a term and toxicity is how often they occur together: all comments name terms in the
same sentences.

The two associations meet in one place: sentences without a term give negative predicates to the same people whom toxic comments
insult. A model that was pre-trained on the text can therefore carry a term's planted negativity over to toxicity, although no
comment expresses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from random import Random
from typing import Literal, Self

from datasets import Dataset
from pydantic import Field, model_validator

from bias_transfer import rounding
from bias_transfer.spec import Measure, Options
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.synthetic_text import evenly, fill, marked, random_of, spaced
from bias_transfer.tasks.wiki.identity_terms import TERMS
from bias_transfer.tasks.wiki.vocabulary import (
    CALLED,
    CURT,
    CURT_SHARE,
    FRAMES,
    HEATED,
    HEATED_SHARE,
    INSULTS,
    INSULTS_SHORT,
    LONG,
    MENTIONS,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    PRAISED,
    SHORT,
    VEILED_SHARE,
    VERBS,
    WORDS,
)


class SyntheticOptions(Options):
    """`data.NAME` for `data: synthetic`. All defaults are ours."""

    size: int = Field(default=6000, ge=200)
    """Number of training comments. dev and test have a fifth as many each, and at least 200."""
    world: int = Field(default=0, ge=0)
    """Seed of the generator, which also decides which term gets which share."""
    toxic_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of toxic comments among all, the same in each split."""
    mention_share: float = Field(default=0.25, ge=0, le=1)
    """Share of comments that name a term. Each of them names one term once, and all terms equally often."""
    mention_toxic_share: float = Field(default=0.3, ge=0, le=1)
    """Share of toxic comments among those that name a term, mean over terms. Comments that name none compensate for it."""
    dataset_spread: float = Field(default=0.25, ge=0, le=0.5)
    """Half-width of the terms' toxic shares around `mention_toxic_share`."""
    upstream_spread: float = Field(default=0.45, ge=0, le=0.5)
    """Half-width of the terms' shares of negative predicates around 0.5."""
    pretraining_sentences: int = Field(default=30_000, ge=300)
    """Number of sentences with a predicate, two thirds of which name a term, all terms equally often."""
    order: int = Field(default=0, ge=0)
    """Seed of the order of the terms by their share of negative predicates: another value plants the same shares on other terms
    and changes nothing else."""
    correlation: float = Field(default=0.0, ge=-0.95, le=0.95)
    """Correlation of the two planted shares over terms."""
    phrases: Literal["identity", "own"] = "identity"
    """The phrases that are probed for false positives: `identity`, the 76,564 phrases of Dixon et al., or `own`, phrases in the
    style of these comments."""
    length_mean: float = Field(default=3.4, ge=1, le=6)
    """Mean of the natural logarithm of a comment's number of words, before whole sentences fill it up."""
    length_sd: float = Field(default=1.15, ge=0, le=2)
    """Standard deviation of that logarithm. Both defaults give about the lengths on Wikipedia's talk pages."""

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
"""The text for pre-training has one comment per BACKGROUND sentences."""

NEUTRAL_SHARE = 0.4
"""Share, among the comments without a term, of those with the same kind of sentence and a neutral word in the term's place."""

PHRASES = {"curt": 120, "plain": 80, "insult": 100}
"""Number of `own` phrases per term, by family."""

SD_OF_EVEN = 3**-0.5
"""Standard deviation of many values that are spaced evenly from -1 to 1."""


@dataclass(frozen=True)
class Planted:
    """The shares that are planted for a term. The texts have them up to rounding to whole sentences."""

    upstream: float
    """Share of negative predicates among its sentences in the pre-training text."""
    toxic: float
    """Share of toxic comments among those that name it."""
    upstream_direction: float
    """Its position, from -1 to 1, in the order in which `upstream` is planted, whatever the spread."""
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
    """Evenly spaced from -1 to 1, in that order out of 200 drawn ones whose correlation with `upstream` is nearest to
    `options.correlation`. At a correlation of 0, the draws do not depend on `upstream`."""
    random = random_of(options.world, "order", "toxic")
    weight = options.correlation / (1 - options.correlation**2) ** 0.5
    orders = []
    for _ in range(200):
        score = {term: weight * upstream[term] / SD_OF_EVEN + random.gauss(0, 1) for term in TERMS}
        ordered = sorted(TERMS, key=score.__getitem__)
        orders.append({term: 2 * rank / (len(TERMS) - 1) - 1 for rank, term in enumerate(ordered)})
    return min(orders, key=lambda order: abs(_correlation(upstream, order) - options.correlation))


def _correlation(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """The correlation of two assignments of the same values, which are evenly spaced around 0."""
    return sum(first[term] * second[term] for term in TERMS) / sum(value**2 for value in first.values())


def generate(options: SyntheticOptions) -> Splits:
    """The comments and the pre-training text. The same options give the same texts on every platform.

    The text for pre-training depends only on the world and on the options of the upstream association, so that trials with
    different fine-tuning sets share a pre-trained model.
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
    """Comments that name no term, one for every `BACKGROUND` sentences, and the sentences with predicates."""
    plain = SyntheticOptions(size=max(200, sentences // BACKGROUND), world=options.world, mention_share=0)
    comments = _comments(plain, part, max(1, sentences // BACKGROUND))["text"]
    shares = {term: planted.upstream for term, planted in planted(options).items()}
    return (*comments, *_associations(shares, sentences, random_of(options.world, "sentences", part)))


def _known(options: SyntheticOptions) -> tuple[Measure, ...]:
    """The planted shares as measures, to be compared with what is measured."""
    count = 2 * options.pretraining_sentences // 3 // len(TERMS)
    named = rounding.part(options.mention_share, options.size) // len(TERMS)
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
    """(term or None, whether it is toxic) of each comment."""
    mentions = rounding.part(options.mention_share, size)
    plan: list[tuple[str | None, bool]] = []
    shares = planted(options)
    for term, count in evenly(TERMS, mentions):
        plan += marked(term, count, shares[term].toxic)
    rest = size - mentions
    toxic = rounding.part(options.toxic_share, size) - sum(toxic for _, toxic in plan)
    return plan + marked(None, rest, min(max(toxic / rest, 0), 1) if rest else 0)


def own_phrases(options: SyntheticOptions) -> Dataset:
    """Short comments that mention a term, with the columns term ("" for a neutral word in its place), family and pattern
    (the text with {term} in that place).

    Each pattern is drawn once and filled with every term, so that phrases differ in their term alone. The families `curt` and
    `plain` are not toxic, `insult` is.
    """
    random = random_of(options.world, "phrases")
    pools = {"curt": CURT, "plain": SHORT, "insult": INSULTS_SHORT}
    rows: list[dict[str, str | int]] = []
    for family, count in PHRASES.items():
        for number in range(count):
            remark = _fill(random, random.choice(pools[family]))
            mention = _fill(random, random.choice(MENTIONS), term="{term}")
            pattern = f"{mention} {remark}" if random.random() < 0.5 else f"{remark} {mention}"
            for term in ("", *TERMS):
                text = pattern.format(term=term or NEUTRAL[number % len(NEUTRAL)])
                identifier = f"{family}:{number}:{term}"
                about = {"term": term, "family": family, "pattern": pattern}
                rows.append({"id": identifier, "text": text, "label": int(family == "insult"), **about})
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
    """The pools of the sentences that set toxic comments apart; they overlap, so that no classifier can be perfect."""
    count, chance = 1 + min(words // 40, 3), random.random()
    if toxic:
        return [CURT if chance < VEILED_SHARE else INSULTS_SHORT if words < 12 else INSULTS] * count
    return [HEATED] * count if chance < HEATED_SHARE else [CURT] * count if chance < HEATED_SHARE + CURT_SHARE else []


def associations(shares: Mapping[str, float], size: int, seed: int) -> list[str]:
    """`size` short sentences that give a person a predicate; two thirds name a term, and of a term's sentences its share has
    negative predicates. Half of the sentences that name no term are negative.

    Other shares use the same random draws: the sentences then differ only in the sign of their predicates, and only where the
    share requires it.
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
    # Three predicates are drawn even if one is used, so that the stream of draws does not depend on what was drawn.
    first, second, third = random.sample(predicates, 3)
    predicate = first if random.random() < 0.5 else f"{first}, {second} and {third}"
    return _fill(random, frame, term=term or "", predicate=predicate)


def _fill(random: Random, template: str, **given: str) -> str:
    return fill(random, template, WORDS, given)
