"""Scrub for BIOS: replace pronouns, titles and names by "_" (De-Arteaga et al. 2019)."""

from __future__ import annotations

from random import Random

from datasets import Dataset

from bias_transfer import rounding
from bias_transfer.hashing import derive_seed
from bias_transfer.spec import Options
from bias_transfer.tasks.bios import gendered_words
from bias_transfer.training.sampling import shuffled


class ScrubBiosOptions(Options):
    """`downstream.NAME` for `downstream: scrub` on BIOS."""

    control: bool = False
    """Replace as many random other words of the same biographies."""


def telling_words(train: Dataset, dose: float, options: ScrubBiosOptions, seed: int) -> Dataset:
    """Replace every gendered word by "_" in round(dose x count) of the biographies that have one.

    control: as many other words of the same biographies are replaced, or all other words if there are fewer. The seed draws
    the biographies; a smaller dose scrubs a subset of what a larger one scrubs, and the same words of each.
    """
    texts, names, identifiers = train["text"][:], gendered_words.names(train), train["id"][:]
    candidates = [
        row for row, (text, name) in enumerate(zip(texts, names, strict=True)) if gendered_words.telling(text, name)
    ]
    order = shuffled([identifiers[row] for row in candidates], derive_seed(seed, "downstream", "scrub"), 0)
    for place in order[: rounding.part(dose, len(candidates))]:
        row = candidates[place]
        if options.control:
            texts[row] = _other_words(
                texts[row], names[row], derive_seed(seed, "downstream", "scrub", identifiers[row])
            )
        else:
            texts[row] = gendered_words.scrubbed(texts[row], names[row])
    return Dataset.from_dict(train.to_dict() | {"text": texts}, features=train.features)


def _other_words(text: str, name: str, seed: int) -> str:
    """The text with as many random other words blanked as it has gendered ones. name: of the person."""
    others, count = gendered_words.others(text, name), len(gendered_words.telling(text, name))
    random = Random(seed)  # noqa: S311 - no secret
    return gendered_words.blanked(text, random.sample(others, min(count, len(others))))
