"""Rebalance for WIKI: lower the toxic share of comments that mention an identity term to the whole set's.

Toxic comments are dropped, as for any task (`rebalance`), or non-toxic ones are added from a file (Dixon et al. 2018).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import Self

from datasets import Dataset, concatenate_datasets

from bias_transfer.errors import UserError
from bias_transfer.interventions.downstream import rebalance
from bias_transfer.spec import Options
from bias_transfer.tasks import readers, split_files
from bias_transfer.tasks.wiki import data
from bias_transfer.tasks.wiki.identity_terms import IDENTITIES, mentioned


class RebalanceWikiOptions(Options):
    """`downstream.NAME` for `downstream: rebalance` on WIKI."""

    file: str | None = None
    """Add non-toxic comments that mention a term from this file, a table. None: drop toxic comments."""
    file_digest: str | None = None
    """Digest of the content of `file`, set by `resolved`."""
    control: bool = False
    """Drop or add as many comments, but ones that mention no term; added ones have about the same lengths."""
    control_file: str | None = None
    """The file that the control's comments are added from. None: `file`. Dixon et al.'s has hardly any without a term."""
    control_file_digest: str | None = None
    """Digest of the content of `control_file`, set by `resolved`."""

    def resolved(self) -> Self:
        """These options with the digests of both files. Raises UserError for a file that does not exist or is not used."""
        if self.control_file and not (self.file and self.control):
            raise UserError(
                "downstream.control_file has no effect without downstream.file and downstream.control=true. Add them, or "
                "leave it out."
            )
        paths = {name: getattr(self, name) for name in ("file", "control_file")}
        digests = {f"{name}_digest": _digest(name, path) for name, path in paths.items() if path}
        return self.model_copy(update=digests)


def _digest(name: str, path: str) -> str:
    if not Path(path).is_file():
        raise UserError(f"downstream.{name} {path!r}: no such file. Allowed: a table of comments.")
    return split_files.content_digest(Path(path))


def toxic_shares(train: Dataset, dose: float, options: RebalanceWikiOptions, seed: int) -> Dataset:
    """Drop or add comments until each term's toxic share has moved towards the whole set's by `dose` of the distance.

    Terms below the set's share are left alone. The seed draws the comments; a smaller dose drops or adds a subset of what a
    larger one does. A comment that mentions several terms counts for each, so that some terms end slightly below the set's
    share. Raises UserError if the control lacks comments.
    """
    if options.file is None:
        return rebalance.harmful_shares(
            IDENTITIES, train, dose, rebalance.RebalanceOptions(control=options.control), seed
        )
    added = _added(train, dose, options, rebalance.stream_of(seed))
    return concatenate_datasets([train, Dataset.from_dict(added, features=train.features)]) if added["id"] else train


def notes(train: Dataset, options: RebalanceWikiOptions) -> list[str]:
    """A sentence that lists the terms on which the file has too few comments, if there are any."""
    if options.file is None:
        return []
    available = Counter(term for text in _pool(options.file, mentions=True) for term in mentioned(text))
    short = [term for term, wanted in rebalance.lacking(IDENTITIES, train).items() if available[term] < wanted]
    message = f"rebalance: {options.file} has too few comments on {len(short)} terms, whose toxic share stays higher"
    return [f"{message}: {', '.join(short)}."] if short else []


def _added(train: Dataset, dose: float, options: RebalanceWikiOptions, key: int) -> dict[str, list[str] | list[int]]:
    """Columns of the comments to add."""
    texts = _pool(str(options.file), mentions=True)
    chosen = rebalance.choose(
        range(len(texts)), lambda row: mentioned(texts[row]), rebalance.lacking(IDENTITIES, train), None, dose, key
    )
    if options.control:
        texts, chosen = _of_similar_length(options, [len(texts[row].split()) for row in chosen], key)
    return {
        "id": [f"added:{row}" for row in chosen],
        "text": [texts[row] for row in chosen],
        "label": [0] * len(chosen),
    }


def _pool(path: str, mentions: bool) -> list[str]:
    """The file's non-toxic comments that mention a term, or those that mention none."""
    frame = data.examples(readers.read_table(Path(path)), data.CommentOptions())
    return [text for text in frame["text"][frame["label"] == 0] if bool(mentioned(text)) == mentions]


def _of_similar_length(options: RebalanceWikiOptions, lengths: list[int], key: int) -> tuple[list[str], list[int]]:
    """All comments that mention no term, and the rows of those nearest to the given lengths (in words), each used once."""
    path = str(options.control_file or options.file)
    texts = _pool(path, mentions=False)
    if len(texts) < len(lengths):
        raise UserError(
            f"downstream rebalance, control: {len(lengths)} non-toxic comments that mention no term are needed, and "
            f"{path} has {len(texts)}. Set downstream.control_file to a file that has more, or lower downstream_dose."
        )
    ranks = {row: rank for rank, row in enumerate(rebalance.in_order(range(len(texts)), None, key))}
    free = sorted((len(text.split()), ranks[row], row) for row, text in enumerate(texts))
    return texts, [_take_nearest(free, length)[2] for length in lengths]


def _take_nearest(free: list[tuple[int, int, int]], length: int) -> tuple[int, int, int]:
    """Remove and return the entry of the sorted list whose first number is nearest to the length."""
    place = bisect_left(free, (length, 0, 0))
    if place == len(free) or (place and length - free[place - 1][0] < free[place][0] - length):
        place -= 1
    return free.pop(place)
