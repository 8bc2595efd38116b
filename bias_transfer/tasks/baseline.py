"""The baseline without any pre-training, TF-IDF and logistic regression: what the data alone allow a classifier to reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bias_transfer.metrics.utility import utility
from bias_transfer.spec import Measure, Trial
from bias_transfer.storage.fingerprint import machine
from bias_transfer.storage.formats import MEASURES
from bias_transfer.storage.memoize import memoized
from bias_transfer.tasks.base import Splits


def tfidf(splits: Splits) -> list[Measure]:
    """Utility on the test set of a logistic regression on words and word pairs, fitted on the untreated training set."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # imported late: with SciPy it takes a second
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10, max_iter=1000)
    )
    model.fit(splits.train["text"][:], splits.train["label"][:])
    logits = np.log(model.predict_proba(splits.test["text"][:]))
    return utility(logits, np.array(splits.test["label"][:]))


def roc_auc(trial: Trial, load: Callable[[], Splits], folder: Path) -> tuple[float, int]:
    """(ROC AUC of `tfidf` on a resolved trial's data, its n). Computed once for the same content; cached in `folder` if that is
    writable."""
    plugins = [trial.plugins_digest] if trial.plugins_digest else []  # one of them may be the task's
    data = [trial.task_digest or trial.task, trial.data_digest, trial.options_of("data"), *plugins]
    rows = memoized(folder, MEASURES, {**machine("cpu", 1), "data": data}, lambda: tfidf(load()))
    return next((row.value, row.n) for row in rows if row.metric == "roc_auc")
