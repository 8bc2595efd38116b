"""What a classifier without any pre-training reaches: TF-IDF and logistic regression."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bias_transfer import cache
from bias_transfer.metrics.utility import utility
from bias_transfer.spec import NUMERICS, Measure, Trial, UserError, digest
from bias_transfer.tasks.task import Splits


def tfidf(splits: Splits) -> list[Measure]:
    """Utility on the test set of logistic regression on words and pairs of words of the untreated training set."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # late: with SciPy it takes a second
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10, max_iter=1000)
    )
    model.fit(list(splits.train["text"]), list(splits.train["label"]))
    logits = np.log(model.predict_proba(list(splits.test["text"])))
    return utility(logits, np.array(splits.test["label"]))


ROC_AUC = "roc_auc.json"


def roc_auc(trial: Trial, load: Callable[[], Splits], folder: Path) -> tuple[float, int]:
    """ROC AUC of `tfidf` on a resolved trial's data, and its n; computed once for the same content, and kept in the cache
    `folder` where that can be written."""
    data = [trial.task_digest or trial.task, trial.data_digest, trial.options_of("data")]

    def computed() -> tuple[float, int]:
        return next((row.value, row.n) for row in tfidf(load()) if row.metric == "roc_auc")

    def make(target: Path) -> None:
        (target / ROC_AUC).write_text(json.dumps(computed()))

    try:
        kept = cache.entry(folder, "yardstick", digest([NUMERICS, version("scikit-learn"), *data]), make)
    except UserError:
        return computed()
    value, n = json.loads((kept / ROC_AUC).read_text())
    return value, n
