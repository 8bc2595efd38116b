"""CrowS-Pairs (Nangia et al. 2020): does a language model find the more stereotyping of two sentences more likely?

The pairs are read from a CSV file in the published form, crows_pairs_anonymized.csv. They are disputed (Blodgett et al. 2021):
read this measure next to others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bias_transfer.errors import UserError
from bias_transfer.metrics import files, sentence_pairs
from bias_transfer.metrics.sentence_pairs import Pair
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

OPTION = "metric.crows_pairs"

COLUMNS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
"""The columns that are read; the published file has further ones, which are ignored."""

DIRECTIONS = ("stereo", "antistereo")


def of_file(model: LanguageModel, path: str, digest: str | None, unmasked: bool) -> list[Measure]:
    """`crows_pairs` on the pairs of a file. digest: `content_digest` at the time when the trial was resolved.

    Raises UserError for a file that has changed since then, or that is not in the published form.
    """
    files.check_unchanged(OPTION, path, digest)
    return crows_pairs(model, read_pairs(path), unmasked)


def crows_pairs(model: LanguageModel, pairs: Sequence[Pair], unmasked: bool = False) -> list[Measure]:
    """`sentence_pairs.scores` as `crows_pairs`, and as published also among the pairs that express a stereotype
    (`crows_pairs_stereo`) and among those that violate one (`crows_pairs_antistereo`)."""
    return sentence_pairs.scores(model, pairs, "crows_pairs", DIRECTIONS, unmasked)


def content_digest(path: str) -> str:
    """SHA-256 of the file's bytes. Raises UserError for a file that does not exist."""
    return files.content_digest(OPTION, path)


def read_pairs(path: str) -> tuple[Pair, ...]:
    """The pairs in the file's order. Raises UserError, naming the line, for a file that is not in the published form."""
    return _read(path, content_digest(path))


@functools.lru_cache(maxsize=2)  # all trials of a grid mostly name one file, which is read when each is resolved
def _read(path: str, digest: str) -> tuple[Pair, ...]:
    rows = files.rows(OPTION, path, COLUMNS, ", as in crows_pairs_anonymized.csv", ".csv")
    for row in rows:
        if row.cells[2] not in DIRECTIONS:
            raise UserError(f"{row.where}: unknown value in stereo_antistereo. Allowed: {', '.join(DIRECTIONS)}.")
    return tuple(sentence_pairs.checked(row.where, Pair(*row.cells)) for row in rows)
