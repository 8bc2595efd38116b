"""How a classifier ranks groups: measures without a threshold, which still differ where error rates are at floor or ceiling."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bias_transfer.metrics.error_rates import Rows
from bias_transfer.spec import Measure


def logit_gaps(metric: str, margins: Mapping[str, np.ndarray], base: np.ndarray) -> list[Measure]:
    """Mean margin of a group's negatives minus the mean margin of the negatives in `base`, in logits.

    margins: group -> (members,); base: (examples,). n: the group's negatives; NaN with n = 0 where either set is empty.
    """
    gaps = {
        group: ours.mean() - base.mean() if len(ours) and len(base) else math.nan for group, ours in margins.items()
    }
    return [_measure(metric, group, float(gap), len(margins[group])) for group, gap in gaps.items()]


def rankings(
    margins: np.ndarray, labels: np.ndarray, groups: Mapping[str, Rows], least: int = 1, prefix: str = ""
) -> list[Measure]:
    """The five metrics of Borkan et al. 2019 for each group against its background, i.e. all examples outside the group.

    margins, labels: (examples,), labels 0 or 1; groups: name -> rows. A tie counts as one half. AUCs are in [0, 1]:
    subgroup_auc: P(a positive of the group scores above a negative of the group).
    bpsn_auc: P(a background positive scores above a negative of the group); low where the group's negatives score too high.
    bnsp_auc: P(a positive of the group scores above a background negative); low where the group's positives score too low.
    positive_aeg, negative_aeg: the average equality gap, P(a positive (negative) of the group scores above a background one)
    - 1/2, in [-1/2, 1/2]. Above 0 the group scores higher: this is the sign in the authors' code; equation 4 of the paper has
    the opposite sign.

    n: the group's examples that enter. NaN with n = 0 where there are fewer than `least` of them (for subgroup_auc: of either
    label), or where the background has no example of the label.
    """
    negatives, positives = (np.sort(margins[labels == label]) for label in (0, 1))
    measures = []
    for group, rows in groups.items():
        low, high = (np.sort(margins[rows][labels[rows] == label]) for label in (0, 1))
        n, p = (len(scores) if len(scores) >= least else 0 for scores in (low, high))
        rest_n, rest_p = len(negatives) - len(low), len(positives) - len(high)
        inside = _wins(high, low)
        # The background's wins are the wins against all examples of a label minus those inside the group, so that each group
        # takes a few binary searches and no pass over its background.
        above = {  # metric: (pairs in which the first scores higher, pairs, value by chance to subtract, n)
            "subgroup_auc": (inside, p * n, 0, p + n),
            "bpsn_auc": (len(low) * len(positives) - _wins(low, positives) - inside, n * rest_p, 0, n),
            "bnsp_auc": (_wins(high, negatives) - inside, p * rest_n, 0, p),
            "positive_aeg": (_wins(high, positives) - len(high) ** 2 / 2, p * rest_p, 0.5, p),
            "negative_aeg": (_wins(low, negatives) - len(low) ** 2 / 2, n * rest_n, 0.5, n),
        }
        for metric, (pairs_won, pairs, chance, entering) in above.items():
            value = pairs_won / pairs - chance if pairs else math.nan
            measures.append(_measure(prefix + metric, group, value, entering))
    return measures


def _wins(scores: np.ndarray, against: np.ndarray) -> float:
    """Mann and Whitney's U: number of pairs in which a score is above one of `against` (sorted); ties are halves. Exact."""
    below, not_above = (int(np.searchsorted(against, scores, side).sum()) for side in ("left", "right"))
    return (below + not_above) / 2


def _measure(metric: str, group: str, value: float, n: int) -> Measure:
    return Measure("downstream", metric, group, "", value, 0 if math.isnan(value) else n)
