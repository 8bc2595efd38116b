"""Models that a config declares to belong together: pre-training seeds of one architecture, and twins.

A checkpoint in a folder or on the hub does not say what it is a repetition of, so the plan of the analysis does
(`AnalysisPlan.pretraining_seeds`, `AnalysisPlan.twins`). `as_read` is the one place that acts on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from bias_transfer.errors import UserError, unknown
from bias_transfer.spec import AnalysisPlan, Trial

Models = TypeVar("Models", list[str], dict[str, str])

MODEL_SEED = "model.seed"
"""The option that names the pre-training seed of `tiny`. A declared checkpoint is read with its place in the list instead."""


def as_read(trials: Sequence[Trial], plan: AnalysisPlan) -> list[Trial]:
    """The trials as the analysis reads them, in their order; their ids are no longer those of what ran.

    A treated twin becomes the untreated model with an upstream arm, and a pre-training seed the declared name with a number
    as `model.seed`. Raises UserError for a declared model that is not what the plan takes it for (`_check_contents`).
    """
    _check_contents(trials, plan)
    contents = {trial.model: trial.model_digest for trial in trials}
    arms = {treated: (name, other) for name, twins in plan.twins.items() for treated, other in twins.items()}
    places = {
        model: (name, place) for name, models in plan.pretraining_seeds.items() for place, model in enumerate(models)
    }
    return [_with_seed(_with_arm(trial, arms, contents), places) for trial in trials]


def _with_arm(trial: Trial, arms: Mapping[str, tuple[str, str]], contents: Mapping[str, str]) -> Trial:
    name, untreated = arms.get(trial.model, ("", ""))
    if untreated not in contents:
        return trial
    if trial.upstream != "none":
        raise UserError(
            f"{trial.model!r} is declared a treated twin, which is an upstream arm itself, and has trials with the arm "
            f"{trial.upstream}. Analyse it as a study of its own."
        )
    return trial.model_copy(
        update={"upstream": name, "model": untreated, "model_digest": contents[untreated]}
    )  # a copy is not validated: the arm is in no table


def _with_seed(trial: Trial, places: Mapping[str, tuple[str, int]]) -> Trial:
    if trial.model not in places:
        return trial
    name, place = places[trial.model]
    return trial.model_copy(
        update={"model": name, "model_digest": name, "options": {**trial.options, MODEL_SEED: place}}
    )


def _check_contents(trials: Sequence[Trial], plan: AnalysisPlan) -> None:
    """Raises UserError for a declared model with two contents, and for two of a declaration with the same content."""
    contents: dict[str, set[str]] = {}
    for trial in trials:
        contents.setdefault(trial.model, set()).add(trial.model_digest)
    pairs = [pair for twins in plan.twins.values() for pair in twins.items()]
    for models in (*plan.pretraining_seeds.values(), *pairs):
        seen: dict[str, str] = {}
        for model in (model for model in models if model in contents):
            if len(contents[model]) > 1:
                raise UserError(
                    f"the plan declares {model!r}, which the trials have in {len(contents[model])} versions."
                )
            (content,) = contents[model]
            if content in seen:
                raise UserError(
                    f"the plan declares {seen[content]!r} and {model!r} to be two models, and they are the same weights."
                )
            seen[content] = model


def arm_of(trial: Trial, read: Trial, arm: str) -> str:
    """The name of a trial's arm: `arm`, as it was recorded, with the name of its twins in the place of `none`."""
    return arm if read.upstream == trial.upstream else f"{read.upstream} + {arm.partition(' + ')[2]}"


def check_known(given: AnalysisPlan, trials: Sequence[Trial]) -> None:
    """Raises UserError for a declared model that no trial has."""
    known = {trial.model for trial in trials}
    twins = [model for pairs in given.twins.values() for pair in pairs.items() for model in pair]
    for model in (*(model for models in given.pretraining_seeds.values() for model in models), *twins):
        if model not in known:
            raise UserError(unknown("model in --pretraining-seeds or --twins", model, known))


def merged(plans: Iterable[AnalysisPlan]) -> AnalysisPlan:
    """What several plans declare, and nothing else of them. Raises UserError if two declare one name differently."""
    stated = list(plans)
    return AnalysisPlan(
        pretraining_seeds=_joined(plan.pretraining_seeds for plan in stated),
        twins=_joined(plan.twins for plan in stated),
    )


def _joined(declarations: Iterable[Mapping[str, Models]]) -> dict[str, Models]:
    joined: dict[str, Models] = {}
    for declared in declarations:
        for name, models in declared.items():
            if joined.setdefault(name, models) != models:
                raise UserError(f"{name!r} is declared twice, with other models: give one of them another name.")
    return joined
