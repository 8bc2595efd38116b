"""What these data cannot support, in sentences that stand next to the findings, not in a footnote."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.data.cells import LEAST_FOR_LOGS, outcome_named
from analysis.estimands.caveats import Caveats, LeftOut, Names, PairedSeeds, StudyCaveats, Unreached, displacing
from analysis.estimands.pairing import MixedPairs
from analysis.estimands.reliability import RELIABLE
from analysis.report.wording import names_held, plural
from analysis.stats.power import POWER, detectable
from bias_transfer.spec import LEAST_PER_PRONOUN, TWINS

ABSENCE = (
    "'No transfer' cannot be claimed from an interval that includes 0: this takes an equivalence test against a margin stated "
    "beforehand, arms and displacements that do not contradict it, arms that moved upstream bias, and a positive control that "
    "passed."
)


def limitations(caveats: Caveats) -> list[str]:
    """All limitations of an experiment; what holds for several studies is said once."""
    studies_of: dict[str, list[str]] = {}
    for study in caveats.studies:
        for text in of_study(study):
            studies_of.setdefault(text, []).append(study.study)
    texts = [f"{_prefix(names, len(caveats.studies))}{text}" for text, names in studies_of.items()]
    return [*missing(caveats.missing), *texts, ABSENCE]


def _prefix(names: Sequence[str], studies: int) -> str:
    if studies == 1:
        return ""
    if len(names) == studies:
        return "All studies: "
    return f"{names[0]}: " if len(names) == 1 else f"{len(names)} of {studies} studies ({'; '.join(names)}): "


def missing(trials: Sequence[tuple[str, str]]) -> list[str]:
    """Unfinished trials, as (id, name)."""
    names = "; ".join(f"{trial_id} ({name})" for trial_id, name in trials)
    return [f"Trials of the sweep that have not finished, and are left out: {names}."] if names else []


def of_study(study: StudyCaveats) -> list[str]:
    """The limitations of one study."""
    return [
        *without_logs(study), *left_out(study.left_out), *names(study.names), *few_examples(study.few_examples, study.metric),
        *power(study.seeds, study.first_arm), *few_groups(study), *collinearity(study), *saturation(study),
        *reliability(study), *uninformed_model(study), *design(study.upstream_arms, study.seeds.drawn),
        *mixed(study.mixed), *unreached(study.unreached), *checkpoint(study.only_checkpoint),
    ]  # fmt: skip


def without_logs(study: StudyCaveats) -> list[str]:
    """Whether the outcome is missing because it is a logarithm."""
    if study.unlogged is None:
        return []
    n = f" (here {study.unlogged} at most)" if study.unlogged else ""
    return [
        f"{outcome_named(study.metric).unit} is missing in all groups: logarithms are given for {LEAST_FOR_LOGS} or more "
        f"examples of a group{n}. Read the logit gap, or, on WIKI, run the trials with more phrases (metric.phrases_per_term)."
    ]


def left_out(groups: LeftOut) -> list[str]:
    """The groups that regressions leave out, and why; and how few examples the others have."""
    if not groups.mentioned:
        return [
            "The fine-tuning set mentions no group: there is no dataset bias, and B and W regress on upstream bias alone."
        ]
    by_reason = {
        "the fine-tuning set never mentions": groups.never,
        f"the fine-tuning set mentions fewer than {groups.least} times": groups.rarely,
    }
    parts = [f"{len(names)} that {reason} ({', '.join(names)})" for reason, names in by_reason.items() if names]
    if not parts:
        return []
    if not groups.remaining:
        return [f"No group is left for regressions: {'; '.join(parts)}."]
    rest = (
        f"{plural(groups.remaining, 'group')} remain, half of them with at most {groups.median:.0f} examples in the arm with "
        f"the fewest."
    )
    return [f"Left out of regressions (B and W): {'; '.join(parts)}. {rest}"]


def few_examples(groups: Sequence[str], metric: str) -> list[str]:
    """The groups without an outcome, because the test set has too few of their examples."""
    if not groups:
        return []
    return [
        f"Left out of everything about {outcome_named(metric).name}: {plural(len(groups), 'group')} with fewer than "
        f"{LEAST_PER_PRONOUN} she/her or fewer than {LEAST_PER_PRONOUN} he/him biographies in the test set "
        f"({', '.join(groups)})."
    ]


def names(names: Names) -> list[str]:
    """The covariates of the groups' names that B does not hold fixed."""
    reasons = {
        "these runs did not record it": names.unrecorded,
        "this covariate follows from the others, or sets a single group apart": names.unidentified,
    }
    return [
        f"B does not hold the {names_held([name])} of the groups' names fixed: {reason}. What is associated with it may "
        "appear as a slope."
        for reason, of_reason in reasons.items()
        for name in of_reason
    ]


