"""Inject: continued language-model pre-training on text that plants an association or its opposite, by a signed dose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from bias_transfer import console
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure, Options
from bias_transfer.tasks.base import Context, Task
from bias_transfer.training import lm_training
from bias_transfer.training.sampling import shuffled


class InjectOptions(Options):
    """`upstream.NAME` for `upstream: inject`. Defaults are ours."""

    steps: int = Field(default=200, ge=1)
    tokens_per_step: int = Field(default=1200, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    sentences: int = Field(default=4000, ge=100)
    """Sentences that carry the association. They are mixed with as many of the task's texts, so that the model forgets nothing
    else."""
    direction: Literal["drawn", "all"] = "drawn"
    """drawn: a positive dose pushes a random half of the groups up and the other half down; all: it pushes all groups up."""
    draw: int | None = Field(default=None, ge=0)
    """Seed of directions and text, to cross draws with fine-tuning seeds; None: the trial's seed."""


def check(model: LanguageModel, dose: float, options: InjectOptions) -> None:
    """Raises UserError for a dose outside [-1, 1]."""
    if not -1 <= dose <= 1:
        raise UserError(f"upstream_dose {dose:g} of inject is out of range. Allowed: -1 (counter) to 1 (plant).")


def apply(model: LanguageModel, dose: float, options: InjectOptions, seed: int, context: Context) -> None:
    """Train on sentences about the groups, of which a share of 1/2 + dose x direction / 2 has the harmful attribute.

    The text at -dose is the text at dose with the attribute swapped, except for rounding, and both are trained on for the same
    number of steps. The task's texts that are mixed in are the untreated ones.
    """
    if not dose:
        return
    draw = _draw(options, seed)
    shares = _shares(dose, directions(context.task.groups, options, draw))
    planted = context.task.plant(shares, options.sentences, draw)
    texts = context.splits.pretraining
    unrelated = [texts[index] for index in shuffled([str(index) for index in range(len(texts))], draw, 0)]
    settings = lm_training.TinyOptions(
        steps=options.steps, tokens_per_step=options.tokens_per_step, learning_rate=options.learning_rate, seed=draw
    )
    lm_training.train(model, [*planted, *unrelated[: len(planted)]], settings, console.silent)
    model.classifier.eval()


def record(dose: float, options: InjectOptions, seed: int, task: Task) -> list[Measure]:
    """Per group `injected_direction`, the way in which a *positive* dose pushes it: 1 towards the harmful attribute, or -1.

    It does not depend on the trial's own dose, so that opposite doses can be compared. n: sentences about the group that the
    swap of the attribute changes; a group without any was not pushed, and is missing.
    """
    draw = _draw(options, seed)
    signs = directions(task.groups, options, draw)
    shares = _shares(dose, signs)
    text = task.plant(shares, options.sentences, draw)
    rows = list[Measure]()
    for group, sign in signs.items():
        swapped = task.plant({**shares, group: 1 - shares[group]}, options.sentences, draw)
        n = sum(first != second for first, second in zip(text, swapped, strict=True))
        rows.append(Measure("upstream", "injected_direction", group, "", float(sign) if n else math.nan, n))
    return rows


def _draw(options: InjectOptions, seed: int) -> int:
    """The seed of directions and text."""
    return derive_seed(seed if options.draw is None else options.draw, "upstream", "inject")


def _shares(dose: float, signs: Mapping[str, int]) -> dict[str, float]:
    """Group -> the share of its sentences that have the harmful attribute."""
    return {group: 0.5 + 0.5 * dose * sign for group, sign in signs.items()}


def directions(groups: Sequence[str], options: InjectOptions, draw: int) -> dict[str, int]:
    """Group -> 1 if a positive dose plants the harmful attribute, -1 if it plants the opposite."""
    if options.direction == "all":
        return dict.fromkeys(groups, 1)
    order = shuffled(groups, draw, 0)
    return {groups[index]: 1 if place < len(order) / 2 else -1 for place, index in enumerate(order)}
