"""Scrub: remove harmful examples that belong to a group. For WIKI, toxic comments that mention an identity term."""

from __future__ import annotations

from datasets import Dataset

from bias_transfer.training.sampling import shuffled
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.tasks.base import Groups


class ScrubOptions(Options):
    """`downstream.NAME` for `downstream: scrub`."""

    control: bool = False
    """Remove as many harmful examples that belong to no group instead."""


def harmful_mentions(groups: Groups, train: Dataset, dose: float, options: ScrubOptions, seed: int) -> Dataset:
    """Without round(dose x count) of the harmful examples that belong to a group, or of as many that belong to none (control).

    Which ones is drawn by the seed; a smaller dose removes a subset of what a larger one removes. Raises UserError if the
    control lacks examples to remove.
    """
    harmful = [row for row, label in enumerate(train["label"][:]) if label == groups.harmful]
    named = [bool(own) for own in groups.of(train.select(harmful))]
    count = round(dose * named.count(True))
    candidates = [row for row, own in zip(harmful, named, strict=True) if own != options.control]
    if len(candidates) < count:
        raise UserError(
            f"downstream scrub, control: {count} {groups.examples} are to go {groups.outside}, and there are "
            f"{len(candidates)}. Lower downstream_dose."
        )
    identifiers = train["id"][:]
    order = shuffled([identifiers[index] for index in candidates], derive_seed(seed, "downstream", "scrub"), 0)
    removed = {candidates[place] for place in order[:count]}
    return train.select([index for index in range(len(train)) if index not in removed])
