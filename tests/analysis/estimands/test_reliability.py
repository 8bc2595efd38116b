"""Reliability of a mean over templates."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.estimands.reliability import reliability, template_scores


def test_alpha_is_that_of_spearman_and_brown_for_templates_of_equal_spread():
    draw = np.random.default_rng(0)
    truth = draw.normal(0, 1, (4000, 1))
    noisy = pd.DataFrame(truth + draw.normal(0, 1, (4000, 5)))
    assert reliability(noisy) == pytest.approx(5 / 6, abs=0.02)  # r = 1/2
    assert reliability(pd.DataFrame(draw.normal(0, 1, (4000, 5)))) == pytest.approx(0.0, abs=0.1)
    assert math.isnan(reliability(noisy[[0]]))
    assert math.isnan(reliability(noisy.head(1)))
    assert math.isnan(reliability(0 * noisy))


def test_scores_are_means_over_seeds_of_the_untouched_arm_without_the_pooled_score():
    columns = ["stage", "metric", "arm", "group", "template", "seed", "value"]
    rows = [("upstream", "m", "none + none", "a", "t", seed, float(seed)) for seed in (0, 1)]
    rows += [("upstream", "m", "perturb + none", "a", "t", 0, 9.0), ("upstream", "m", "none + none", "a", "", 0, 9.0)]
    table = pd.DataFrame(rows, columns=columns)
    assert template_scores(table.assign(replicate=0), "m").to_dict() == {"t": {"a": 0.5}}
    more = pd.concat([table.assign(replicate=0), table[:1].assign(replicate=1, value=2.5)])
    assert template_scores(more, "m").to_dict() == {"t": {"a": 1.5}}  # models weigh the same
