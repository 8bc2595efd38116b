"""What the data are too thin for, in plain sentences: they stand beside the numbers, not in a footnote."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from scipy import stats

from analysis.stats.multiple_testing import POWER
from analysis.stats.multiple_testing import detectable
from analysis.data.runs import LEAST_MENTIONS
from analysis.data.runs import OUTCOMES
from analysis.data.runs import REPLICATES
from analysis.data.runs import UNTOUCHED
from analysis.estimands.slopes import CHANGE_WHAT_IS_LEARNED
from analysis.estimands.influence import inflation
from analysis.estimands.saturation import saturation
from bias_transfer.spec import LEARNED
from bias_transfer.spec import Trial

RELIABLE = 0.7
"""Below this reliability of x over templates, a weak slope says little (SCIENCE.md, "No transfer")."""

FEW_CLUSTERS = 50
"""With so many groups or fewer, intervals of B and W lean on the bootstrap (docs/statistics.md)."""


def too_thin(
    table: pd.DataFrame,
    cells: pd.DataFrame,
    missing: Sequence[Trial] = (),
    least: int = LEAST_MENTIONS,
    trials: Sequence[Trial] = (),
) -> list[str]:
    """Sentences on what these data cannot bear. table, cells: as of `load`; least: as was given to `cells`; trials: all of
    them, which tell how often a model was pre-trained."""
    told: dict[str, list[str]] = {}
    studies = list(cells.groupby("study", sort=False))
    for study, own in studies:
        measured = table[table["study"] == study]
        said = [*left_out(own, least), *power(own), clusters(own), together(own), *saturated(own)]
        said += [reliability_of_x(measured, str(own["x_metric"].iloc[0])), knows_language(measured), *designs(own)]
        for text in filter(None, said):
            told.setdefault(text, []).append(str(study))
    found = [f"{_named(own, len(studies))}{text}" for text, own in told.items()]
    return [text for text in [_missing(missing), *found, *_always(table, trials)] if text]


def _named(own: Sequence[str], studies: int) -> str:
    """Before what is said of these studies, once for all of them."""
    if studies == 1 or len(own) == studies:
        return "" if studies == 1 else "All studies: "
    return f"{own[0]}: " if len(own) == 1 else f"{len(own)} of {studies} studies ({'; '.join(own)}): "


def _missing(missing: Sequence[Trial]) -> str:
    names = "; ".join(f"{trial.id} ({trial.name})" for trial in missing)
    return f"Trials of the sweep that have not finished, and are left out: {names}." if names else ""


def left_out(cells: pd.DataFrame, least: int = LEAST_MENTIONS) -> list[str]:
    """Groups that regressions leave out, and why; and how few examples the others have."""
    fewest = cells.groupby("group", sort=False)["z_n"].min()
    if not cells["z_n"].any():
        return [
            "The fine-tuning set names no group: there is no dataset bias, and B and W regress on upstream bias alone."
        ]
    whys = {
        "the fine-tuning set never mentions": fewest.index[fewest == 0],
        f"it mentions fewer than {least} times": fewest.index[(fewest > 0) & (fewest < least)],
    }
    parts = [f"{len(groups)} that {why} ({', '.join(groups)})" for why, groups in whys.items() if len(groups)]
    kept = fewest[fewest >= least]
    if not parts or kept.empty:
        return [f"No group is left for regressions: {'; '.join(parts)}."] if parts else []
    rest = f"{len(kept)} groups are left, half of them with at most {kept.median():.0f} examples in the thinnest arm."
    return [f"Left out of regressions (B and W): {'; '.join(parts)}. {rest}"]


def power(cells: pd.DataFrame) -> list[str]:
    """How many seeds pair each arm with the untouched one, and what they can see."""
    seeds = cells.groupby("arm", sort=False)["seed"].agg(set)
    treated = [own & seeds.get(UNTOUCHED, set()) for arm, own in seeds.items() if arm != UNTOUCHED]
    if not treated:
        return [f"One arm alone ({seeds.index[0]}): no arm effect (A) and no displacement (W) can be given."]
    fewest = min(map(len, treated))
    if fewest < 2:
        return [f"{fewest} paired seed: no interval on an arm effect (A), and bias cannot be told from noise."]
    said = (
        f"{fewest} paired seeds see an arm effect (A) of {detectable(fewest):.1f} SD of the paired differences or more"
    )
    more = f" (10 seeds: {detectable(10):.1f} SD)" if fewest < 10 else ""
    several = f"; p_adjusted corrects for the {len(treated)} arms (Holm)." if len(treated) > 1 else "."
    return [f"{said} at {POWER * 100:.0f} % power{more}: a smaller one is missed{several}"]


def clusters(cells: pd.DataFrame) -> str:
    """Whether there are too few groups for CRV1."""
    x = cells[(cells["arm"] == UNTOUCHED) & ~cells["thin"]].groupby("group")["x"].mean().dropna()
    if not 2 < len(x) <= FEW_CLUSTERS or x.std() == 0:
        return ""
    return (
        f"{len(x)} groups are few clusters (skewness of x {stats.skew(x):+.1f}): intervals of B and W come from a wild cluster "
        f"bootstrap, and CRV1's beside them are too short (docs/statistics.md)."
    )


def together(cells: pd.DataFrame) -> str:
    """Variance inflation of x and z between groups, on the untouched model: 1/(1 - r^2)."""
    found = inflation(cells)
    (own,) = found[found["estimand"] == "B"].to_dict("records")
    if math.isnan(own["correlation"]):
        return ""
    return (
        f"Over groups, x and z correlate at {own['correlation']:+.2f} (variance inflation {own['inflation']:.1f}) and share "
        f"causes: B is an association, not an effect."
    )


def reliability(scores: pd.DataFrame) -> float:
    """scores: (groups, templates). Cronbach's alpha of the mean over templates, in (-inf, 1]: Spearman and Brown's
    reliability for templates that spread alike. NaN for fewer than two templates or groups, and without spread."""
    whole = scores.dropna()
    groups, templates = whole.shape
    if groups < 2 or templates < 2:
        return math.nan
    total = float(whole.sum(axis=1).var())
    return templates / (templates - 1) * (1 - float(whole.var().sum()) / total) if total > 0 else math.nan


def reliability_of_x(table: pd.DataFrame, metric: str) -> str:
    """Whether templates agree on which groups score high, on the untouched model."""
    own = table[(table["stage"] == "upstream") & (table["metric"] == metric) & (table["arm"] == UNTOUCHED)]
    own = own[(own["group"] != "") & (own["template"] != "")]
    alpha = reliability(own.pivot_table(index="group", columns="template", values="value", sort=False))
    if math.isnan(alpha):
        return "The reliability of x is unknown: it takes two templates or more, measured on the untouched model."
    if alpha >= RELIABLE:
        return ""
    return (
        f"The reliability of x over {own['template'].nunique()} templates is {alpha:.2f} (Cronbach's alpha; below "
        f"{RELIABLE}): templates disagree on the groups, and noise in x pulls its slope towards 0."
    )


def knows_language(table: pd.DataFrame) -> str:
    """Whether the untouched model predicts masked words clearly better than word frequencies do."""
    whole = table[(table["arm"] == UNTOUCHED) & (table["group"] == "") & (table["stage"] == "upstream")]
    means = whole.groupby("metric")["value"].mean()
    loss, unigram = means.get("masked_lm_loss", math.nan), means.get("unigram_loss", math.nan)
    if not loss >= LEARNED * unigram:
        return ""
    return (
        f"The untouched model's held-out masked-LM loss ({loss:.2f} nats) is not clearly below that of word "
        f"frequencies alone ({unigram:.2f}): its upstream scores are noise."
    )


def saturated(cells: pd.DataFrame) -> list[str]:
    """Arms with trials whose rates are at the floor or the ceiling in all groups."""
    metric = OUTCOMES[cells["outcome"].iloc[0]].label
    return [
        f"Saturated: in {row.saturated} of {row.trials} trials of {row.arm} the {metric} lies between {row.lowest:.3f} and "
        f"{row.highest:.3f} in all groups, and says nothing of differences between them; read the logit gap."
        for row in saturation(cells).itertuples()
    ]


def designs(cells: pd.DataFrame) -> list[str]:
    """What the arms cannot tell."""
    upstream = [name for name in cells["upstream"].unique() if name != "none"]
    moving = [name for name in upstream if name not in CHANGE_WHAT_IS_LEARNED]
    said = []
    if moving:
        said.append(
            f"W reads as causal only if {', '.join(moving)} and the downstream arms reach the outcome through x and z "
            f"alone."
        )
    if upstream:
        said.append(
            "A seed is one draw of an intervention and one fine-tuning at once: their noise cannot be told apart."
        )
    return said


def _always(table: pd.DataFrame, trials: Sequence[Trial]) -> list[str]:
    models = table["model"].unique()
    trainings = {tuple(trial.options.get(name) for name in REPLICATES) for trial in trials}
    alone = len(models) == 1 and len(trainings) < 2
    one = f"One checkpoint ({models[0]}) licenses no claim about pre-training as such." if alone else ""
    absent = (
        "'No transfer' cannot be claimed from an interval that includes 0: it takes an equivalence test against a "
        "margin stated beforehand, an x that moved, and a positive control that passed."
    )
    return [absent, one]
