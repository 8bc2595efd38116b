"""Rebalance for BIOS: bring the numbers of she/her and he/him biographies closer together within each occupation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Literal

from datasets import Dataset

from bias_transfer import rounding
from bias_transfer.hashing import derive_seed
from bias_transfer.spec import Options
from bias_transfer.tasks.bios.occupations import OCCUPATIONS
from bias_transfer.training.sampling import shuffled


class RebalanceBiosOptions(Options):
    """`downstream.NAME` for `downstream: rebalance` on BIOS."""

    method: Literal["subsample", "oversample"] = "subsample"
    """subsample: drop biographies with the more frequent pronoun; oversample: repeat those with the rarer one."""
    control: bool = False
    """Drop or repeat as many biographies of each occupation, but at random with regard to the pronoun."""


def pronouns(train: Dataset, dose: float, options: RebalanceBiosOptions, seed: int) -> Dataset:
    """Drop or repeat round(dose x (frequent - rare)) biographies of each occupation; at dose 1 its two counts are equal.

    The seed draws which biographies; a smaller dose acts on a subset of those of a larger one. Repeats are appended, with the
    ids "ID#2", "ID#3" and so on. Occupations with only one pronoun are left alone, and listed by `notes`.
    """
    identifiers = train["id"][:]
    chosen = [row for sides in _rows(train) for row in _chosen(identifiers, sides, dose, options, seed)]
    if options.method == "subsample":
        return train.select(sorted({*range(len(train))} - {*chosen}))
    return _repeat(train, chosen)


def notes(train: Dataset, options: RebalanceBiosOptions) -> list[str]:
    """A sentence that lists the occupations that the arm leaves alone, if there are any."""
    labels = train["label"][:]
    alone = [OCCUPATIONS[labels[(*she, *he)[0]]] for she, he in _rows(train) if not (she and he)]
    message = "rebalance left alone the occupations that have one pronoun only"
    return [f"{message}: {', '.join(sorted(alone))}."] if alone else []


def _rows(train: Dataset) -> list[tuple[list[int], list[int]]]:
    """(rows with she, rows with he) for each occupation in the set."""
    rows = dict[int, tuple[list[int], list[int]]]()
    for row, (label, pronoun) in enumerate(zip(train["label"][:], train["pronoun"][:], strict=True)):
        rows.setdefault(label, ([], []))[pronoun != "she"].append(row)
    return [rows[label] for label in sorted(rows)]


def _chosen(
    identifiers: Sequence[str],
    sides: tuple[list[int], list[int]],
    dose: float,
    options: RebalanceBiosOptions,
    seed: int,
) -> Iterable[int]:
    """Rows of one occupation to drop or repeat. sides: its rows by pronoun. A row to be repeated twice occurs twice."""
    rare, frequent = sorted(sides, key=len)
    count = rounding.part(dose, len(frequent) - len(rare)) if rare else 0
    pool = sorted([*rare, *frequent]) if options.control else rare if options.method == "oversample" else frequent
    order = shuffled([identifiers[row] for row in pool], derive_seed(seed, "downstream", "rebalance"), 0)
    return [pool[place] for place in islice(cycle(order), count)]


def _repeat(train: Dataset, rows: list[int]) -> Dataset:
    """The set with these rows appended, under new ids."""
    times, identifiers = Counter[int](), train["id"][:]
    for row in rows:
        times[row] += 1
        identifiers.append(f"{identifiers[row]}#{times[row] + 1}")
    repeated = train.select([*range(len(train)), *rows])
    return Dataset.from_dict(repeated.to_dict() | {"id": identifiers}, features=train.features)
