"""Sentences about numbers: the rows of each frame in words, which claim no more than the estimand supports.

Associations "go with" each other; only arms "change" something. Estimands return numbers alone, and wording is made here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.cells import Outcome, outcome_named
from analysis.estimands.equivalence import MOVED, Verdict
from analysis.estimands.placebo import OWN
from analysis.estimands.positive_control import ControlResult
from analysis.estimands.ranking import CONTROL, FAILED, NOT_RANKED, RANKED, UTILITIES
from analysis.estimands.reliability import RELIABLE
from analysis.estimands.rows import regressor
from analysis.estimands.slopes import PLAIN
from analysis.findings import TrialWarning
from bias_transfer.spec import TWINS

Row = Mapping[Any, Any]

SUBJECTS = {
    "B": "Across {groups} groups of the untouched model",
    "W": "Within {groups} groups, over the arms' displacements",
}
"""Estimand -> how its sentences begin."""

CONDITIONS = {"B": "", "W": "; causal only if the arms reach the outcome through x and z alone"}
"""Estimand -> how its sentences end."""

MODELS = {"pre-trained": "the pre-trained model", "not pre-trained": "the model that was not pre-trained"}
"""Side of an interaction -> the model, in sentences."""

AT_EQUAL_Z = ", at equal dataset bias,"
STEPS = {
    "x": (0.1, f"0.1 SD (= {{raw:.3g}} in raw units) higher upstream bias{AT_EQUAL_Z}"),
    "z": (0.1, "0.1 SD (= {raw:.3g} on the logit scale) higher dataset bias, at equal upstream bias,"),
    "z_level": (0.1, "10 percentage points more dataset bias, at equal upstream bias,"),
    "z_log": (math.log(1.1), "10 % (relative) more dataset bias, at equal upstream bias,"),
}
"""Term -> the step of the regressor that its sentence speaks of, in the term's unit, and the step in words."""

COVARIATES: dict[str, str] = {"words": "words", "tokens": "sub-tokens", "log_frequency": "log frequency"}
"""Covariate of the groups' names -> how sentences name it."""

POSTER_REPLICA = (
    "Poster replica, not to be relied on: y is repeated for every upstream template, so rows are counted that add no outcome "
    "(standard errors are too small), and the noise of single templates pulls the slope towards 0."
)

MARGINS_FROM = {
    "analysis": "given to the analysis, when results may have been seen",
    "config": "stated in the config before the sweep was first started",
    "obsolete": "none: the config stated margin_slope or margin_arms, one raw number for all outcomes, which does not count",
    "none": "none was stated",
}
"""`Findings.margins_from` in words."""

NOT_PUBLISHED = ("adjusted_for", "n_groups", "n_doses")
"""Columns that sentences need, and that the published tables do not have."""


def percent(difference: float) -> str:
    """A difference of logs in per cent; above tenfold, where per cent are hard to read, as a factor."""
    if math.isinf(difference):
        return "no bound"
    if difference > math.log(10):
        factor = float(f"{math.exp(difference):.2g}")
        return f"a factor of {factor:,.0f}" if factor < 1e6 else f"a factor of {factor:.2g}"
    value = 100 * math.expm1(difference)
    return f"{value:+.1f} %" if abs(value) >= 1 else f"{value:+.2f} %"


def changes(outcome: Outcome, *values: float) -> list[str]:
    """Differences of y in words: in per cent where y is a log, in points where it compares two rates, else in its unit."""
    return [percent(value) if outcome.logs else _amount(outcome, value) for value in values]


def _amount(outcome: Outcome, value: float) -> str:
    return f"{100 * value:+.3g} points" if outcome.points else f"{value:+.3g} {outcome.unit}"


def contrasts(outcome: Outcome, *values: float) -> list[str]:
    """Differences between two differences of y in words: where y is a log, as the ratio of the two factors.

    "+30 %" would be misread there as points between two percentages.
    """
    return [_ratio(value) if outcome.logs else _amount(outcome, value) for value in values]


def _ratio(difference: float) -> str:
    return "no bound" if math.isinf(difference) else f"{math.exp(difference):.3g}"


