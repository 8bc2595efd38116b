"""Pairs of sentences of which one is more stereotyping: which of the two does a language model find more likely?

CrowS-Pairs (`crows_pairs`) are such pairs in a published form. Other files are read by a mapping of their columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bias_transfer.errors import UserError
from bias_transfer.metrics import files
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure

OPTION = "metric.pairs"


class Pair(NamedTuple):
    """Two sentences that differ only in the group they are about."""

    more: str
    """The more stereotyping sentence: about the disadvantaged group where the direction is stereo."""
    less: str
    direction: str
    """Of CrowS-Pairs. stereo: the pair expresses a stereotype; antistereo: it violates one. Empty for other pairs."""
    bias_type: str
    """Empty in a file without such a column."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a file have what of a pair."""

    more: str
    less: str
    bias_type: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are read."""
        return (self.more, self.less, *([self.bias_type] if self.bias_type else []))


def of_file(model: LanguageModel, path: str, digest: str | None, columns: Columns, unmasked: bool) -> list[Measure]:
    """`scores` on the pairs of a file, as `pairs`. digest: `files.content_digest` when the trial was resolved.

    Raises UserError for a file that has changed since then.
    """
    files.check_unchanged(OPTION, path, digest)
    return scores(model, read_pairs(path, columns), "pairs", unmasked=unmasked)


def read_pairs(path: str, columns: Columns) -> tuple[Pair, ...]:
    """The pairs in the file's order. Raises UserError, naming the line."""
    return _read(path, files.content_digest(OPTION, path), columns)


@functools.lru_cache(maxsize=2)  # all trials of a grid mostly name one file, which is read when each is resolved
def _read(path: str, digest: str, columns: Columns) -> tuple[Pair, ...]:
    pairs = []
    for row in files.rows(OPTION, path, columns.names, " (metric.pairs_more, pairs_less and pairs_type)"):
        more, less, *bias_type = row.cells
        pairs.append(checked(row.where, Pair(more, less, "", *(bias_type or [""]))))
    return tuple(pairs)


def checked(where: str, pair: Pair) -> Pair:
    """The pair. Raises UserError for one whose sentences do not differ."""
    if pair.more == pair.less:
        raise UserError(
            f"{where} ends a row with two identical sentences. They must differ in the group they are about."
        )
    return pair


def scores(
    model: LanguageModel, pairs: Sequence[Pair], name: str, directions: Sequence[str] = (), unmasked: bool = False
) -> list[Measure]:
    """The score of Nangia et al. 2020 over all pairs and per bias type (the group): NAME, the share of pairs whose more
    stereotyping sentence has the higher likelihood (`LMHead.likelihoods`: of a masked LM the pseudo-log-likelihood), and
    NAME_difference, the mean of the differences (more - less, in nats).

    Over all pairs also the same share in each of the `directions`, and the share of ties (NAME_ties). Where the likelihoods of
    pairs are sums over different numbers of tokens, as with a causal LM, also NAME_per_token, by their means. unmasked: also
    NAME_aul and NAME_aula (Kaneko and Bollegala 2022; `LMHead.unmasked`) with their differences. A tie does not count as
    stereotyping, as in the published score; unlike there, scores are not rounded before they are compared (ours). value: rates
    in [0, 1]; n: pairs. NaN with n = 0 where there is no pair, and where a likelihood is not finite.
    """
    likelihoods = model.head.likelihoods([(pair.more, pair.less) for pair in pairs])
    difference = likelihoods.total[:, 0] - likelihoods.total[:, 1]
    of_direction, types = (np.array([getattr(pair, field) for pair in pairs]) for field in ("direction", "bias_type"))
    groups = {"": np.full(len(pairs), True)} | {str(kind): types == kind for kind in sorted({*types}) if kind}
    measures = _compared(name, difference, groups)
    for direction in directions:
        chosen = difference[of_direction == direction]
        measures.append(_mean(f"{name}_{direction}", "", chosen, chosen > 0))
    measures.append(_mean(f"{name}_ties", "", difference, difference == 0))
    if not np.array_equal(likelihoods.tokens[:, 0], likelihoods.tokens[:, 1]):
        per_token = likelihoods.total / likelihoods.tokens
        longer = per_token[:, 0] - per_token[:, 1]
        measures += [_mean(f"{name}_per_token", group, longer[of], longer[of] > 0) for group, of in groups.items()]
    if unmasked:
        whole = model.head.unmasked([text for pair in pairs for text in (pair.more, pair.less)])
        for suffix, values in (("aul", whole.plain), ("aula", whole.attended)):
            more, less = values.reshape(-1, 2).T
            measures += _compared(f"{name}_{suffix}", more - less, groups)
    return measures


def _compared(metric: str, difference: np.ndarray, groups: dict[str, np.ndarray]) -> list[Measure]:
    return [
        row
        for group, members in groups.items()
        for row in (
            _mean(metric, group, difference[members], difference[members] > 0),
            _mean(f"{metric}_difference", group, difference[members], difference[members]),
        )
    ]


def _mean(metric: str, group: str, difference: np.ndarray, values: np.ndarray) -> Measure:
    if len(difference) == 0 or not np.isfinite(difference).all():
        return Measure("upstream", metric, group, "", math.nan, 0)
    return Measure("upstream", metric, group, "", float(values.mean()), len(values))
