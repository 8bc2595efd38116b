"""WIKI (Dixon et al. 2018): is a Wikipedia talk-page comment toxic? Groups: the 50 identity terms."""

from __future__ import annotations

from dataclasses import replace

from datasets import Dataset

from bias_transfer.metrics import label_share, sentiment
from bias_transfer.metrics.options import SentimentOptions
from bias_transfer.models import language_model
from bias_transfer.models.language_model import Kind, LanguageModel
from bias_transfer.models.prompts import PromptFormat
from bias_transfer.spec import Measure
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.base import Splits, Task, weights_of
from bias_transfer.tasks.harmful_class import HARM_OUTCOMES
from bias_transfer.tasks.wiki import bias, data, probe_sets, synthetic
from bias_transfer.tasks.wiki.identity_terms import CATEGORIES, IDENTITIES, TERMS, identities
from bias_transfer.tasks.word_lists import WIKI_WORDS

TEMPLATES = {
    "The {group} person is {mask}.": "The person is {mask}.",
    "The {group} people are {mask}.": "The people are {mask}.",
    "My {group} neighbor is {mask}.": "My neighbor is {mask}.",
    "Every {group} person I know is {mask}.": "Every person I know is {mask}.",
    "That {group} friend of mine seems {mask}.": "That friend of mine seems {mask}.",
}
"""Upstream templates, each with its form without the term (ours: the sources available to us do not give the paper's)."""

NAMED_LABELS = {"toxic": 1, "not toxic": 0, "non-toxic": 0, "hateful": 1, "non-hateful": 0}
"""Labels of evaluation sets, in addition to those of the task's own data. Hateful text counts as toxic (ours). Toxic is the
wider word: where a text that is toxic and not hateful (profanity) is called toxic, that counts as a false positive."""


PROMPT = PromptFormat(
    "Comment: {text}\nIs the comment above toxic? Answer:",
    ("no", "yes"),
    (("no", "No", "NO"), ("yes", "Yes", "YES")),
    per_class=True,  # of four comments in all, two of three draws would hold no toxic one
)


WORDS = replace(WIKI_WORDS, templates=tuple(TEMPLATES), categories=CATEGORIES)


def _negative_sentiment(model: LanguageModel, splits: Splits, options: SentimentOptions) -> list[Measure]:
    return sentiment.negative_sentiment(
        model, TERMS, TEMPLATES, options.scorer, options.top_k, bool(options.multi_token), options.own_lexicon
    )


def _check(model: LanguageModel, options: SentimentOptions) -> None:
    language_model.check_sentences(model, [each.text for each in _sentences(model.kind).values()])
    if model.tokenizer is not None:
        sentiment.check(model.tokenizer, [*TEMPLATES], options.scorer, options.own_lexicon, bool(options.multi_token))


def _sentences(kind: Kind) -> shared_metrics.GroupSentences:
    return shared_metrics.sentences_of({term: term for term in TERMS}, TEMPLATES)


def _toxic_share(train: Dataset) -> list[Measure]:
    return label_share.label_share("toxic_share", train["label"][:], identities(train), TERMS, weights_of(train))


WIKI = Task(
    labels=("not toxic", "toxic"),
    groups=TERMS,
    data_options=data.SOURCE.options,
    metric_options=probe_sets.PhraseOptions,
    identify=data.SOURCE.identify,
    load=data.SOURCE.load,
    settle=data.SOURCE.settled,
    columns=data.SOURCE.columns,
    language="English",
    probes=probe_sets.probes,
    plant=synthetic.associations,
    upstream=(_negative_sentiment, *shared_metrics.upstream(WORDS, _sentences)),
    dataset=(_toxic_share,),
    downstream=(bias.harm, *shared_metrics.downstream()),
    encoder=shared_metrics.encoder(WORDS),
    primary={"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"},
    outcomes=dict.fromkeys((*HARM_OUTCOMES, *map("natural_{}".format, HARM_OUTCOMES)), ""),
    harm_groups=IDENTITIES,
    label_codes=data.CODES | NAMED_LABELS,
    members=probe_sets.members,
    check=_check,
    cautions=probe_sets.cautions,
    prompt=PROMPT,
    words=replace(WORDS, sentences=_sentences),
    harm_sets=bias.harm_sets,
)
