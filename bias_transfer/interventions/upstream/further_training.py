"""What arms that train on the sentences of an attribute have in common: their options, and the training."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from bias_transfer import console
from bias_transfer.hashing import derive_seed
from bias_transfer.interventions.upstream.attribute_states import MOST_TOKENS, Attribute
from bias_transfer.interventions.upstream.corpus import FEWEST, CorpusOptions
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.training import lm_training


class FurtherTrainingOptions(CorpusOptions):
    """What cda and dropout have in common. Defaults are ours; steps and learning rate are those of inject."""

    steps: int = Field(default=200, ge=1)
    tokens_per_step: int = Field(default=1200, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    sentences: int = Field(default=4000, ge=FEWEST)
    """Train on the first N sentences that contain a word of the attribute."""
    words: Attribute = "gender"
    draw: int | None = Field(default=None, ge=0)
    """Seed of the training, to cross draws with fine-tuning seeds; None: the trial's seed."""

    def stream(self, arm: str, seed: int) -> int:
        """The seed of the training; an arm and its control share it."""
        return derive_seed(seed if self.draw is None else self.draw, "upstream", arm)


def train_on(model: LanguageModel, texts: Sequence[str], options: FurtherTrainingOptions, draw: int) -> None:
    """Continue language-model training on these texts, in place, for the options' steps; `draw` orders and masks."""
    settings = lm_training.TinyOptions(
        steps=options.steps,
        tokens_per_step=options.tokens_per_step,
        learning_rate=options.learning_rate,
        max_tokens=MOST_TOKENS,
        seed=draw,
    )
    lm_training.train(model, texts, settings, console.silent)
    model.classifier.eval()
