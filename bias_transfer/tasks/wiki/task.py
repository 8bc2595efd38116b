"""WIKI (Dixon et al. 2018): is a Wikipedia talk-page comment toxic? Groups: the 50 identity terms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from datasets import Dataset

from bias_transfer.metrics import label_share
from bias_transfer.metrics import mask_filling
from bias_transfer.metrics import sentiment
from bias_transfer.metrics.options import SentimentOptions
from bias_transfer.metrics.utility import utility
from bias_transfer.models.language_model import LanguageModel
from bias_transfer.spec import Measure
from bias_transfer.tasks.wiki import synthetic
from bias_transfer.tasks.wiki import data
from bias_transfer.tasks.wiki import bias
from bias_transfer.tasks.wiki import probe_sets
from bias_transfer.tasks.optional_metrics import encoder_extras
from bias_transfer.tasks.optional_metrics import upstream_extras
from bias_transfer.tasks.wiki.identity_terms import IDENTITIES
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.base import Task
from bias_transfer.tasks.wiki.identity_terms import TERMS
from bias_transfer.tasks.wiki.identity_terms import mentioned
from bias_transfer.tasks.word_lists import WIKI_WORDS

TEMPLATES = {
    "The {group} person is {mask}.": "The person is {mask}.",
    "The {group} people are {mask}.": "The people are {mask}.",
    "My {group} neighbor is {mask}.": "My neighbor is {mask}.",
    "Every {group} person I know is {mask}.": "Every person I know is {mask}.",
    "That {group} friend of mine seems {mask}.": "That friend of mine seems {mask}.",
}
"""Upstream templates, each with its form without the term (ours: the sources at hand do not give the paper's)."""


def _negative_sentiment(model: LanguageModel, splits: Splits, options: SentimentOptions) -> list[Measure]:
    return sentiment.negative_sentiment(model, TERMS, TEMPLATES, options.scorer, options.top_k)


def _masked_lm_loss(model: LanguageModel, splits: Splits, options: SentimentOptions) -> list[Measure]:
    return mask_filling.masked_lm_loss(model, splits.heldout, splits.pretraining)


def _toxic_share(train: Dataset) -> list[Measure]:
    return label_share.label_share("toxic_share", train["label"][:], [mentioned(text) for text in train["text"][:]], TERMS)


def _utility(predicted: Mapping[str, Predicted]) -> list[Measure]:
    test = predicted["test"]
    return utility(test.logits, np.array(test.examples["label"][:]))


WIKI = Task(
    labels=("not toxic", "toxic"),
    groups=TERMS,
    data_options=data.data_options,
    metric_options=SentimentOptions,
    identify=data.identify,
    load=data.load,
    probes=probe_sets.probes,
    plant=synthetic.associations,
    upstream=(_negative_sentiment, _masked_lm_loss, *upstream_extras(WIKI_WORDS)),
    dataset=(_toxic_share,),
    downstream=(bias.harm, _utility),
    encoder=encoder_extras(WIKI_WORDS),
    primary={"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"},
    by_group=IDENTITIES,
)