def noun(outcome: Outcome) -> str:
    """What follows a difference of y."""
    return outcome.label if outcome.logs else f"in {outcome.name}"


def interval(low: float, bounds: Sequence[str], otherwise: str = "no interval") -> str:
    """A 95 % interval in words. low: NaN where there is none; bounds: its ends in words, whose common unit is said once."""
    if math.isnan(low):
        return otherwise
    (first, unit), (_, last_unit) = ((bound.partition(" ")[0], bound.partition(" ")[2]) for bound in bounds)
    return f"95 % interval {first if unit == last_unit != '%' else bounds[0]} to {bounds[1]}"


def plural(count: int, name: str) -> str:
    """A count with its noun: 1 seed, 2 seeds."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def association(row: Row) -> str:
    """A coefficient of B or W."""
    outcome, term = outcome_named(row["outcome"]), regressor(row["term"])
    subject = f"{SUBJECTS[row['estimand']].format(groups=row['n_groups'])}{_names(row)}"
    if term == "x - z":
        middle, *bounds = (_amount(outcome, row[name]) for name in ("coefficient", "low", "high"))
        statement = f"the coefficient of upstream bias minus that of dataset bias is {middle} per SD"
    else:
        step, words = STEPS[term]
        if "z" not in row["adjusted_for"].split(", "):
            words = words.replace(AT_EQUAL_Z, " (the fine-tuning set mentions no group)")
        middle, *bounds = changes(outcome, *(step * row[name] for name in ("coefficient", "low", "high")))
        statement = f"{words.format(raw=step * row['scale'])} goes with {middle} {noun(outcome)}"
    return f"{subject}, {statement} ({interval(row['low'], bounds)}){CONDITIONS[row['estimand']]}."


def _names(row: Row) -> str:
    """What B holds fixed of the groups' names, as a clause."""
    if row["term"].endswith(f" | {PLAIN}"):
        return ", in the plain fit that leaves the group's name free (exploratory)"
    held = names_held(row["adjusted_for"].split(", "))
    return f", with the group's name held fixed ({held})" if held else ""


def names_held(terms: Sequence[str]) -> str:
    """The covariates of the groups' names among the terms, in words; empty where there are none."""
    return ", ".join(COVARIATES[term] for term in terms if term in COVARIATES)


def placebo(row: Row) -> str:
    """B's slope on what other models learned, or on what the same models learned."""
    outcome = outcome_named(row["outcome"])
    middle, *bounds = changes(outcome, *(0.1 * row[name] for name in ("coefficient", "low", "high")))
    models = f"{plural(row['clusters'], 'model')}, {plural(row['n'], 'slope')}"
    if row["term"] == OWN:
        return (
            f"0.1 SD higher upstream bias of the same model goes with {middle} {noun(outcome)} "
            f"({models}; {interval(row['low'], bounds)})."
        )
    return (
        f"Placebo: 0.1 SD higher upstream bias of the other pre-trained models, which cannot have reached this classifier, "
        f"goes with {middle} {noun(outcome)} ({models}; {interval(row['low'], bounds)}). B is evidence of transfer only as far "
        f"as it exceeds this."
    )


def trials_in_words(row: Row, noun: str = "paired seed") -> str:
    """The seeds behind a number and, where there are several, the models or draws that they belong to."""
    seeds = plural(row["seeds"], noun)
    if row["models"] > 1:
        return f"{row['models']} models with {seeds} in all"
    return f"{row['draws']} draws with {seeds} in all" if row["draws"] > 1 else seeds


def scope(row: Row) -> str:
    """What an interval over seeds or models holds for: seeds of one model say nothing of other pre-training seeds."""
    if math.isnan(row["low"]) or not row["models"]:
        return ""
    if row["models"] > 1:
        return f", over {row['clusters']} models"
    pair = row["estimand"] != "size" and str(row["term"]).partition(" + ")[0].endswith(TWINS)
    return ", for this pair of checkpoints" if pair else ", for this checkpoint"


def _paired(row: Row, before: str, after: str = "", method: str = "") -> str:
    """A mean of paired differences, between the words before and after it."""
    middle, *bounds = changes(outcome_named(row["outcome"]), row["coefficient"], row["low"], row["high"])
    otherwise = "one seed: no interval" if row["seeds"] == 1 else "no interval"
    return f"{before} {middle}{after} ({method}{interval(row['low'], bounds, otherwise)}{scope(row)})."


