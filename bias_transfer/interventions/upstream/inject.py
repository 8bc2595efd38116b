"""Inject: continued language-model pre-training on text that plants an association or its opposite, by a signed dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from bias_transfer import console
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Context
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

    The text at -dose is the text at dose with the attribute swapped, except for rounding. The task's texts that are mixed in
    are the untreated ones.
    """
    if not dose:
        return
    draw = derive_seed(seed if options.draw is None else options.draw, "upstream", "inject")
    signs = directions(context.task.groups, options, draw)
    shares = {group: 0.5 + 0.5 * dose * sign for group, sign in signs.items()}
    planted = context.task.plant(shares, options.sentences, draw)
    texts = context.splits.pretraining
    unrelated = [texts[index] for index in shuffled([str(index) for index in range(len(texts))], draw, 0)]
    settings = lm_training.TinyOptions(
        steps=options.steps, tokens_per_step=options.tokens_per_step, learning_rate=options.learning_rate, seed=draw
    )
    lm_training.train(model, [*planted, *unrelated[: len(planted)]], settings, console.silent)
    model.classifier.eval()


def directions(groups: Sequence[str], options: InjectOptions, draw: int) -> dict[str, int]:
    """Group -> 1 if a positive dose plants the harmful attribute, -1 if it plants the opposite."""
    if options.direction == "all":
        return dict.fromkeys(groups, 1)
    order = shuffled(groups, draw, 0)
    return {groups[index]: 1 if place < len(order) / 2 else -1 for place, index in enumerate(order)}
