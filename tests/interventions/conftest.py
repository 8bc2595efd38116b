"""A small model that knows one association, for the arms that must move it."""

from __future__ import annotations

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
    """(folder of a model that was pre-trained on text in which occupations go with pronouns, the text)."""
    texts = sentences_of(OCCUPATIONS) + [f"{pronoun} was {place}." for pronoun in ("she", "he") for place in PLACES] * 6
    options = lm_training.TinyOptions(
        steps=200, width=32, layers=1, vocabulary=400, tokens_per_step=400, learning_rate=5e-3
    )
    with determinism.using_threads(1), language_model.quiet():
        model, tokenizer = lm_training.begin(None, texts, options)
        lm_training.train(model, tokenizer, texts, options, console.silent)
        folder = tmp_path_factory.mktemp("gendered")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder), tuple(texts)


@pytest.fixture(scope="session")
def pronoun_ratio():
    """LanguageModel -> occupation -> ln p(she)/p(he)."""
    import numpy as np

    from bias_transfer.metrics.mask_filling import mask_probabilities

    def measure(model) -> dict[str, float]:
        she, he = model.tokenizer.convert_tokens_to_ids(["she", "he"])
        probabilities = mask_probabilities(model, [f"{{mask}} is the {name}." for name in OCCUPATIONS])
        return dict(zip(OCCUPATIONS, np.log(probabilities[:, she] / probabilities[:, he]).tolist(), strict=True))

    return measure


@pytest.fixture(scope="session")
def occupations():
    return OCCUPATIONS


@pytest.fixture(scope="session")
def plant():
    return sentences_of