def arm_effect(row: Row) -> str:
    """An effect of A."""
    over = f"{row['n_groups']} groups and {trials_in_words(row)}"
    return _paired(row, f"{row['term']} changed {outcome_named(row['outcome']).name} by", f" on average over {over}")


def dose_slope(row: Row) -> str:
    """A slope over doses."""
    over = f"least squares over {row['n_doses']} doses and the untouched arm, {trials_in_words(row)}; "
    before = f"{row['term']}: a dose that is higher by 1 changed {outcome_named(row['outcome']).name} by"
    return _paired(row, before, method=over)


def arm_by_pretrained(row: Row) -> str:
    """An arm's effect with or without pre-training, or the difference of the two."""
    arm, _, side = row["term"].rpartition(" | ")
    outcome = outcome_named(row["outcome"])
    if side == "difference":
        changed = (
            f"factor by which {arm} changed {outcome.name}" if outcome.logs else f"change in {outcome.name} by {arm}"
        )
        return f"The {changed} {_between_models(row, 1.0, 'one seed: no interval')}."
    before = f"On {MODELS[side]}, {arm} changed {outcome.name} by"
    return _paired(row, before, f" on average over {row['n_groups']} groups")


def pretrained_by_dataset(row: Row) -> str:
    """A slope on dataset bias with or without pre-training, or the difference of the two."""
    side, outcome = row["term"].rpartition(" | ")[2], outcome_named(row["outcome"])
    middle, *bounds = changes(outcome, *(0.1 * row[name] for name in ("coefficient", "low", "high")))
    if side == "difference":
        start = f"factor in {outcome.name} that goes with" if outcome.logs else f"association of {outcome.name} with"
        step = f"{start} 0.1 SD higher dataset bias, at equal upstream bias,"
        return f"Across {row['n_groups']} groups, the {step} {_between_models(row, 0.1)}."
    step = f"on {MODELS[side]}, 0.1 SD higher dataset bias, at equal upstream bias,"
    statement = f"{step} goes with {middle} {noun(outcome)}"
    return f"Across {row['n_groups']} groups, {statement} ({interval(row['low'], bounds)})."


def _between_models(row: Row, step: float, otherwise: str = "no interval") -> str:
    """The difference between the pre-trained model and one that was not: of factors where y is a log, else of changes."""
    outcome = outcome_named(row["outcome"])
    middle, *bounds = contrasts(outcome, *(step * row[name] for name in ("coefficient", "low", "high")))
    limits = interval(row["low"], bounds, otherwise) + scope(row)
    if outcome.logs:
        return (
            f"is {middle} times as large on the pre-trained model as on one that was not pre-trained (a ratio of two ratios; "
            f"{limits})"
        )
    return f"differs by {middle} between the pre-trained model and one that was not pre-trained ({limits})"


def bias_size(row: Row) -> str:
    """An arm's size of bias."""
    bounds = [f"{row[name]:.3g}" for name in ("low", "high")]
    unit = f"{row['unit'].removesuffix(' over groups')} over {row['n_groups']} groups"
    shared = (
        f"counting only what seeds share, {trials_in_words(row, 'seed')}; {interval(row['low'], bounds)}{scope(row)}"
    )
    return f"Under {row['term']}, the size of bias is {row['coefficient']:.3g} ({unit}, {shared})."


def size_change(row: Row) -> str:
    """The change of the size of bias by an arm."""
    middle, *bounds = (f"{row[name]:+.3g}" for name in ("coefficient", "low", "high"))
    over = f"{row['unit']}, {trials_in_words(row)}"
    return f"{row['term']} changed the size of bias by {middle} ({over}; {interval(row['low'], bounds)}{scope(row)})."


