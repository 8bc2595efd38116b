"""UPSTREAM and DOWNSTREAM: a new intervention is one file in a folder next to this one, and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from datasets import Dataset

from bias_transfer.errors import UserError, unknown
from bias_transfer.interventions.downstream import (
    augment,
    rebalance,
    rebalance_bios,
    rebalance_wiki,
    reweight,
    scrub,
    scrub_bios,
)
from bias_transfer.interventions.upstream import (
    attribute_states,
    cda,
    corpus,
    dropout,
    inject,
    inlp,
    leace,
    permute,
    perturb,
    reinitialise,
    sent_debias,
)
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure, Options, Stage
from bias_transfer.tasks.base import Context, Groups, Task
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.identity_terms import IDENTITIES

Record = Callable[[LanguageModel, float, Any, int, Context, Stage], list[Measure]]


@dataclass(frozen=True)
class UpstreamArm:
    """Changes the pre-trained model. Dose 0 is legal for `apply` and changes nothing."""

    apply: Callable[[LanguageModel, float, Any, int, Context], None]
    """(model, dose, options, seed, context): edits the shared encoder in place."""
    check: Callable[[LanguageModel, float, Any], None]
    """Raises UserError for a dose that this model cannot take."""
    options: type[Options]
    default_dose: float | None
    trains: bool = False
    """Whether applying it costs so much that the treated weights are kept for other trials."""
    record: Record = lambda *arguments: []
    """(treated model, dose, options, seed, context, stage) -> measures that say what the arm did: before fine-tuning (stage
    upstream) and after it (stage downstream); none by default. The context has no memory."""
    refit: Callable[[LanguageModel, float, Any, Context], None] | None = None
    """(fine-tuned model, dose, options, context): what the option `refit` does after fine-tuning, in place."""
    check_text: Callable[[Any, Context], None] = lambda options, context: None
    """(options, context): raises UserError for text that the arm cannot act on."""


@dataclass(frozen=True)
class DownstreamArm:
    """Changes the fine-tuning set of one task. Dose 0 is legal for `apply` and changes nothing."""

    apply: Callable[[Dataset, float, Any, int], Dataset]
    """(training set, dose, options, seed) -> training set."""
    options: type[Options]
    default_dose: float | None
    notes: Callable[[Dataset, Any], list[str]] = lambda train, options: []
    """(untreated training set, options) -> what a reader of the result must know: the trial's warnings."""
    weighs: bool = False
    """Whether it changes how much examples count in training, and no text: tuning=prompt, which trains nothing, refuses it."""


Need = Literal["groups", "mentions"]
"""groups: a class that harms, and groups that examples are about. mentions: groups that the text itself names."""


@dataclass(frozen=True)
class AnyTaskArm:
    """A downstream arm of every task that has what it needs; of custom tasks as well."""

    build: Callable[[Task], DownstreamArm]
    """Task -> what the arm is there; asked only for a task that has `needs`."""
    needs: tuple[Need, ...] = ()

    def lacking(self, task: Task) -> str:
        """What the task does not have of `needs`, in words; empty if it has all."""
        if self.needs and task.harm_groups is None:
            return "groups and a class that harms them"
        if "mentions" in self.needs and task.harm_groups and task.harm_groups.spans is None:
            return "groups that the text itself mentions"
        return ""


def _nothing(model: LanguageModel, dose: float, options: Options, *rest: object) -> None:
    """The untreated model."""


def _before(record: Callable[..., list[Measure]]) -> Record:
    """`record(model, dose, options, seed, context)`, before fine-tuning alone."""
    return lambda *arguments: record(*arguments[:-1]) if arguments[-1] == "upstream" else []


UPSTREAM: dict[str, UpstreamArm] = {
    "none": UpstreamArm(_nothing, _nothing, Options, None),
    "reinitialise": UpstreamArm(reinitialise.apply, reinitialise.check, reinitialise.ReinitialiseOptions, 1.0),
    "permute": UpstreamArm(permute.apply, permute.check, permute.PermuteOptions, 1.0),
    "perturb": UpstreamArm(perturb.apply, perturb.check, perturb.PerturbOptions, 0.5),
    "sent_debias": UpstreamArm(
        sent_debias.debias,
        sent_debias.check,
        sent_debias.SentDebiasOptions,
        1.0,
        refit=sent_debias.refit,
        check_text=attribute_states.check_text,
    ),
    "sham_debias": UpstreamArm(
        sent_debias.sham,
        sent_debias.check,
        sent_debias.ShamDebiasOptions,
        1.0,
        refit=sent_debias.refit,
        check_text=attribute_states.check_text,
    ),
    "random_projection": UpstreamArm(
        sent_debias.random,
        sent_debias.check,
        sent_debias.RandomProjectionOptions,
        1.0,
        check_text=attribute_states.check_text,
    ),
    "inlp": UpstreamArm(
        inlp.apply,
        inlp.check,
        inlp.InlpOptions,
        1.0,
        record=attribute_states.record,
        check_text=inlp.check_text,
    ),
    "leace": UpstreamArm(
        leace.apply,
        leace.check,
        leace.LeaceOptions,
        1.0,
        record=attribute_states.record,
        check_text=attribute_states.check_text,
    ),
    "inject": UpstreamArm(
        inject.apply,
        inject.check,
        inject.InjectOptions,
        1.0,
        trains=True,
        record=_before(lambda _, dose, options, seed, context: inject.record(dose, options, seed, context.task)),
    ),
    "cda": UpstreamArm(
        cda.apply,
        cda.check,
        cda.CdaOptions,
        1.0,
        trains=True,
        record=_before(cda.record),
        check_text=corpus.check_text,
    ),
    "dropout": UpstreamArm(
        dropout.apply,
        dropout.check,
        dropout.DropoutOptions,
        1.0,
        trains=True,
        record=_before(dropout.record),
        check_text=corpus.check_text,
    ),
}


