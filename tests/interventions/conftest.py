"""A small model that knows one association, for the arms that must move it."""

from __future__ import annotations

import functools

import pytest

from bias_transfer import console, determinism
from bias_transfer.models import language_model
from bias_transfer.training import lm_training

OCCUPATIONS = {"nurse": 1, "cook": 1, "dancer": 1, "pilot": 0, "miner": 0, "judge": 0}
"""Occupation -> share of she in the text."""
PLACES = ("in the garden", "at the market", "in town", "at home", "on the train", "north of here", "south of here")


FRAMES = ("{} is the {}.", "{} was a {}.", "so {} is a {}.")


def sentences_of(shares, count: int = 252, seed: int = 0) -> list[str]:
    """Sentences that tie each occupation to she by its share."""
    each = count // len(shares)
    return [
        FRAMES[number % len(FRAMES)].format("she" if number < round(share * each) else "he", name)
        for name, share in shares.items() for number in range(each)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def gendered(tmp_path_factory):
    """kind -> (folder of a model that was pre-trained on text in which occupations go with pronouns, the text)."""

    @functools.cache
    def build(kind: str = "masked") -> tuple[str, tuple[str, ...]]:
        apart = [f"{pronoun} was {place}." for pronoun in ("she", "he") for place in PLACES] * 6
        texts = sentences_of(OCCUPATIONS) + apart
        options = lm_training.TinyOptions(
            steps=200, width=32, layers=1, vocabulary=400, tokens_per_step=400, learning_rate=5e-3, kind=kind
        )
        with determinism.using_threads(1), language_model.quiet():
            model = lm_training.begin(None, texts, options)
            lm_training.train(model, texts, options, console.silent)
            folder = tmp_path_factory.mktemp("gendered")
            model.lm.save_pretrained(folder)
            model.tokenizer.save_pretrained(folder)
        return str(folder), tuple(texts)

    return build


@pytest.fixture(scope="session")
def pronoun_ratio():
    """LanguageModel -> occupation -> ln p(she)/p(he)."""

    def measure(model) -> dict[str, float]:
        odds = model.head.log_odds([f"{{mask}} is the {name}." for name in OCCUPATIONS], ["she"], ["he"])
        return dict(zip(OCCUPATIONS, odds.tolist(), strict=True))

    return measure


@pytest.fixture(scope="session")
def occupations():
    return OCCUPATIONS


@pytest.fixture(scope="session")
def plant():
    return sentences_of