def comovement(row: Row) -> str:
    """Slope and correlation of the changes of upstream and downstream bias."""
    outcome = outcome_named(row["outcome"])
    middle, low, high = changes(outcome, *(0.1 * row[name] for name in ("slope", "slope_low", "slope_high")))
    known = not math.isnan(row["slope_low"])
    ends = f", {row['correlation_low']:+.2f} to {row['correlation_high']:+.2f}" if known else ""
    return (
        f"Over {plural(row['arms'], 'arm')} and {row['groups']} groups, where upstream bias rose by 0.1 SD, downstream bias "
        f"changed by {middle} {noun(outcome)} ({interval(row['slope_low'], (low, high))}; r = "
        f"{row['correlation']:+.2f}{ends}). This is "
        f"co-movement: it is not mediation, since the arms may reach both by other paths."
    )


def influence(row: Row) -> str:
    """How much a coefficient depends on single groups."""
    statement = f"{row['estimand']}: the coefficient of {row['term']} is {row['coefficient']:+.3g}"
    if math.isnan(row["without"]):
        return f"{statement} and rests on {row['group']} alone."
    over = f"range over all {row['n_groups']} groups {row['lowest']:+.3g} to {row['highest']:+.3g}"
    return f"{statement}; without {row['group']}, the most influential group, it is {row['without']:+.3g} ({over})."


def poster_replica(row: Row) -> str:
    """A coefficient of the poster's regression, with what is wrong with it."""
    return f"{POSTER_REPLICA} Its coefficient of {row['term']} is {row['coefficient']:+.3g} per SD."


def level(outcome: Outcome, value: float) -> str:
    """An outcome as it is measured: a rate in per cent, a difference of rates in points, else in its unit."""
    return f"{100 * value:.1f} %" if outcome.rate else _amount(outcome, value)


def adaptation(row: Row) -> str:
    """Slope and level of one adaptation, always together."""
    outcome = outcome_named(row["outcome"])
    middle, *bounds = changes(outcome, *(0.1 * row[name] for name in ("slope", "slope_low", "slope_high")))
    steep = (
        "there is no slope"
        if math.isnan(row["slope"])
        else f"0.1 SD higher upstream bias goes with {middle} {noun(outcome)} ({interval(row['slope_low'], bounds)})"
    )
    ends = [level(outcome, row[name]) for name in ("level_low", "level_high")]
    over = f"{interval(row['level_low'], ends)}; {trials_in_words(row, 'seed')}"
    sizes = [f"{row[name]:.3g}" for name in ("size_low", "size_high")]
    size = (
        "its size is unknown"
        if math.isnan(row["size"])
        else f"the size of bias is {row['size']:.3g} ({interval(row['size_low'], sizes)})"
    )
    return (
        f"{row['adaptation']} ({row['study']}): {steep}; {outcome.name} is {level(outcome, row['level'])} on average over "
        f"{row['n_groups']} groups ({over}), and {size}."
    )


NO_RATIO = "utility loss not distinguishable from 0"

RANKING = (
    "What each arm changed in harm and in utility, against the untouched arm and paired by seed. By the estimates, an arm "
    "that does less harm at no more cost in utility dominates another and comes before it; doing nothing is one of the arms"
    " that may dominate. Layer 1 is dominated by none, layer 2 by arms of layer 1 alone, and so on. Within a layer, arms "
    "whose reduction of harm has an interval above 0 come first, in the order of the lower end of the interval of harm "
    "reduced per point of utility lost (Fieller 1954), since the estimate of that ratio is unstable where hardly any "
    "utility is lost. The others follow by the harm that they reduce. Ranks rest on estimates; which dominance is more than"
    " chance may bring is tested below."
)
RANKING_TABLE = (
    "harm reduced: in the outcome's unit (ln FPR for fpr; of an outcome whose 0 means no bias, its size over groups), above"
    " 0 where the arm does less harm; p: Holm over all arms, also those shown apart; utility lost: in points of {utility}; "
    "per point: harm reduced per point lost. Intervals: 95 %, t over models or, with one model, over its paired seeds (of "
    "sizes by jackknife). n: paired seeds. ranking.csv has all arms, intervals that hold jointly, and the other utility."
)
APART = {
    FAILED: "Not ranked: the manipulation check failed",
    CONTROL: "Not ranked: controls",
    NOT_RANKED: "Not ranked: too few seeds for an interval, or no spread over them",
}
"""Standing of an arm -> the title of the list of such arms."""


