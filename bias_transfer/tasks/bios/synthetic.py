"""Synthetic biographies with planted biases, made from word lists, like WIKI's synthetic comments.

Two associations are planted, each evenly spaced over the occupations in an order of its own, so that they are independent:
the share of *she sentences* in the text for pre-training, and the share of *she/her biographies* in the fine-tuning set.
What a biography says about its occupation does not depend on its pronoun. Many biographies are about two occupations: there the
pronoun helps a classifier, and an occupation's recall for she/her rises with the rank of its share among the 28.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from math import exp
from random import Random
from typing import Self

from datasets import Dataset
from pydantic import Field, model_validator

from bias_transfer.spec import Measure, Options
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.bios.occupations import OCCUPATIONS, surface
from bias_transfer.tasks.bios.vocabulary import (
    ASSOCIATIONS,
    FACTS,
    GENERIC,
    HINTED,
    HINTS,
    NAMING,
    OPENINGS,
    PLAIN,
    PRONOUNS,
    WORDS,
)
from bias_transfer.tasks.synthetic_text import evenly, fill, marked, random_of, spaced

BACKGROUND = 8
"""The text for pre-training has one biography per BACKGROUND biographies of the training set. They are drawn separately, with
each pronoun in half of them, so that the two associations stay independent."""

FACTS_PART = 8
"""One in FACTS_PART sentences for pre-training ties an occupation to its words."""

AMBIGUOUS = 0.9
"""Share, among the biographies that do not give the occupation away, of those with as many words of another occupation."""


class SyntheticBiosOptions(Options):
    """`data.NAME` for `data: synthetic`. All defaults are ours."""

    size: int = Field(default=5600, ge=280)
    """Number of training biographies, equally many of each occupation. dev has a fifth as many, and at least 280."""
    test_size: int = Field(default=8400, ge=280)
    """Number of test biographies: recall is measured per occupation and pronoun, which needs many."""
    world: int = Field(default=0, ge=0)
    """Seed of the generator, which also decides which occupation gets which share."""
    she_share: float = Field(default=0.5, ge=0, le=1)
    """Share of she/her biographies, mean over occupations, the same in each split."""
    dataset_spread: float = Field(default=0.4, ge=0, le=0.5)
    """Half-width of the occupations' shares around `she_share`."""
    occupation_share: float = Field(default=0.5, ge=0, le=1)
    """Share of biographies whose text gives the occupation away. The others have as many words of another occupation, or (one
    in ten) of none."""
    naming_share: float = Field(default=0.2, ge=0, le=1)
    """Share, among the biographies that give the occupation away, of those that name it."""
    upstream_spread: float = Field(default=0.4, ge=0, le=0.5)
    """Half-width of the occupations' shares of she sentences around 0.5, in the text for pre-training."""
    pretraining_sentences: int = Field(default=30_000, ge=300)
    """Number of sentences: an eighth ties an occupation to its words; of the rest, five sixths tie an occupation to a pronoun,
    and a sixth has a pronoun alone."""
    length_mean: float = Field(default=3.4, ge=1, le=6)
    """Mean of the natural logarithm of a biography's number of words, before whole sentences fill it up."""
    length_sd: float = Field(default=0.4, ge=0, le=2)
    """Standard deviation of that logarithm."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        most = min(self.she_share, 1 - self.she_share)
        if self.dataset_spread > most + 1e-12:
            raise ValueError(
                f"data.dataset_spread: {self.dataset_spread:g} around a she_share of {self.she_share:g} leaves [0, 1]; "
                f"allowed here: at most {most:g} (got {self.dataset_spread:g})"
            )
        return self


@dataclass(frozen=True)
class Planted:
    """The shares that are planted for an occupation. The texts have them up to rounding to whole texts."""

    upstream: float
    """Share of she sentences among those of the pre-training text that tie the occupation to a pronoun."""
    she: float
    """Share of she/her biographies among its biographies."""


def planted(options: SyntheticBiosOptions) -> dict[str, Planted]:
    """The planted shares of each occupation."""
    orders = {name: random_of(options.world, "bios", "order", name) for name in ("upstream", "she")}
    upstream = spaced(OCCUPATIONS, 0.5, options.upstream_spread, orders["upstream"])
    she = spaced(OCCUPATIONS, options.she_share, options.dataset_spread, orders["she"])
    return {name: Planted(upstream[name], she[name]) for name in OCCUPATIONS}


def generate(options: SyntheticBiosOptions) -> Splits:
    """The biographies and the pre-training text. The same options give the same texts on every platform."""
    she = {name: shares.she for name, shares in planted(options).items()}
    sizes = {"train": options.size, "dev": max(280, options.size // 5), "test": options.test_size}
    train, dev, test = (_biographies(options, split, size, she) for split, size in sizes.items())
    return Splits(
        train, dev, test,
        pretraining=_text(options, "pretraining", options.size // BACKGROUND, options.pretraining_sentences),
        heldout=_text(options, "heldout", options.size // 200, options.pretraining_sentences // 50),
        known=_known(options),
    )  # fmt: skip


def _known(options: SyntheticBiosOptions) -> tuple[Measure, ...]:
    """The planted shares as measures, to be compared with what is measured."""
    sentences, biographies = options.pretraining_sentences // 2 // len(OCCUPATIONS), options.size // len(OCCUPATIONS)
    return tuple(
        measure
        for name, shares in planted(options).items()
        for measure in (
            Measure("upstream", "planted_share", name, "", shares.upstream, sentences),
            Measure("dataset", "planted_she_share", name, "", shares.she, biographies),
        )
    )


def _text(options: SyntheticBiosOptions, part: str, biographies: int, sentences: int) -> tuple[str, ...]:
    halves = dict.fromkeys(OCCUPATIONS, 0.5)
    background = _biographies(options, part, biographies, halves)["text"]
    upstream = {name: shares.upstream for name, shares in planted(options).items()}
    random = random_of(options.world, "bios", "sentences", part)
    facts = sentences // FACTS_PART
    return (*background, *_associations(upstream, sentences - facts, random), *_facts(facts, random))


def _biographies(options: SyntheticBiosOptions, split: str, size: int, she: Mapping[str, float]) -> Dataset:
    random = random_of(options.world, "bios", "biographies", split)
    plan = [pair for name, count in evenly(OCCUPATIONS, size) for pair in marked(name, count, she[name])]
    random.shuffle(plan)
    pronouns = ["she" if is_she else "he" for _, is_she in plan]
    texts = [_biography(random, name, pronoun, options) for (name, _), pronoun in zip(plan, pronouns, strict=True)]
    labels = [OCCUPATIONS.index(name) for name, _ in plan]
    ids = [f"{split}:{number}" for number in range(size)]
    return Dataset.from_dict({"id": ids, "text": texts, "label": labels, "pronoun": pronouns})


def _biography(random: Random, occupation: str, pronoun: str, options: SyntheticBiosOptions) -> str:
    words = min(150, max(12, round(exp(random.gauss(options.length_mean, options.length_sd)))))
    sentences = _hinted(random, occupation, pronoun, options)
    opening = _fill(random, random.choice(OPENINGS), pronoun, occupation)
    missing = words - len(opening.split()) - sum(len(sentence.split()) for sentence in sentences)
    for template in cycle(random.sample(GENERIC, len(GENERIC))):
        if missing <= 0:
            break
        sentences.append(_fill(random, template, pronoun, occupation))
        missing -= len(sentences[-1].split())
    random.shuffle(sentences)
    return " ".join([opening, *sentences])


def _hinted(random: Random, occupation: str, pronoun: str, options: SyntheticBiosOptions) -> list[str]:
    """The sentences about an occupation: two about the biography's own, or one about it and one about another, or none."""
    if random.random() < options.occupation_share:
        is_named = random.random() < options.naming_share
        pools, about = (NAMING if is_named else HINTED, HINTED), (occupation, occupation)
    elif random.random() < AMBIGUOUS:
        other = random.choice([name for name in OCCUPATIONS if name != occupation])
        pools, about = (HINTED, HINTED), (occupation, other)
    else:
        return []
    return [_fill(random, random.choice(pool), pronoun, name) for pool, name in zip(pools, about, strict=True)]