def power(seeds: PairedSeeds, first_arm: str) -> list[str]:
    """What the paired seeds can detect."""
    if not seeds.arms:
        return [f"There is a single arm ({first_arm}): no arm effect (A) and no displacement (W) can be estimated."]
    if seeds.fewest < 2:
        return [
            f"{plural(seeds.fewest, 'paired seed')}: no interval on an arm effect (A), and bias cannot be told from noise."
        ]
    units, name = (seeds.models, "models") if seeds.models > 1 else (seeds.fewest, "seeds")
    who = f"{units} models (pre-training seeds)" if seeds.models > 1 else f"{units} paired seeds"
    more = f" (10 {name}: {detectable(10):.1f} SD)" if units < 10 else ""
    several = f"; p_adjusted corrects for the {seeds.arms} arms (Holm)." if seeds.arms > 1 else "."
    return [
        f"{who} detect an arm effect (A) of {detectable(units):.1f} SD of the paired differences "
        f"or more at {POWER * 100:.0f} % power{more}; smaller ones are likely to be missed{several}"
    ]


def few_groups(study: StudyCaveats) -> list[str]:
    """Whether there are too few groups for CRV1."""
    if study.few_groups is None:
        return []
    groups, skewness = study.few_groups
    return [
        f"{groups} groups are few clusters (skewness of x {skewness:+.1f}): intervals of B and W come from a wild cluster "
        f"bootstrap, and the CRV1 intervals next to them are too short (docs/statistics.md)."
    ]


def collinearity(study: StudyCaveats) -> list[str]:
    """The correlation of x and z between groups."""
    if study.collinearity is None:
        return []
    correlation, inflation = study.collinearity
    return [
        f"Over groups, x and z correlate at {correlation:+.2f} (variance inflation {inflation:.1f}) and share causes: B is an "
        f"association, not an effect."
    ]


def saturation(study: StudyCaveats) -> list[str]:
    """Arms with trials whose rates are at the floor or the ceiling in all groups."""
    metric = outcome_named(study.metric).label
    return [
        f"Saturated: in {row.saturated} of {row.trials} trials of {row.arm} the {metric} of all groups is between "
        f"{row.lowest:.3f} and {row.highest:.3f}, which carries no information on differences between them; use the logit gap."
        for row in study.saturated.itertuples()
    ]


def reliability(study: StudyCaveats) -> list[str]:
    """Whether templates agree on which groups score high."""
    alpha, templates = study.reliability
    if alpha >= RELIABLE:
        return []
    if not alpha < RELIABLE:
        return ["The reliability of x is unknown: it takes two templates or more, measured on the untouched model."]
    return [
        f"The reliability of x over {templates} templates is {alpha:.2f} (Cronbach's alpha; below {RELIABLE}): templates "
        f"disagree on the groups, and noise in x pulls its slope towards 0."
    ]


def uninformed_model(study: StudyCaveats) -> list[str]:
    """Whether the untouched model predicts masked words no better than word frequencies do."""
    if study.losses is None:
        return []
    loss, unigram = study.losses
    return [
        f"The untouched model's held-out masked-LM loss ({loss:.2f} nats) is not clearly below that of word frequencies alone "
        f"({unigram:.2f}): its upstream scores are noise."
    ]


def mixed(arms: Sequence[MixedPairs]) -> list[str]:
    """Arms whose pairs differ in more than the arm."""
    parts = [
        f"{arm.arm} ({plural(arm.of, 'pair')}: {arm.machines} on two machines, {arm.versions} with two sets of package "
        f"versions)"
        for arm in arms
    ]
    if not parts:
        return []
    return [
        f"Some pairs of an arm and the untouched one differ in more than the arm, since they ran on machines with different "
        f"fingerprints or with different versions of packages: {'; '.join(parts)}. Their differences hold the noise of two "
        f"trainings, as between seeds; delete the runs of one side in MLflow and start the sweep again."
    ]


def checkpoint(name: str) -> list[str]:
    """What a single pre-trained checkpoint cannot support. name: empty where there are several."""
    if not name:
        return []
    return [
        f"One checkpoint ({name}) does not justify a claim about pre-training as such: B shows what is associated with "
        "what this model has, and is never evidence of why it has it, and intervals over its fine-tuning seeds hold for this "
        "checkpoint alone."
    ]


def unreached(arms: Sequence[Unreached]) -> list[str]:
    """Arms that did not reach the prompt, which holds a few examples of the training set that they act on."""
    return [
        f"{arm.arm} did not reach the prompt in {arm.trials} of {plural(arm.of, 'trial')}: it left the examples that stand "
        f"in the prompt as they were, so these trials show nothing of its downstream part."
        for arm in arms
    ]


def design(upstream_arms: Sequence[str], drawn: bool = False) -> list[str]:
    """What the choice of arms cannot distinguish."""
    if not upstream_arms:
        return []
    arms = displacing(upstream_arms)
    twins = [name for name in upstream_arms if name.endswith(TWINS)]
    pairs = [
        f"The treatment of {name} was given once per pair of checkpoints, in pre-training: fine-tuning seeds do not repeat it, "
        "and the two may differ in more than what it is named for."
        for name in twins
    ]
    causal = f"W is causal only if {', '.join(arms)} and the downstream arms reach the outcome through x and z alone."
    noise = (
        "Where draws of an arm are crossed with seeds, both are counted; elsewhere a seed is one draw of an intervention and "
        "one fine-tuning run at once."
        if drawn
        else "A seed is one draw of an intervention and one fine-tuning run at once: their noise cannot be separated."
    )
    return [*([causal] if arms else []), *pairs, *([noise] if len(twins) < len(upstream_arms) else [])]
