"""Covariates of the groups' names, which B holds fixed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bias_transfer.spec import Covariate

COVARIATES: dict[Covariate, str] = {
    "words": "name_words",
    "tokens": "name_tokens",
    "log_frequency": "name_log_frequency",
}
"""Covariate -> the upstream measure that records it."""

LEAST_FOR_ALL = 15
"""With fewer groups than this B holds the number of words alone fixed, unless the config states a choice (ours)."""


def chosen(groups: int, stated: Sequence[str] | None) -> tuple[Covariate, ...]:
    """The covariates that B's main fit is to have. groups: those that regressions use; stated: the config's choice, if any."""
    if stated is not None:
        return tuple(name for name in COVARIATES if name in stated)
    return tuple(COVARIATES) if groups >= LEAST_FOR_ALL else ("words",)


def words(name: str) -> int:
    """Number of words in a group's name, split at white space, underscores and hyphens: for runs that did not record it."""
    return len(re.split(r"[\s_-]+", name))
