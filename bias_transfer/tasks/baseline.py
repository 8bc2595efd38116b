"""What a classifier without any pre-training reaches: TF-IDF and logistic regression."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bias_transfer.storage import memoize
from bias_transfer.storage.fingerprint import machine
from bias_transfer.metrics.utility import utility
from bias_transfer.spec import Measure
from bias_transfer.spec import Trial
from bias_transfer.tasks.base import Splits


def tfidf(splits: Splits) -> list[Measure]:
    """Utility on the test set of logistic regression on words and pairs of words of the untreated training set."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # late: with SciPy it takes a second
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10, max_iter=1000)
    )
    model.fit(splits.train["text"][:], splits.train["label"][:])
    logits = np.log(model.predict_proba(splits.test["text"][:]))
    return utility(logits, np.array(splits.test["label"][:]))


def roc_auc(trial: Trial, load: Callable[[], Splits], folder: Path) -> tuple[float, int]:
    """ROC AUC of `tfidf` on a resolved trial's data, and its n; computed once for the same content, and kept in the cache
    `folder` where that can be written."""
    data = [trial.task_digest or trial.task, trial.data_digest, trial.options_of("data")]
    rows = memoize.remembered(folder, memoize.MEASURES, {**machine("cpu", 1), "data": data}, lambda: tfidf(load()))
    return next((row.value, row.n) for row in rows if row.metric == "roc_auc")