def ranked(row: Row) -> str:
    """An arm's trade-off of harm and utility, against the untouched arm."""
    outcome, name = outcome_named(row["outcome"]), UTILITIES[row["utility"]]
    harm = harm_changes(outcome, *(row[name] for name in ("harm_reduced", "harm_high", "harm_low")))
    lost = points(*(-row[name] for name in ("utility_lost", "utility_high", "utility_low")))
    what = "the size of bias" if outcome.zero else outcome.name
    place = f"rank {row['rank']:.0f}" if row["standing"] == RANKED else row["standing"]
    per = f"; {per_point(row)}" if not math.isnan(row["utility_low"]) else ""
    return (
        f"{row['arm']} ({place}) changed {what} by {harm[0]} ({interval(row['harm_low'], harm[1:])}) and {name} by {lost[0]} "
        f"({interval(row['utility_low'], lost[1:])}), {trials_in_words(row)}{_checkpoint(row)}{per}."
    )


def _checkpoint(row: Row) -> str:
    return scope({**row, "low": row["harm_low"], "estimand": "A", "term": row["arm"]})


def harm_changes(outcome: Outcome, *reduced: float) -> list[str]:
    """Changes of the outcome, or of its size of bias, by which harm is reduced, in words."""
    if outcome.zero:
        return [f"{-value:+.3g} {outcome.unit}" for value in reduced]
    return changes(outcome, *(value if outcome.benefit else -value for value in reduced))


def points(*shares: float) -> list[str]:
    """Differences of a share, in points."""
    return [f"{100 * share:+.3g} points" for share in shares]


def per_point(row: Row) -> str:
    """Harm reduced per point of utility lost, as far as it is known; no bound is ever an infinity."""
    name, unit = UTILITIES[row["utility"]], outcome_named(row["outcome"]).unit
    value, low, high = (f"{row[end]:.3g}" for end in ("ratio", "ratio_low", "ratio_high"))
    if not math.isnan(row["ratio"]):
        return f"harm reduced per point of {name} lost: {value} {unit} (95 % interval {low} to {high})"
    if row["utility_high"] < 0:
        return f"no {name} was lost (it rose)"
    if not math.isnan(row["ratio_low"]):
        return f"{NO_RATIO}; if any was lost, harm fell by at least {low} {unit} per point"
    if not math.isnan(row["ratio_high"]):
        return f"{NO_RATIO}; if any was lost, harm rose by at least {high.removeprefix('-')} {unit} per point"
    return NO_RATIO


def short_ratio(row: Row) -> str:
    """`per_point` for a cell of a table."""
    value, low, high = (f"{row[end]:.3g}" for end in ("ratio", "ratio_low", "ratio_high"))
    if not math.isnan(row["ratio"]):
        return f"{value} ({low} to {high})"
    if row["utility_high"] < 0:
        return "none lost"
    ends = {f"at least {low}": row["ratio_low"], f"at most {high}": row["ratio_high"]}
    bound = next((f"; if any, {words}" for words, end in ends.items() if not math.isnan(end)), "")
    return f"{NO_RATIO}{bound}"


def pairs_tested(pairs: pd.DataFrame, established: int) -> str:
    """How many pairs were tested, and how many of those that seem to be dominated are not more than chance."""
    seen, tested = len(pairs), int(pairs["pairs"].max()) if len(pairs) else 0
    if not seen:
        return "By the estimates, no arm dominates another, nor does doing nothing."
    return (
        f"Of {plural(tested, 'pair')} of arms, the untouched one included, {seen} are in the order of dominance by the "
        f"estimates, {established} of them by more than chance may bring (both differences at 5 %, Holm over the pairs)."
    )


def dominated(row: Row) -> str:
    """Whether one arm dominates another by more than chance."""
    outcome, name = outcome_named(row["outcome"]), UTILITIES[row["utility"]]
    harm = harm_changes(outcome, *(row[name] for name in ("harm_difference", "harm_high", "harm_low")))
    gained = points(*(row[name] for name in ("utility_difference", "utility_low", "utility_high")))
    sure = "dominates" if row["established"] else "seems to dominate, by no more than chance may bring,"
    return (
        f"{row['arm']} {sure} {row['dominated']}: {harm[0]} {'of the size of bias' if outcome.zero else noun(outcome)} "
        f"({interval(row['harm_low'], harm[1:])}) and {gained[0]} of {name} ({interval(row['utility_low'], gained[1:])}), "
        f"{trials_in_words(row)}."
    )


