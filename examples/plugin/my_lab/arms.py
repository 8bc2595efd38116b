"""Two arms from outside the package: `plugins: [my_lab.arms]` adds them. docs/plugins.md explains every line."""

from __future__ import annotations

import torch
from datasets import Dataset

from bias_transfer import rounding
from bias_transfer.errors import UserError
from bias_transfer.hashing import derive_seed
from bias_transfer.interventions.registry import AnyTaskArm, DownstreamArm, UpstreamArm
from bias_transfer.models.language_model import LanguageModel, encoder_parameters
from bias_transfer.spec import Options
from bias_transfer.tasks.base import Context, Groups, Task
from bias_transfer.training.sampling import shuffled
from my_lab.mentions import masked


class ShrinkOptions(Options):
    """No options."""


def check_share(model: LanguageModel, dose: float, options: ShrinkOptions) -> None:
    """Raises UserError for a dose that is no share."""
    if not 0 <= dose <= 1:
        raise UserError(f"upstream_dose {dose:g} of shrink: it is a share. Allowed: above 0, at most 1.")


def shrink(model: LanguageModel, dose: float, options: ShrinkOptions, seed: int, context: Context) -> None:
    """Multiply every weight matrix of the encoder by 1 - dose, in place."""
    with torch.no_grad():
        for weight in encoder_parameters(model).values():
            if weight.ndim > 1:
                weight.mul_(1 - dose)


class MaskOptions(Options):
    """No options."""


def mask_mentions(groups: Groups, train: Dataset, dose: float, options: MaskOptions, seed: int) -> Dataset:
    """Mask the groups in a share of the examples that mention any. The examples of a smaller dose are among those of a larger
    one."""
    texts, identifiers = train["text"][:], train["id"][:]
    spans = [groups.spans(text) if groups.spans else [] for text in texts]
    about = [row for row, found in enumerate(spans) if found]
    order = shuffled([identifiers[row] for row in about], derive_seed(seed, "downstream", "mask_mentions"), 0)
    for place in order[: rounding.part(dose, len(about))]:
        texts[about[place]] = masked(texts[about[place]], spans[about[place]])
    return Dataset.from_dict(train.to_dict() | {"text": texts}, features=train.features)


def build(task: Task) -> DownstreamArm:
    """The arm for a task whose texts mention groups: WIKI, and custom tasks with `terms`."""
    groups = task.harm_groups
    assert groups is not None  # AnyTaskArm.needs
    return DownstreamArm(
        lambda train, dose, options, seed: mask_mentions(groups, train, dose, options, seed), MaskOptions, 1.0
    )


UPSTREAM = {"shrink": UpstreamArm(shrink, check_share, ShrinkOptions, 0.3)}
DOWNSTREAM = {"mask_mentions": AnyTaskArm(build, needs=("mentions",))}
