"""What these data cannot support: few examples, few seeds, few groups, unreliable or saturated measures, one checkpoint.

Numbers alone; `analysis.report.limitations` turns them into sentences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from scipy import stats

from analysis.data.runs import UNTOUCHED
from analysis.estimands.influence import inflation
from analysis.estimands.pairing import MixedPairs, mixed_pairs
from analysis.estimands.reliability import reliability, template_scores
from analysis.estimands.rows import saturation, unlogged
from analysis.estimands.slopes import CHANGE_WHAT_IS_LEARNED, group_means, held_fixed, recorded, wanted
from bias_transfer.spec import HELDOUT_LOSSES, LEARNED, LEAST_MENTIONS

if TYPE_CHECKING:  # it loads MLflow
    from bias_transfer.tracking.runs import Conditions

FEW_CLUSTERS = 50
"""With this many groups or fewer, intervals of B and W need the bootstrap (docs/statistics.md)."""


@dataclass(frozen=True)
class LeftOut:
    """The groups that regressions leave out, by the number of their examples in the fine-tuning set."""

    least: int
    """Examples that a group needs in every arm."""
    mentioned: bool
    """Whether the fine-tuning set mentions any group."""
    never: tuple[str, ...]
    """Groups without examples in some arm."""
    rarely: tuple[str, ...]
    """Groups with fewer than `least`."""
    remaining: int
    """Groups that regressions use."""
    median: float
    """Median over these of the fewest examples that they have in any arm."""


@dataclass(frozen=True)
class PairedSeeds:
    """How many models and seeds pair the arms with the untouched one."""

    arms: int
    """Arms except the untouched one."""
    fewest: int
    """Paired seeds of the arm that has fewest."""
    models: int = 1
    """Models (pre-training seeds) of the arm that has fewest. Where there are several, an interval counts them alone."""
    drawn: bool = False
    """Whether an arm has several draws, which its seeds are crossed with."""


@dataclass(frozen=True)
class Names:
    """The covariates of the groups' names that B does not hold fixed, although it was to."""

    unrecorded: tuple[str, ...]
    """Those that the runs did not record."""
    unidentified: tuple[str, ...]
    """Those that vary, but follow from the others or set a single group apart."""


@dataclass(frozen=True)
class Unreached:
    """The trials by prompt in which an arm did not reach the prompt."""

    arm: str
    trials: int
    of: int
    """All trials of the arm."""


@dataclass(frozen=True, eq=False)
class StudyCaveats:
    """The caveats of one study."""

    study: str
    metric: str
    """The downstream metric."""
    left_out: LeftOut
    seeds: PairedSeeds
    first_arm: str
    few_groups: tuple[int, float] | None
    """Number of groups and skewness of x, if there are at most `FEW_CLUSTERS`."""
    collinearity: tuple[float, float] | None
    """Correlation of x and z between groups, and variance inflation; None if it is unknown."""
    saturated: pd.DataFrame
    """`rows.saturation`."""
    reliability: tuple[float, int]
    """Cronbach's alpha of x over templates, and their number."""
    losses: tuple[float, float] | None
    """The untouched model's masked-LM loss and that of word frequencies, in nats, unless the former is clearly lower."""
    upstream_arms: tuple[str, ...]
    few_examples: tuple[str, ...]
    """Groups whose y is missing because the test set has too few examples (`cells.LEAST_PER_PRONOUN`)."""
    names: Names
    only_checkpoint: str = ""
    """The model, if there is one untreated pre-trained checkpoint."""
    mixed: tuple[MixedPairs, ...] = ()
    """Arms whose pairs ran on two kinds of machine, or with two sets of packages."""
    unlogged: int | None = None
    """The most phrases that a group has, where the outcome is a logarithm and all groups have too few for it
    (`rows.unlogged`)."""
    unreached: tuple[Unreached, ...] = ()
    """Arms on the training set that left the examples of the prompt as they were."""


@dataclass(frozen=True, eq=False)
class Caveats:
    """The caveats of an experiment."""

    missing: tuple[tuple[str, str], ...]
    """(id, name) of the trials that have not finished."""
    studies: tuple[StudyCaveats, ...]


def caveats(
    table: pd.DataFrame,
    cells: pd.DataFrame,
    missing: Sequence[tuple[str, str]] = (),
    least: int = LEAST_MENTIONS,
    conditions: Mapping[str, Conditions] | None = None,
) -> Caveats:
    """The caveats of all studies. table, cells: those of `runs.Runs.table` and `cells.cells`; least: as given to `cells`.

    conditions: trial id -> where and with what it ran, if it is known.
    """
    studies = tuple(
        study_caveats(str(study), table[table["study"] == study], of_study, least, conditions)
        for study, of_study in cells.groupby("study", sort=False)
    )
    return Caveats(tuple(missing), studies)


