"""Scrub for WIKI: remove toxic comments that mention an identity term."""

from __future__ import annotations

from datasets import Dataset

from bias_transfer.batching import shuffled
from bias_transfer.spec import Options, UserError, stream
from bias_transfer.tasks.terms import mentioned


class ScrubOptions(Options):
    """`downstream.NAME` for `downstream: scrub`."""

    control: bool = False
    """Remove as many toxic comments that mention no term instead."""


def toxic_mentions(train: Dataset, dose: float, options: ScrubOptions, seed: int) -> Dataset:
    """Without round(dose x count) of the toxic comments that mention a term, or of as many that mention none (control).

    Which ones is drawn by the seed; a smaller dose removes a subset of what a larger one removes. Raises UserError if the
    control lacks comments to remove.
    """
    named = [
        bool(mentioned(text)) if label else None for text, label in zip(train["text"], train["label"], strict=True)
    ]
    count = round(dose * named.count(True))
    candidates = [index for index, names in enumerate(named) if names is not None and names != options.control]
    if len(candidates) < count:
        raise UserError(
            f"downstream scrub, control: {count} toxic comments are to go that mention no term, and there are "
            f"{len(candidates)}. Lower downstream_dose."
        )
    identifiers = train["id"]
    order = shuffled([identifiers[index] for index in candidates], stream(seed, "downstream", "scrub"), 0)
    removed = {candidates[place] for place in order[:count]}
    return train.select([index for index in range(len(train)) if index not in removed])
