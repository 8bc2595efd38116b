"""Checks for leaks: could the words of the data sets alone cause what the controls attribute to pre-training?"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.validation.control_checks import Check, wiki
from bias_transfer.tasks.wiki import synthetic
from bias_transfer.tasks.wiki.identity_terms import mentioned


def leaks(rows: pd.DataFrame) -> list[Check]:
    """Train classifiers on bags of words, and on the term alone, with the same data sets."""
    unnamed = synthetic.generate(_options(wiki(rows, mention_share=0, upstream_spread=0.45)))
    named = sum(
        bool(mentioned(text)) for part in (unnamed.train, unnamed.dev, unnamed.test) for text in part["text"][:]
    )
    model, vectors = LogisticRegression(max_iter=1000), TfidfVectorizer()
    model.fit(vectors.fit_transform(unnamed.train["text"][:]), unnamed.train["label"][:])
    phrases = synthetic.own_phrases(_options(wiki(rows, mention_share=0, upstream_spread=0.45))).to_pandas()
    phrases["score"] = model.decision_function(vectors.transform(phrases["text"]))
    spread = float(phrases[phrases["term"] != ""].groupby("term")["score"].mean().std())
    checks = [
        Check("leak, positive", "no comment names a term", f"{named} comments do", named == 0),
        Check(
            "leak, bag of words", "equal mean scores of all terms' phrases",
            f"SD over terms: {spread:.1e} logits", spread < 1e-9,
        ),
    ]  # fmt: skip
    for z, expected in ((0.0, "at chance level"), (0.25, "above chance level")):
        auc, low, high = _term_alone(_options(wiki(rows, mention_share=0.4, upstream_spread=0.45, dataset_spread=z)))
        holds = low <= 0.5 <= high if z == 0 else low > 0.5
        result = f"ROC AUC {auc:.3f} [{low:.3f}, {high:.3f}]"
        checks.append(Check(f"leak, term alone, {'z planted' if z else 'no z'}", expected, result, holds))
    return checks


def _options(rows: pd.DataFrame) -> synthetic.SyntheticOptions:
    first = rows.iloc[0]
    options = {name: first.get(f"data.{name}") for name in synthetic.SyntheticOptions.model_fields}
    kinds = {name: type(entry.default) for name, entry in synthetic.SyntheticOptions.model_fields.items()}
    return synthetic.SyntheticOptions(
        **{name: kinds[name](value) for name, value in options.items() if pd.notna(value)}
    )


def _term_alone(options: synthetic.SyntheticOptions) -> tuple[float, float, float]:
    """ROC AUC, with DeLong's interval, when each comment's score is its term's toxic share in the training set."""
    made = synthetic.generate(options)
    train, rest = _named(made.train), pd.concat([_named(made.dev), _named(made.test)])
    share = train.groupby("term")["label"].mean()
    scores, labels = rest["term"].map(share), rest["label"]
    auc = float(roc_auc_score(labels, scores))
    half = 1.96 * _delong(scores.to_numpy(), labels.to_numpy())
    return auc, auc - half, auc + half


def _named(examples: Dataset) -> pd.DataFrame:
    terms = [next(iter(mentioned(text)), "") for text in examples["text"][:]]
    frame = pd.DataFrame({"term": terms, "label": examples["label"][:]})
    return frame[frame["term"] != ""]


def _delong(scores: np.ndarray, labels: np.ndarray) -> float:
    """Standard error of the ROC AUC (DeLong et al. 1988)."""
    above = (scores[labels == 1][:, None] > scores[labels == 0]) + 0.5 * (
        scores[labels == 1][:, None] == scores[labels == 0]
    )
    return math.sqrt(above.mean(axis=1).var(ddof=1) / above.shape[0] + above.mean(axis=0).var(ddof=1) / above.shape[1])
