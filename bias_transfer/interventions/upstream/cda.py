"""CDA, counterfactual data augmentation (Zmigrod et al. 2019, Webster et al. 2020): continued pre-training on sentences with an
attribute word, as they are and with all such words swapped."""

from __future__ import annotations

from collections.abc import Sequence

from bias_transfer import rounding
from bias_transfer.errors import UserError
from bias_transfer.interventions.counterfactual import SWAPPED, counterfactual
from bias_transfer.interventions.upstream import corpus
from bias_transfer.interventions.upstream.attribute_words import Sides
from bias_transfer.interventions.upstream.further_training import FurtherTrainingOptions, train_on
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.tasks.base import Context
from bias_transfer.training.sampling import shuffled


class CdaOptions(FurtherTrainingOptions):
    """`upstream.NAME` for `upstream: cda`."""

    control: bool = False
    """Train equally long on as many sentences: in the place of each swapped sentence its original once more."""


def check(model: LanguageModel, dose: float, options: CdaOptions) -> None:
    """Raises UserError for a dose outside [0, 1]."""
    if not 0 <= dose <= 1:
        raise UserError(
            f"upstream_dose {dose:g} of cda: it is the share of sentences that also appear swapped. Allowed: above 0, at "
            "most 1."
        )


def apply(model: LanguageModel, dose: float, options: CdaOptions, seed: int, context: Context) -> None:
    """Train on the sentences and on swapped copies of a share of them, in place.

    The seed draws the share, of which a smaller dose has a part, the order and the masks. The control has the same draws.
    """
    if dose:
        originals = corpus.attributed(options, options.words, context)
        draw = options.stream("cda", seed)
        train_on(model, [*originals, *copies(originals, dose, options, draw)], options, draw)


def copies(originals: Sequence[str], dose: float, options: CdaOptions, draw: int) -> list[str]:
    """The swapped copies of a share `dose` of the sentences; for the control, those sentences themselves."""
    order = shuffled([str(number) for number in range(len(originals))], draw, 0)
    chosen = [originals[place] for place in order[: rounding.part(dose, len(originals))]]
    return chosen if options.control else swaps(chosen, SWAPPED[options.words])


def swaps(texts: Sequence[str], sets: Sequence[Sides]) -> list[str]:
    """Each text with its words for the attribute swapped. Of a triple every other text takes the word after next."""
    sides = len(sets[0])
    return [counterfactual(text, sets, 1 + number % (sides - 1)) for number, text in enumerate(texts)]


def record(model: LanguageModel, dose: float, options: CdaOptions, seed: int, context: Context) -> list[Measure]:
    """`swapped_share`, the share of the sentences trained on that are swapped copies: 0 for the control. n: sentences."""
    originals = corpus.attributed(options, options.words, context)
    copied = copies(originals, dose, options, options.stream("cda", seed))
    total = len(originals) + len(copied)
    return [Measure("upstream", "swapped_share", "", "", 0.0 if options.control else len(copied) / total, total)]
