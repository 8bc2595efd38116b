"""How strongly a language model prefers the words of one list to those of another next to a group.

Modelled on pronoun ranking (Kurita et al. 2019): the preference in the template without the group is subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure


def word_comparison(
    model: LanguageModel,
    groups: Mapping[str, str],
    templates: Mapping[str, str],
    first: Sequence[str],
    second: Sequence[str],
) -> list[Measure]:
    """ln[p(first | g, t) / p(second | g, t)] for each group and template, minus the same for the template without the group.

    groups: name -> its words in the template; templates: with {group} and {mask} -> the same without {group}; first, second:
    lists of words, whose probability is the sum over their words in the slot. Three metrics, in nats: word_logit with the
    group, word_prior without it, and word_score, their difference: above 0 the group raises the preference for the first list.
    n: words of both lists. Raises UserError for words that the model cannot compare: a masked one needs words of one token.
    """
    priors = model.head.log_odds([*templates.values()], first, second)
    keys = [(group, template) for template in templates for group in groups]
    texts = [template.replace("{group}", groups[group]) for group, template in keys]
    logits, prior = model.head.log_odds(texts, first, second), dict(zip(templates, priors, strict=True))
    n = len(first) + len(second)
    return [
        row
        for (group, template), logit in zip(keys, logits, strict=True)
        for row in _measures(group, template, float(logit), float(prior[template]), n)
    ]


def check(
    model: LanguageModel,
    groups: Mapping[str, str],
    templates: Mapping[str, str],
    first: Sequence[str],
    second: Sequence[str],
) -> None:
    """Raises the UserError that `word_comparison` would raise, without running the model."""
    for template, without in templates.items():
        texts = (without, *(template.replace("{group}", words) for words in groups.values()))
        model.head.check_words(texts, (*first, *second))


def _measures(group: str, template: str, logit: float, prior: float, n: int) -> Iterator[Measure]:
    values = {"word_score": logit - prior, "word_logit": logit, "word_prior": prior}
    for metric, value in values.items():
        yield Measure("upstream", metric, group, template, value, n)
