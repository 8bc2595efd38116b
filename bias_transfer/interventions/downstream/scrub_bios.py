"""Scrub for BIOS: "_" in the place of pronouns, titles and names (De-Arteaga et al. 2019)."""

from __future__ import annotations

from random import Random

from datasets import Dataset

from bias_transfer.training.sampling import shuffled
from bias_transfer.spec import Options
from bias_transfer.hashing import derive_seed
from bias_transfer.tasks.bios import gendered_words


class ScrubBiosOptions(Options):
    """`downstream.NAME` for `downstream: scrub` on BIOS."""

    control: bool = False
    """Put "_" for as many random other words of each biography instead."""


def telling_words(train: Dataset, dose: float, options: ScrubBiosOptions, seed: int) -> Dataset:
    """With "_" for what tells the pronoun in round(dose x count) of the biographies that hold such words, or for as many other
    words of the same biographies (control; for all others where there are fewer).

    Which ones is drawn by the seed; a smaller dose scrubs a subset of what a larger one scrubs, in the same places.
    """
    texts, names, identifiers = train["text"][:], gendered_words.names(train), train["id"][:]
    candidates = [
        row for row, (text, name) in enumerate(zip(texts, names, strict=True)) if gendered_words.telling(text, name)
    ]
    order = shuffled([identifiers[row] for row in candidates], derive_seed(seed, "downstream", "scrub"), 0)
    for place in order[: round(dose * len(candidates))]:
        row = candidates[place]
        if options.control:
            texts[row] = _other_words(texts[row], names[row], derive_seed(seed, "downstream", "scrub", identifiers[row]))
        else:
            texts[row] = gendered_words.scrubbed(texts[row], names[row])
    return Dataset.from_dict(train.to_dict() | {"text": texts}, features=train.features)


def _other_words(text: str, name: str, seed: int) -> str:
    others, count = gendered_words.others(text, name), len(gendered_words.telling(text, name))
    random = Random(seed)  # noqa: S311 - no secret
    return gendered_words.blanked(text, random.sample(others, min(count, len(others))))
