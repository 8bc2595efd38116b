"""What a classifier without any pre-training reaches: TF-IDF and logistic regression."""

from __future__ import annotations

import numpy as np

from bias_transfer.metrics.utility import utility
from bias_transfer.spec import Measure
from bias_transfer.tasks.task import Splits


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
