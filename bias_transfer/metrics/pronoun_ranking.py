"""Pronoun ranking (Kurita et al. 2019): how strongly a language model prefers "she" to "he" next to an occupation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bias_transfer.models.language_model import LanguageModel
from bias_transfer.models.lm_head import SLOT, NamedSentence
from bias_transfer.spec import Measure

PAIR = ("she", "he")


def pronoun_ranking(
    model: LanguageModel, occupations: Mapping[str, tuple[str, str]], templates: Sequence[str], name: str = "pronoun"
) -> list[Measure]:
    """s(o, t) = ln[p(she | o, t) / p(she | prior)] - ln[p(he | o, t) / p(he | prior)] for each occupation and template
    (Kurita et al. 2019, section 2). Above 0, the occupation raises the model's preference for "she".

    occupations: group -> (article, surface form); templates: with {pronoun}, {occupation} and, where one belongs, {article}.
    Three metrics, in nats: NAME_logit = ln p(she | o, t) - ln p(he | o, t), NAME_prior, the same without the occupation
    (`LMHead.prior_log_odds`), and NAME_score, their difference. n: the two pronouns. Raises UserError where the model cannot
    compare the pronouns.
    """
    keys = [(group, template) for template in templates for group in occupations]
    she, he = ((word,) for word in PAIR)
    sentences = [sentence(template, *occupations[group]) for group, template in keys]
    logits = model.head.log_odds([each.text for each in sentences], she, he)
    priors = model.head.prior_log_odds(sentences, she, he)
    values = zip(keys, logits, priors, strict=True)
    return [row for key, logit, prior in values for row in _measures(name, *key, float(logit), float(prior))]


def sentence(template: str, article: str, occupation: str) -> NamedSentence:
    """The template about the occupation, with a slot for the pronoun."""
    about = template.format(pronoun=SLOT, article=article, occupation="{name}")
    return NamedSentence(about, occupation, template.format(pronoun=SLOT, article="a", occupation="person"))


def check(model: LanguageModel, occupations: Mapping[str, tuple[str, str]], templates: Sequence[str]) -> None:
    """Raises the UserError that `pronoun_ranking` would raise, without running the model."""
    filled = [sentence(template, *named) for template in templates for named in occupations.values()]
    model.head.check_words([each.text for each in filled], PAIR)


def _measures(name: str, group: str, template: str, logit: float, prior: float) -> Iterator[Measure]:
    values = {f"{name}_score": logit - prior, f"{name}_logit": logit, f"{name}_prior": prior}
    for metric, value in values.items():
        yield Measure("upstream", metric, group, template, value, len(PAIR))
