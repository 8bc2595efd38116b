"""Scrub for any task with a harmful class: remove harmful examples that belong to a group.

For WIKI these are toxic comments that mention an identity term.
"""

from __future__ import annotations

from datasets import Dataset

from bias_transfer import rounding
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Groups
from bias_transfer.training.sampling import shuffled


class ScrubOptions(Options):
    """`downstream.NAME` for `downstream: scrub`."""

    control: bool = False
    """Remove as many harmful examples, but ones that belong to no group."""


def harmful_mentions(groups: Groups, train: Dataset, dose: float, options: ScrubOptions, seed: int) -> Dataset:
    """Remove round(dose x count) of the harmful examples that belong to a group; control: as many that belong to none.

    The seed draws which examples; a smaller dose removes a subset of what a larger one removes. Raises UserError if the
    control lacks examples to remove.
    """
    harmful = [row for row, label in enumerate(train["label"][:]) if label == groups.harmful]
    belongs = [bool(names) for names in groups.of(train.select(harmful))]
    count = rounding.part(dose, belongs.count(True))
    candidates = [row for row, member in zip(harmful, belongs, strict=True) if member != options.control]
    if len(candidates) < count:
        raise UserError(
            f"downstream scrub, control: {count} {groups.examples} {groups.outside} are needed, and there are "
            f"{len(candidates)}. Lower downstream_dose."
        )
    identifiers = train["id"][:]
    order = shuffled([identifiers[index] for index in candidates], derive_seed(seed, "downstream", "scrub"), 0)
    removed = {candidates[place] for place in order[:count]}
    return train.select([index for index in range(len(train)) if index not in removed])
