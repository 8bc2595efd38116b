"""Classification performance of the fine-tuned classifier: accuracy, macro F1, ROC AUC."""

from __future__ import annotations

import math

import numpy as np

from bias_transfer.metrics.thresholds import margin
from bias_transfer.spec import Measure


def utility(logits: np.ndarray, labels: np.ndarray) -> list[Measure]:
    """Accuracy, macro F1 and ROC AUC (for more than two classes: one class against the rest, macro-averaged), in [0, 1].

    logits: (examples, classes); labels: (examples,). n: examples. ROC AUC is NaN with n = 0 where a class is missing.
    """
    from sklearn.metrics import accuracy_score, f1_score  # imported late: with SciPy it takes a second

    predicted, n = logits.argmax(axis=1), len(labels)
    values = {
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "roc_auc": _roc_auc(logits, labels),
    }
    return [Measure("utility", name, "", "", value, n if value == value else 0) for name, value in values.items()]


def _roc_auc(logits: np.ndarray, labels: np.ndarray) -> float:
    if len(np.unique(labels)) < logits.shape[1]:
        return math.nan
    from scipy.special import softmax
    from sklearn.metrics import roc_auc_score

    if logits.shape[1] == 2:
        return float(roc_auc_score(labels, margin(logits)))
    return float(roc_auc_score(labels, softmax(logits.astype(np.float64), axis=1), multi_class="ovr", average="macro"))
