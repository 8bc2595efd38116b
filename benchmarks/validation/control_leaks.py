"""Could words alone do what the controls ascribe to pre-training?"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from benchmarks.validation.control_checks import Check
from benchmarks.validation.control_checks import wiki
from bias_transfer.tasks.wiki import synthetic
from bias_transfer.tasks.wiki.identity_terms import mentioned


def leaks(rows: pd.DataFrame) -> list[Check]:
    """Could words alone do it? Classifiers on bags of words and on the term alone, trained on the same sets."""
    none = synthetic.generate(_options(wiki(rows, mention_share=0, upstream_spread=0.45)))
    named = sum(bool(mentioned(text)) for part in (none.train, none.dev, none.test) for text in part["text"][:])
    model, vectors = LogisticRegression(max_iter=1000), TfidfVectorizer()
    model.fit(vectors.fit_transform(none.train["text"][:]), none.train["label"][:])
    phrases = synthetic.own_phrases(_options(wiki(rows, mention_share=0, upstream_spread=0.45))).to_pandas()
    phrases["score"] = model.decision_function(vectors.transform(phrases["text"]))
    spread = float(phrases[phrases["term"] != ""].groupby("term")["score"].mean().std())
    checks = [
        Check("leak, positive", "no comment names a term", f"{named} do", named == 0),
        Check(
            "leak, bag of words", "the same mean score for every term's phrases",
            f"SD over terms {spread:.1e} logits", spread < 1e-9,
        ),
    ]  # fmt: skip
    for z, expected in ((0.0, "at chance"), (0.25, "above chance")):
        auc, low, high = _term_alone(_options(wiki(rows, mention_share=0.4, upstream_spread=0.45, dataset_spread=z)))
        held = low <= 0.5 <= high if z == 0 else low > 0.5
        told = f"ROC AUC {auc:.3f} [{low:.3f}, {high:.3f}]"
        checks.append(Check(f"leak, term alone, {'z planted' if z else 'no z'}", expected, told, held))
    return checks


def _options(rows: pd.DataFrame) -> synthetic.SyntheticOptions:
    first = rows.iloc[0]
    own = {name: first.get(f"data.{name}") for name in synthetic.SyntheticOptions.model_fields}
    kinds = {name: type(entry.default) for name, entry in synthetic.SyntheticOptions.model_fields.items()}
    return synthetic.SyntheticOptions(**{name: kinds[name](value) for name, value in own.items() if pd.notna(value)})


def _term_alone(options: synthetic.SyntheticOptions) -> tuple[float, float, float]:
    """ROC AUC on dev and test of each term's toxic share in the training set, with DeLong's interval."""
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
    """Standard error of the AUC (DeLong et al. 1988)."""
    above = (scores[labels == 1][:, None] > scores[labels == 0]) + 0.5 * (
        scores[labels == 1][:, None] == scores[labels == 0]
    )
    return math.sqrt(above.mean(axis=1).var(ddof=1) / above.shape[0] + above.mean(axis=0).var(ddof=1) / above.shape[1])