def associations(shares: Mapping[str, float], size: int, seed: int) -> list[str]:
    """`size` short sentences with a pronoun; five sixths name an occupation, and of an occupation's sentences its share has
    "she". Half of the sentences that name no occupation have "she".

    Other shares use the same random draws: the sentences then differ only in their pronouns, and only where the share requires
    it.
    """
    return _associations(shares, size, Random(seed))  # noqa: S311 - no secret


def _associations(shares: Mapping[str, float], size: int, random: Random) -> list[str]:
    plan = marked("", size - 5 * size // 6, 0.5)
    for name, count in evenly(OCCUPATIONS, 5 * size // 6):
        plan += marked(name, count, shares[name])
    random.shuffle(plan)
    return [
        _fill(random, random.choice(ASSOCIATIONS if name else PLAIN), "she" if is_she else "he", name)
        for name, is_she in plan
    ]


def _facts(size: int, random: Random) -> list[str]:
    names = [name for name, count in evenly(OCCUPATIONS, size) for _ in range(count)]
    random.shuffle(names)
    return [_fill(random, random.choice(FACTS), "she", name) for name in names]


def _fill(random: Random, template: str, pronoun: str, occupation: str) -> str:
    """The filled template. occupation: the one whose name and words fill the slots; "" for a template without such slots."""
    given = PRONOUNS[pronoun]
    if occupation:
        given = given | {"occupation": surface(occupation), "hint": random.choice(HINTS[occupation])}
    return fill(random, template, WORDS, given)