def study_caveats(
    study: str,
    table: pd.DataFrame,
    cells: pd.DataFrame,
    least: int = LEAST_MENTIONS,
    conditions: Mapping[str, Conditions] | None = None,
) -> StudyCaveats:
    """The caveats of one study, from its measures and cells."""
    scores = template_scores(table, str(cells["x_metric"].iloc[0]))
    return StudyCaveats(
        study, str(cells["outcome"].iloc[0]), left_out(cells, least), paired_seeds(cells), str(cells["arm"].iloc[0]),
        few_groups(cells), collinearity(cells), saturation(cells), (reliability(scores), scores.shape[1]),
        uninformed_losses(table), tuple(str(name) for name in cells["upstream"].unique() if name != "none"),
        tuple(map(str, cells.loc[cells["few"], "group"].unique())), names(cells), only_checkpoint(table),
        mixed_pairs(table, conditions or {}), unlogged(cells).get(study), unreached(table),
    )  # fmt: skip


def only_checkpoint(table: pd.DataFrame) -> str:
    """The model of one study if there is a single one; empty where there are several pre-training seeds.

    A treated twin is no second checkpoint: it is named only where its study has no trial of the untreated one.
    """
    if len(set(table["replicate"])) > 1:
        return ""
    alone = table.loc[table["upstream"] == "none", "model"]
    return str((alone if len(alone) else table["model"]).iloc[0])


def unreached(table: pd.DataFrame) -> tuple[Unreached, ...]:
    """The arms of one study that left the examples of the prompt as they were in some trial."""
    rows = table[table["metric"] == "prompt_changed"].astype({"arm": str})
    alone = [
        (str(arm), int((of_arm["value"] == 0).sum()), len(of_arm)) for arm, of_arm in rows.groupby("arm", sort=False)
    ]
    return tuple(Unreached(*counted) for counted in alone if counted[1])


def names(cells: pd.DataFrame) -> Names:
    """The covariates of the groups' names that B of one study was to hold fixed, and does not."""
    at_hand, means = recorded(cells), group_means(cells)
    held = held_fixed(means)
    varying = [name for name in at_hand if means[name].max() > means[name].min()]
    return Names(
        tuple(name for name in wanted(cells) if name not in at_hand),
        tuple(name for name in varying if name not in held),
    )


def left_out(cells: pd.DataFrame, least: int = LEAST_MENTIONS) -> LeftOut:
    """The groups of one study that regressions leave out."""
    fewest = cells.groupby("group", sort=False)["z_n"].min()
    without_outcome = set(cells.loc[cells["few"], "group"])
    used = fewest[(fewest >= least) & ~fewest.index.isin(without_outcome)]
    never, rarely = fewest.index[fewest == 0], fewest.index[(fewest > 0) & (fewest < least)]
    return LeftOut(
        least,
        bool(cells["z_n"].any()),
        tuple(map(str, never)),
        tuple(map(str, rarely)),
        len(used),
        float(used.median()),
    )


def paired_seeds(cells: pd.DataFrame) -> PairedSeeds:
    """The models and seeds of one study that the untouched arm shares with the others."""
    untouched = set(cells.loc[cells["arm"] == UNTOUCHED, "seed"])
    treated = cells[cells["arm"] != UNTOUCHED].drop_duplicates(["arm", "seed"])
    arms = treated["arm"].nunique()
    shared = treated[treated["seed"].isin(untouched)].groupby("arm")["replicate"].agg(["size", "nunique"])
    fewest = shared.min() if arms == len(shared) > 0 else {"size": 0, "nunique": 0}
    drawn = cells.groupby("arm")["draw"].nunique().max() > 1
    return PairedSeeds(arms, int(fewest["size"]), int(fewest["nunique"]), bool(drawn))


def few_groups(cells: pd.DataFrame) -> tuple[int, float] | None:
    """Number of groups and skewness of x, where there are too few groups for CRV1."""
    x = cells[(cells["arm"] == UNTOUCHED) & ~cells["thin"] & ~cells["few"]].groupby("group")["x"].mean().dropna()
    if not 2 < len(x) <= FEW_CLUSTERS or x.std() == 0:
        return None
    return len(x), float(stats.skew(x))


def collinearity(cells: pd.DataFrame) -> tuple[float, float] | None:
    """Correlation of x and z between groups of the untouched model, and variance inflation, 1/(1 - r^2)."""
    rows = inflation(cells)
    (between,) = rows[rows["estimand"] == "B"].to_dict("records")
    return None if math.isnan(between["correlation"]) else (between["correlation"], between["inflation"])


def uninformed_losses(table: pd.DataFrame) -> tuple[float, float] | None:
    """Held-out loss of the untouched model and unigram loss, unless the model is clearly better (`spec.LEARNED`)."""
    whole = table[(table["arm"] == UNTOUCHED) & (table["group"] == "") & (table["stage"] == "upstream")]
    means = whole.groupby("metric")["value"].mean()
    # A trial has one of the two losses; in the means of several models the other one is missing.
    losses = [float(means[name]) for name in HELDOUT_LOSSES if name in means]
    loss, unigram = losses[0] if losses else math.nan, float(means.get("unigram_loss", math.nan))
    return (loss, unigram) if loss >= LEARNED * unigram else None


def displacing(upstream_arms: Sequence[str]) -> list[str]:
    """The upstream arms that W relies on."""
    return [name for name in upstream_arms if name not in CHANGE_WHAT_IS_LEARNED]
