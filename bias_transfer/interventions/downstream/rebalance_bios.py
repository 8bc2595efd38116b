"""Rebalance for BIOS: per occupation, towards as many she/her as he/him biographies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Literal

from datasets import Dataset

from bias_transfer.training.sampling import shuffled
from bias_transfer.spec import Options
from bias_transfer.hashing import derive_seed
from bias_transfer.tasks.bios.occupations import OCCUPATIONS


class RebalanceBiosOptions(Options):
    """`downstream.NAME` for `downstream: rebalance` on BIOS."""

    method: Literal["subsample", "oversample"] = "subsample"
    """Drop biographies with the more frequent pronoun, or repeat those with the rarer one."""
    control: bool = False
    """Drop or repeat as many of each occupation, whatever their pronoun."""


def pronouns(train: Dataset, dose: float, options: RebalanceBiosOptions, seed: int) -> Dataset:
    """Without, or with again, round(dose x (frequent - rare)) biographies of each occupation: at dose 1 its counts are equal.

    Which ones is drawn by the seed; a smaller dose acts on a subset of what a larger one acts on. A repeated one follows all
    others under the id "ID#2", "ID#3" ... Occupations with one pronoun only are left alone (`notes`).
    """
    identifiers = train["id"][:]
    chosen = [row for own in _rows(train) for row in _chosen(identifiers, own, dose, options, seed)]
    if options.method == "subsample":
        return train.select(sorted({*range(len(train))} - {*chosen}))
    return _again(train, chosen)


def notes(train: Dataset, options: RebalanceBiosOptions) -> list[str]:
    """Says which occupations the arm leaves alone."""
    labels = train["label"][:]
    alone = [OCCUPATIONS[labels[(*she, *he)[0]]] for she, he in _rows(train) if not (she and he)]
    told = "rebalance left alone the occupations that have one pronoun only"
    return [f"{told}: {', '.join(sorted(alone))}."] if alone else []


def _rows(train: Dataset) -> list[tuple[list[int], list[int]]]:
    """(rows with she, rows with he) of each occupation that occurs."""
    rows = dict[int, tuple[list[int], list[int]]]()
    for row, (label, pronoun) in enumerate(zip(train["label"][:], train["pronoun"][:], strict=True)):
        rows.setdefault(label, ([], []))[pronoun != "she"].append(row)
    return [rows[label] for label in sorted(rows)]


def _chosen(
    identifiers: Sequence[str], own: tuple[list[int], list[int]], dose: float, options: RebalanceBiosOptions, seed: int
) -> Iterable[int]:
    """The rows of one occupation that are dropped or repeated; one that is repeated twice stands here twice."""
    rare, frequent = sorted(own, key=len)
    count = round(dose * (len(frequent) - len(rare))) if rare else 0
    pool = sorted([*rare, *frequent]) if options.control else rare if options.method == "oversample" else frequent
    order = shuffled([identifiers[row] for row in pool], derive_seed(seed, "downstream", "rebalance"), 0)
    return [pool[place] for place in islice(cycle(order), count)]


def _again(train: Dataset, rows: list[int]) -> Dataset:
    """With these rows once more, under ids of their own."""
    times, identifiers = Counter[int](), train["id"][:]
    for row in rows:
        times[row] += 1
        identifiers.append(f"{identifiers[row]}#{times[row] + 1}")
    repeated = train.select([*range(len(train)), *rows])
    return Dataset.from_dict(repeated.to_dict() | {"id": identifiers}, features=train.features)
