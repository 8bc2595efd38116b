"""CrowS-Pairs (Nangia et al. 2020): does a language model find the more stereotyping of two sentences more likely?

The pairs are read from a CSV file in the published form, crows_pairs_anonymized.csv. They are disputed (Blodgett et al. 2021):
read this measure next to others.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bias_transfer.errors import UserError
from bias_transfer.models.hub import did_you_mean
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

COLUMNS = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
"""The columns that are read; the published file has further ones, which are ignored."""

DIRECTIONS = ("stereo", "antistereo")


class Pair(NamedTuple):
    """Two sentences that differ only in the group they are about."""

    more: str
    """The more stereotyping sentence: about the disadvantaged group where the direction is stereo."""
    less: str
    direction: str
    """stereo: the pair expresses a stereotype; antistereo: it violates one."""
    bias_type: str


def of_file(model: LanguageModel, path: str, digest: str | None) -> list[Measure]:
    """`crows_pairs` on the pairs of a file. digest: `content_digest` at the time when the trial was resolved.

    Raises UserError for a file that has changed since then, or that is not in the published form.
    """
    if content_digest(path) != digest:
        raise UserError(f"{path} has changed since the trial was resolved. Start the trial again.")
    return crows_pairs(model, read_pairs(path))


def crows_pairs(model: LanguageModel, pairs: Sequence[Pair]) -> list[Measure]:
    """The score of Nangia et al. 2020 over all pairs and per bias type (the group): `crows_pairs`, the share of pairs whose
    more stereotyping sentence has the higher likelihood (`LMHead.likelihoods`: of a masked LM the pseudo-log-likelihood), and
    `crows_pairs_difference`, the mean of the differences (more - less, in nats).

    Over all pairs also the same share among the pairs that express a stereotype (`crows_pairs_stereo`) and among those that
    violate one (`crows_pairs_antistereo`), as published, and the share of ties (`crows_pairs_ties`). Where the likelihoods of
    pairs are sums over different numbers of tokens, as with a causal LM, also `crows_pairs_per_token`, by their means. A tie
    does not count as stereotyping, as in the published score; unlike there, scores are not rounded before they are compared
    (ours). value: rates in [0, 1]; n: pairs. NaN with n = 0 where there is no pair, and where a likelihood is not finite.
    """
    likelihoods = model.head.likelihoods([(pair.more, pair.less) for pair in pairs])
    difference = likelihoods.total[:, 0] - likelihoods.total[:, 1]
    directions, types = (np.array([getattr(pair, name) for pair in pairs]) for name in ("direction", "bias_type"))
    groups = {"": np.full(len(pairs), True)} | {str(name): types == name for name in sorted({*types})}
    measures = []
    for group, members in groups.items():
        measures.append(_mean("crows_pairs", group, difference[members], difference[members] > 0))
        measures.append(_mean("crows_pairs_difference", group, difference[members], difference[members]))
    for direction in DIRECTIONS:
        of_direction = difference[directions == direction]
        measures.append(_mean(f"crows_pairs_{direction}", "", of_direction, of_direction > 0))
    measures.append(_mean("crows_pairs_ties", "", difference, difference == 0))
    if np.array_equal(likelihoods.tokens[:, 0], likelihoods.tokens[:, 1]):
        return measures
    per_token = likelihoods.total / likelihoods.tokens
    difference = per_token[:, 0] - per_token[:, 1]
    return [
        *measures,
        *(_mean("crows_pairs_per_token", group, difference[of], difference[of] > 0) for group, of in groups.items()),
    ]


def _mean(metric: str, group: str, difference: np.ndarray, values: np.ndarray) -> Measure:
    if len(difference) == 0 or not np.isfinite(difference).all():
        return Measure("upstream", metric, group, "", math.nan, 0)
    return Measure("upstream", metric, group, "", float(values.mean()), len(values))


def content_digest(path: str) -> str:
    """SHA-256 of the file's bytes. Raises UserError for a file that does not exist."""
    return hashlib.sha256(_content(path)).hexdigest()


def read_pairs(path: str) -> tuple[Pair, ...]:
    """The pairs in the file's order. Raises UserError, naming the line, for a file that is not in the published form."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        if missing := [name for name in COLUMNS if header.count(name) != 1]:
            raise UserError(
                f"{path}: {', '.join(missing)} must each be one column. Needed: {', '.join(COLUMNS)}, as in "
                "crows_pairs_anonymized.csv."
            )
        places = [header.index(name) for name in COLUMNS]
        pairs = [_pair(f"{path}: line {reader.line_num}", row, len(header), places) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} ends a row that cannot be read: {error}.") from None
    if not pairs:
        raise UserError(f"{path}: no pair in it. The file needs a header and at least one row.")
    return tuple(pairs)


def _pair(where: str, row: Sequence[str], width: int, places: Sequence[int]) -> Pair:
    if len(row) != width:
        raise UserError(f"{where} ends a row of {len(row)} fields; the header has {width}.")
    pair = Pair(*(row[place].strip() for place in places))
    if empty := [name for name, cell in zip(COLUMNS, pair, strict=True) if not cell]:
        raise UserError(f"{where} ends a row without {', '.join(empty)}. Every pair needs all four columns.")
    if pair.direction not in DIRECTIONS:
        raise UserError(f"{where}: unknown value in stereo_antistereo. Allowed: {', '.join(DIRECTIONS)}.")
    if pair.more == pair.less:
        raise UserError(
            f"{where} ends a row with two identical sentences. They must differ in the group they are about."
        )
    return pair


def _content(path: str) -> bytes:
    if not Path(path).is_file():
        raise UserError(f"metric.crows_pairs: {path}: no such file.{did_you_mean(path)}")
    return Path(path).read_bytes()


def _text(path: str) -> str:
    content = _content(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8. Save the file as UTF-8.") from None
