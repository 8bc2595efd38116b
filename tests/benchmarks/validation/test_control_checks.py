"""The checks of the controls on simulated tables: each holds exactly if it should."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.validation import control_checks, control_leaks
from benchmarks.validation.control_checks import crossed, manipulation, positive, slope
from benchmarks.validation.control_figure import figure
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions

GROUPS = [f"g{number}" for number in range(50)]
ORDER = np.linspace(-1, 1, 50)
RANDOM = np.random.default_rng(0)
OTHER = RANDOM.permutation(ORDER)
OTHER = OTHER - ORDER * (OTHER @ ORDER) / (ORDER @ ORDER)


def trial(name: str, task: str = "wiki", upstream: str = "none", noise: float = 0.05, **options: float) -> pd.DataFrame:
    """One trial whose bias is 0.3 per unit of the bias planted upstream, and 1 per unit of that planted in the data."""
    set_ = {
        "order": 0,
        "correlation": 0.0,
        "upstream_spread": 0.45,
        "dataset_spread": 0.0,
        "mention_share": 0.0,
    } | options
    x = OTHER if set_["order"] else ORDER
    z = 0.6 * x + 0.8 * OTHER if set_["correlation"] else OTHER
    left = 0.0 if upstream == "reinitialise" else set_["upstream_spread"] / 0.45
    bias = 0.3 * left * x + 4 * set_["dataset_spread"] * z + noise * RANDOM.standard_normal(50)
    frame = pd.DataFrame({
        "trial": name, "group": GROUPS, "task": task, "upstream": upstream, "seed": 0, "model.seed": 0, "planted_direction": x,
        "planted_share": 0.5 + set_["upstream_spread"] * x, "planted_toxic_direction": z, "logit_gap": bias,
        "negative_sentiment": left * x + noise * RANDOM.standard_normal(50), "log_fpr": bias - 1.5, "fpr": 0.3, "roc_auc": 0.9,
        "toxic_share": 0.3, "planted_toxic_share": 0.31, "toxic_share_n": 12,
        **{f"data.{key}": value for key, value in set_.items()},
    })  # fmt: skip
    if task == "bios":
        frame = frame.assign(pronoun_score=frame["planted_share"], she_share=0.5, planted_she_share=0.5, she_share_n=10)
        frame = frame.drop(columns=["toxic_share"])
    return frame


@pytest.fixture
def rows() -> pd.DataFrame:
    spreads = [trial(f"dose {spread}", upstream_spread=spread) for spread in (0.0, 0.225, 0.45)]
    square = [
        trial(f"{x} {z}", upstream_spread=x, dataset_spread=z, mention_share=0.4)
        for x in (0.0, 0.45)
        for z in (0.0, 0.25)
    ]
    correlated = trial("both", dataset_spread=0.25, mention_share=0.4, correlation=0.6)
    others = [trial("moved", order=1), trial("fresh", upstream="reinitialise"), correlated, trial("bios", task="bios")]
    return pd.concat([*spreads, *square, *others], ignore_index=True)


def verdicts(checks) -> dict[str, bool]:
    return {check.control: bool(check.holds) for check in checks}


def test_all_controls_hold_if_bias_follows_the_planted_bias(rows):
    holding = verdicts([*manipulation(rows), *crossed(rows), *positive(rows)])
    assert len(holding) == 4 + 5 + 7
    # of 20 intervals that should contain 0, one may not, because the noise is random
    assert [name for name, holds in holding.items() if not holds] in ([], ["2 x 2: no x, no z"])


@pytest.mark.parametrize(
    ("broken", "control"),
    [
        ({"logit_gap": 0.0}, "positive, logits"),
        ({"fpr": 0.99}, "positive, dose 1: not saturated, useful"),
        ({"roc_auc": 0.6}, "positive, dose 1: not saturated, useful"),
        ({"toxic_share": 0.4}, "manipulation, WIKI data set"),
    ],
)
def test_a_broken_control_does_not_hold(rows, broken, control):
    noisy = rows.assign(**{name: value + 1e-3 * RANDOM.standard_normal(len(rows)) for name, value in broken.items()})
    assert not verdicts([*manipulation(noisy), *positive(noisy)])[control]


def test_planted_bias_that_is_not_measured_is_reported(rows):
    shuffled = rows.assign(negative_sentiment=RANDOM.standard_normal(len(rows)))
    assert not verdicts(manipulation(shuffled))["manipulation, WIKI upstream"]


def test_slopes_are_fitted_to_means_over_seeds():
    one = trial("a", noise=0.0)
    two = one.assign(logit_gap=one["logit_gap"] + np.where(ORDER > 0, 0.1, -0.1), seed=1)
    expected = np.polyfit(ORDER, one["logit_gap"] + np.where(ORDER > 0, 0.05, -0.05), 1)[0]
    fitted = slope(pd.concat([one, two]), "logit_gap")
    assert fitted.value == pytest.approx(expected)
    assert fitted.n == 50
    assert fitted.low < fitted.value < fitted.high


def test_the_figure_can_be_drawn(rows):
    assert len(figure(rows, None).axes) == 4


def test_a_term_alone_predicts_the_label_only_if_bias_is_planted():
    options = SyntheticOptions(size=1500, mention_share=0.4, toxic_share=0.3, pretraining_sentences=300)
    _, low, high = control_leaks._term_alone(options.model_copy(update={"dataset_spread": 0.0}))
    assert low <= 0.5 <= high
    assert control_leaks._term_alone(options)[1] > 0.5


def test_delongs_standard_error_is_close_to_the_bootstraps():
    scores, labels = RANDOM.standard_normal(300), np.repeat([0, 1], 150)
    scores = scores + labels
    draws = []
    for _ in range(300):
        chosen = np.concatenate([RANDOM.choice(np.flatnonzero(labels == label), 150) for label in (0, 1)])
        score, label = scores[chosen], labels[chosen]
        draws.append((score[label == 1][:, None] > score[label == 0]).mean())
    assert control_leaks._delong(scores, labels) == pytest.approx(np.std(draws), rel=0.15)


def test_the_criteria_are_as_stated():
    assert (control_checks.MEASURED_BACK, control_checks.RATES, control_checks.MARGIN) == (0.9, (0.1, 0.6), 0.1)