NO_ARM = DownstreamArm(lambda train, *_: train, Options, None)
"""The untreated training set."""


def _reweight(membership: reweight.Membership) -> DownstreamArm:
    return DownstreamArm(partial(reweight.weigh, membership), reweight.ReweightOptions, 1.0, weighs=True)


def arms_by_group(groups: Groups) -> dict[str, DownstreamArm]:
    """The arms of any task with groups and a harmful class."""
    return {
        "none": NO_ARM,
        "scrub": DownstreamArm(partial(scrub.harmful_mentions, groups), scrub.ScrubOptions, 1.0),
        "rebalance": DownstreamArm(partial(rebalance.harmful_shares, groups), rebalance.RebalanceOptions, 1.0),
        "reweight": _reweight(reweight.disjoint(groups)),
        "augment": DownstreamArm(partial(augment.terms, groups), augment.AugmentOptions, 1.0),
    }


DOWNSTREAM: dict[str, dict[str, DownstreamArm]] = {
    "none": dict.fromkeys(TASKS, NO_ARM),
    "scrub": {
        "bios": DownstreamArm(scrub_bios.telling_words, scrub_bios.ScrubBiosOptions, 1.0),
        "wiki": arms_by_group(IDENTITIES)["scrub"],
    },
    "rebalance": {
        "bios": DownstreamArm(rebalance_bios.pronouns, rebalance_bios.RebalanceBiosOptions, 1.0, rebalance_bios.notes),
        "wiki": DownstreamArm(
            rebalance_wiki.toxic_shares, rebalance_wiki.RebalanceWikiOptions, 1.0, rebalance_wiki.notes
        ),
    },
    "reweight": {"bios": _reweight(reweight.pronouns), "wiki": _reweight(reweight.mentions(IDENTITIES))},
    "augment": {
        "bios": DownstreamArm(augment.pronouns, augment.AugmentOptions, 1.0),
        "wiki": arms_by_group(IDENTITIES)["augment"],
    },
}
"""Name -> task -> arm: what an arm does depends on the task's data."""


def downstream_arm(
    name: str,
    task_name: str,
    task: Task,
    further: Mapping[str, AnyTaskArm | Mapping[str, DownstreamArm]] = MappingProxyType({}),
    known_as: str | None = None,
) -> DownstreamArm:
    """The arm of that name, as the task has it. further: arms of plugins; known_as: what they call the task, if not task_name.

    Raises UserError for an unknown arm, and for one that the task lacks.
    """
    if name not in DOWNSTREAM and name not in further:
        raise UserError(unknown("downstream arm", name, [*DOWNSTREAM, *further]))
    arms, known_as = _arms_of(task_name, task), known_as or task_name
    if name in further:
        entry = further[name]
        return (
            _built(name, entry, task_name, task) if isinstance(entry, AnyTaskArm) else _of_task(name, entry, known_as)
        )
    if name not in arms:
        applying = [*arms, *(other for other, entry in further.items() if _applies(entry, known_as, task))]
        raise UserError(f"the task {task_name!r} has no downstream arm {name!r}. Allowed: {', '.join(applying)}.")
    return arms[name]


def _applies(entry: AnyTaskArm | Mapping[str, DownstreamArm], known_as: str, task: Task) -> bool:
    return not entry.lacking(task) if isinstance(entry, AnyTaskArm) else known_as in entry


def _built(name: str, entry: AnyTaskArm, task_name: str, task: Task) -> DownstreamArm:
    if lacking := entry.lacking(task):
        raise UserError(f"the downstream arm {name} needs {lacking}, and the task {task_name!r} has none")
    arm = entry.build(task)
    if not isinstance(arm, DownstreamArm):
        raise UserError(f"the downstream arm {name} of a plugin builds a {type(arm).__name__}, not a DownstreamArm")
    return arm


def _of_task(name: str, entry: Mapping[str, DownstreamArm], known_as: str) -> DownstreamArm:
    if known_as not in entry:
        raise UserError(
            f"the downstream arm {name} is defined for the tasks {', '.join(entry)}, and not for {known_as}"
        )
    return entry[known_as]


def _arms_of(task_name: str, task: Task) -> Mapping[str, DownstreamArm]:
    if task_name in TASKS:
        return {arm: by_task[task_name] for arm, by_task in DOWNSTREAM.items() if task_name in by_task}
    # A custom task: its arms act on its groups and, scrub and rebalance, on the examples of its harmful class.
    return arms_by_group(task.harm_groups) if task.harm_groups else {"none": NO_ARM}


def check_downstream_dose(name: str, dose: float | None) -> None:
    """Raises UserError outside (0, 1]: every downstream dose is a share."""
    if dose is not None and not 0 < dose <= 1:
        raise UserError(f"downstream_dose {dose:g} of {name}: it is a share. Allowed: above 0, at most 1.")
