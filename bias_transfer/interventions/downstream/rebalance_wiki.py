"""Rebalance for WIKI (Dixon et al. 2018): of the comments that mention a term, no larger a share is toxic than of all.

Toxic ones are dropped, as for any task (`rebalance`), or others added from a file, as Dixon et al. did."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Self

from datasets import Dataset, concatenate_datasets

from bias_transfer.interventions.downstream import rebalance
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.tasks import readers
from bias_transfer.tasks.wiki import data
from bias_transfer.tasks.wiki.identity_terms import IDENTITIES
from bias_transfer.tasks.wiki.identity_terms import mentioned


class RebalanceWikiOptions(Options):
    """`downstream.NAME` for `downstream: rebalance` on WIKI."""

    file: str | None = None
    """Adds non-toxic comments of this file (.csv, .tsv, .parquet) that mention a term. None: drops toxic ones instead."""
    file_digest: str | None = None
    """Content of `file`, set by `resolved`."""
    control: bool = False
    """Add as many non-toxic comments of about the same lengths that mention no term, or drop as many toxic ones that do."""
    control_file: str | None = None
    """Where the control finds them; None is `file`, of which Dixon et al.'s has next to none."""
    control_file_digest: str | None = None
    """Content of `control_file`, set by `resolved`."""

    def resolved(self) -> Self:
        """With the content of both files. Raises UserError for one that is not there or of no use."""
        if self.control_file and not (self.file and self.control):
            raise UserError(
                "downstream.control_file goes with downstream.file and downstream.control=true. Leave it out."
            )
        named = {name: getattr(self, name) for name in ("file", "control_file")}
        read = {f"{name}_digest": _content(name, path) for name, path in named.items() if path}
        return self.model_copy(update=read)


def _content(name: str, path: str) -> str:
    if not Path(path).is_file():
        raise UserError(
            f"downstream.{name} {path!r}: no such file. Allowed: a .csv, .tsv or .parquet file of comments."
        )
    return readers.content_digest(Path(path))


def toxic_shares(train: Dataset, dose: float, options: RebalanceWikiOptions, seed: int) -> Dataset:
    """With each term's toxic share brought towards the set's, by `dose` of the way. Only terms above it are treated.

    Which comments is drawn by the seed; a smaller dose drops or adds a subset of what a larger one does. A comment that
    mentions several terms counts for each, so that some end a little below. Raises UserError if the control lacks comments.
    """
    if options.file is None:
        return rebalance.harmful_shares(
            IDENTITIES, train, dose, rebalance.RebalanceOptions(control=options.control), seed
        )
    added = _added(train, dose, options, rebalance.stream_of(seed))
    return concatenate_datasets([train, Dataset.from_dict(added, features=train.features)]) if added["id"] else train


def notes(train: Dataset, options: RebalanceWikiOptions) -> list[str]:
    """Says for which terms the file has too few comments."""
    if options.file is None:
        return []
    has = Counter(term for text in _pool(options.file, mentions=True) for term in mentioned(text))
    short = [term for term, wanted in rebalance.lacking(IDENTITIES, train).items() if has[term] < wanted]
    told = f"rebalance: {options.file} has too few comments on {len(short)} terms, whose toxic share stays higher"
    return [f"{told}: {', '.join(short)}."] if short else []


def _added(train: Dataset, dose: float, options: RebalanceWikiOptions, key: int) -> dict[str, list[str] | list[int]]:
    texts = _pool(str(options.file), mentions=True)
    chosen = rebalance.choose(
        range(len(texts)), lambda row: mentioned(texts[row]), rebalance.lacking(IDENTITIES, train), None, dose, key
    )
    if options.control:
        texts, chosen = _as_long(options, [len(texts[row].split()) for row in chosen], key)
    return {
        "id": [f"added:{row}" for row in chosen],
        "text": [texts[row] for row in chosen],
        "label": [0] * len(chosen),
    }


def _pool(path: str, mentions: bool) -> list[str]:
    """The file's non-toxic comments that mention a term, or that mention none."""
    frame = data.examples(readers.read_table(Path(path)))
    return [text for text in frame["text"][frame["label"] == 0] if bool(mentioned(text)) == mentions]


def _as_long(options: RebalanceWikiOptions, lengths: list[int], key: int) -> tuple[list[str], list[int]]:
    """Comments that mention no term, and for each length (in words) the one that is nearest to it and still free."""
    path = str(options.control_file or options.file)
    texts = _pool(path, mentions=False)
    if len(texts) < len(lengths):
        raise UserError(
            f"downstream rebalance, control: {len(lengths)} non-toxic comments are to be added that mention no term, and "
            f"{path} has {len(texts)}. Name a file that has more by downstream.control_file, or lower downstream_dose."
        )
    ranks = {row: rank for rank, row in enumerate(rebalance.in_order(range(len(texts)), None, key))}
    free = sorted((len(text.split()), ranks[row], row) for row, text in enumerate(texts))
    return texts, [_take_nearest(free, length)[2] for length in lengths]


def _take_nearest(free: list[tuple[int, int, int]], length: int) -> tuple[int, int, int]:
    place = bisect_left(free, (length, 0, 0))
    if place == len(free) or (place and length - free[place - 1][0] < free[place][0] - length):
        place -= 1
    return free.pop(place)