BY_ESTIMAND = {"A": arm_effect, "B": association, "W": association, "size": bias_size}
SENTENCES: dict[str, Callable[[Row], str]] = {
    "coefficients": lambda row: BY_ESTIMAND[row["estimand"]](row),
    "size_changes": size_change,
    "arm_by_pretrained": arm_by_pretrained,
    "pretrained_by_dataset": pretrained_by_dataset,
    "dose_slopes": dose_slope,
    "comovement": comovement,
    "influence": influence,
    "placebo": placebo,
    "poster_replica": poster_replica,
    "corrected": lambda row: "",
    "adaptations": adaptation,
    "ranking": ranked,
    "dominance": dominated,
}
"""Frame -> the sentence of one of its rows. A new frame with sentences is one entry."""


NUMBERS = {"comovement": "slope", "adaptations": "level", "ranking": "harm_reduced", "dominance": "harm_difference"}
"""Frame -> the column without which a row has no sentence, where it is not the coefficient."""


def sentences(name: str, frame: pd.DataFrame) -> list[str]:
    """The sentence of each row of a frame; empty where a row has no number."""
    number = NUMBERS.get(name, "coefficient")
    return ["" if math.isnan(row[number]) else SENTENCES[name](row) for row in frame.to_dict("records")]


def published(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A frame as its file has it: with the column `sentence` before `reason`, and without `NOT_PUBLISHED`."""
    if name not in SENTENCES:
        return frame
    table = frame.drop(columns=list(NOT_PUBLISHED), errors="ignore")
    table.insert(list(table.columns).index("reason"), "sentence", sentences(name, frame))
    return table.assign(equivalence=equivalences(frame)) if name == "coefficients" else table


def equivalences(coefficients: pd.DataFrame) -> list[str]:
    """The result of each row's equivalence test."""
    return [_equivalence(row) for row in coefficients.to_dict("records")]


def _equivalence(row: Row) -> str:
    if math.isnan(row["smallest_margin"]):
        return "Equivalence to 0 was not tested: there is no interval."
    smallest = f"the smallest margin that would pass is {_margin(row['smallest_margin'], row)}"
    if row["untested"]:
        return f"Equivalence to 0 was not tested: {row['untested']}; {smallest}."
    result = "passes" if row["equivalent"] else "does not pass"
    return f"Equivalence to 0 {result} at a margin of {_margin(row['margin'], row)} (two one-sided tests at 5 %); {smallest}."


def _margin(value: float, row: Row) -> str:
    """A margin in the outcome's unit and, where that is known, in SD of the untouched arm's outcome."""
    in_sd = f" ({value / row['outcome_sd']:.3g} SD over groups)" if row["outcome_sd"] > 0 else ""
    return f"{value:.3g} {row['unit']}{in_sd}"


def verdict(claim: Verdict) -> str:
    """Whether "no transfer" may be claimed. Where it may not, nothing is claimed either way."""
    if claim.licensed:
        return (
            "No transfer, within the stated margin: equivalence passes, the interval includes 0, neither A nor W contradicts "
            "it, the arms moved upstream bias, its measure is reliable, and the positive control passed on this model and "
            "these settings."
        )
    return f"'No transfer' is not claimed: {'; '.join(lacking(claim))}."


def lacking(claim: Verdict) -> list[str]:
    """The conditions of "no transfer" that are not met."""
    known = not math.isnan(claim.reliability)
    arms = ", ".join(name for name in claim.contradicted_by if name != "W")
    conditions = {
        f"equivalence was not tested, because {claim.untested}": claim.equivalent is None,
        "equivalence does not pass at the stated margin": claim.equivalent is False,
        "the 95 % interval of the slope excludes 0": claim.includes_zero is False,
        "W contradicts it: the 95 % interval of its slope on x excludes 0": "W" in claim.contradicted_by,
        f"A contradicts it: {arms} changed the outcome (p < .05 after Holm's correction)": bool(arms),
        "it is not known whether x moved": claim.moved is None,
        f"x did not move in every arm that treats the model (by more than {MOVED} SD)": claim.moved is False,
        "the reliability of x is not known": not known,
        f"the reliability of x is {claim.reliability:.2f}, below {RELIABLE}": known and claim.reliability < RELIABLE,
        "it is not known whether the positive control passed on this model and these settings": claim.positive_control
        is None,
        "the positive control did not pass": claim.positive_control is False,
    }
    return [text for text, unmet in conditions.items() if unmet]


def positive_control(control: ControlResult) -> str:
    """The result of the positive control."""
    if control.experiment is None:
        return (
            "There is no positive control: no experiment was named (analysis.positive_control in the config), and this one has "
            "no injections at dose 1 and -1."
        )
    name = f"The positive control {control.experiment!r}"
    if control.passed is None:
        return f"{name} {control.reason.removesuffix('.')}."
    result = "found" if control.passed else "did not find"
    interval_ = f"95 % interval {control.low:+.3g} to {control.high:+.3g}, {control.groups} groups"
    if not control.injected:
        return f"{name} {result} what was planted: slope {control.coefficient:+.3g} ({interval_})."
    over = plural(control.models, "model") if control.models > 1 else plural(control.seeds, "seed")
    scope = "" if control.models > 1 else ", for this checkpoint"
    change = (
        f"half the outcome's change from dose -1 to dose 1, the way that dose 1 pushes, is {control.coefficient:+.3g}"
    )
    return f"{name} {result} what was injected{scope}: {change} ({interval_}, {over})."


def package_versions(versions: Mapping[str, Counter[str]], trials: int) -> str:
    """The package versions with which the trials ran, and whether they differ. trials: how many have finished."""
    if not versions:
        return "Package versions: the trials recorded none."
    shown = "; ".join(f"{package} {_versions(counts, trials)}" for package, counts in versions.items())
    differing = [package for package, counts in versions.items() if len(counts) > 1]
    if not differing:
        return f"Package versions, as recorded with the trials: {shown}."
    return (
        f"Package versions, as recorded with the trials: {shown}. Trials ran with different versions of "
        f"{', '.join(differing)}: a difference between arms may be due to that."
    )


def _versions(counts: Counter[str], trials: int) -> str:
    if set(counts.values()) == {trials}:
        return next(iter(counts))
    return ", ".join(f"{version} ({count} of {plural(trials, 'trial')})" for version, count in counts.items())


LISTED = 12
"""Trials whose ids a sentence names."""


def machines(frame: pd.DataFrame) -> list[str]:
    """On which machines the trials ran, and which of them were imported. frame: `data.machines.machines`."""
    if not len(frame):
        return []
    kinds = frame.assign(machine=frame["machine"].replace("", "a machine that was not recorded"))
    counts = kinds["machine"].value_counts(sort=True)
    most, total = counts.index[0], len(frame)
    shown = [f"{most} ({counts.iloc[0]} of {plural(total, 'trial')})"]
    # Of most trials the ids would be a page; those of the others tell which they are.
    shown += [f"{name} ({_trials(kinds.loc[kinds['machine'] == name, 'trial'], total)})" for name in counts.index[1:]]
    sentences = [f"Machines, by the fingerprint that each trial recorded: {'; '.join(shown)}; all are in machines.csv."]
    files = frame[frame["imported"] != ""].groupby("imported", sort=False)["trial"]
    imported = [f"from a file with digest {str(digest)[:12]}: {_trials(trials, total)}" for digest, trials in files]
    if imported:
        sentences.append(f"Imported from another MLflow store, {'; '.join(imported)}.")
    return sentences


def _trials(ids: pd.Series, total: int) -> str:
    """How many of all trials, and their ids."""
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    return f"{len(ids)} of {plural(total, 'trial')}: {', '.join(ids.astype(str).head(LISTED))}{more}"


def trial_warning(warning: TrialWarning) -> str:
    """A warning of the trials, with how many trials give it."""
    more = " (numbers differ between trials)" if warning.varies else ""
    return f"{warning.trials} of {warning.of} trials warn: {warning.text}{more}"
