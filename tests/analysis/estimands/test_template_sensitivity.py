"""Templates: a fit per template, the poster's regression and its faults, and the correction for template noise."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from analysis.estimands import slopes, template_sensitivity
from analysis.estimands.reliability import template_scores
from analysis.report import wording

NONE = ("none", None, "none", None)


def table_of(cells, offsets):
    """Upstream rows whose mean over templates is the cells' x. offsets: (groups, templates), rows sum to 0."""
    rows = []
    groups = sorted(cells["group"].unique())
    for own in cells.to_dict("records"):
        number = groups.index(own["group"])
        for template, offset in enumerate(offsets[number]):
            value = own["x"] + offset * own["x_scale"]
            rows.append(
                {**own, "stage": "upstream", "metric": "negative_sentiment", "template": f"t{template}", "value": value}
            )
    columns = ["study", "arm", "replicate", "seed", "group", "stage", "metric", "template", "value"]
    return pd.DataFrame(rows)[columns]


@pytest.fixture
def measured(make_cells):
    """(noise of a template, groups) -> cells in which y follows what templates measure, and their table."""

    def build(noise=0.8, groups=40, slope=0.3, number=0):
        draw = np.random.default_rng(number)
        views = noise * draw.normal(size=(groups, 4))
        cells = make_cells(
            [NONE], lambda *given: slope * given[1] + draw.normal(0, 0.05, groups), groups=groups, seeds=3
        )
        off = views.mean(axis=1)
        moved = cells.assign(x=cells["x"] + np.tile(off, 3) * cells["x_scale"])
        return moved, table_of(moved, views - off[:, None])

    return build


def test_each_template_is_fitted_alone_on_the_common_scale(measured):
    cells, table = measured()
    found = template_sensitivity.per_template(table, cells, 99).set_index("template")
    assert len(found) == 4
    by_template = template_scores(table, "negative_sentiment")
    means = slopes.group_means(cells).set_index("group")
    design = sm.add_constant(
        np.column_stack(
            [by_template["t1"].loc[means.index] / cells["x_scale"].iloc[0], means["z"] / cells["z_scale"].iloc[0]]
        )
    )
    assert found.loc["t1", "coefficient"] == pytest.approx(sm.OLS(means["y"].to_numpy(), design).fit().params[1])


def test_the_poster_replica_is_the_regression_with_template_dummies(measured):
    cells, table = measured()
    found = template_sensitivity.poster_replica(table, cells).set_index("term")
    means = slopes.group_means(cells).set_index("group")
    scores = template_scores(table, "negative_sentiment")
    long = scores.reset_index().melt(id_vars="group", var_name="template", value_name="x")
    dummies = pd.get_dummies(long["template"], dtype=float).to_numpy()
    x, z = long["x"] / cells["x_scale"].iloc[0], long["group"].map(means["z"]) / cells["z_scale"].iloc[0]
    oracle = sm.OLS(long["group"].map(means["y"]).to_numpy(), np.column_stack([x, z, dummies])).fit()
    assert found.loc["x", "coefficient"] == pytest.approx(oracle.params[0])
    assert found.loc["x", "standard_error"] == pytest.approx(oracle.bse[0])
    assert [found.loc["z", "low"], found.loc["z", "high"]] == pytest.approx(list(oracle.conf_int()[1]))
    assert found.loc["x", "n"] == 160
    told = wording.sentences("poster_replica", found.reset_index())
    assert all(text.startswith("Poster replica, not to be relied on") for text in told)
    honest = slopes.between(cells, 99).set_index("term").loc["x"]
    assert abs(found.loc["x", "coefficient"]) < abs(honest["coefficient"])
    assert found.loc["x", "standard_error"] < honest["standard_error"]


def test_the_correction_undoes_the_attenuation_by_template_noise(measured):
    """On 400 groups, the measured slope is .3/(1 + .8^2/4) and the corrected one .3."""
    cells, table = measured(groups=400)
    (own,) = template_sensitivity.corrected(table, cells).to_dict("records")
    naive = slopes.between(cells, 99).set_index("term").loc["x", "coefficient"]
    assert naive == pytest.approx(0.3 / 1.16, abs=0.02)
    assert own["coefficient"] == pytest.approx(0.3, abs=0.02)
    assert own["low"] < 0.3 < own["high"]


def test_without_noise_the_correction_is_the_plain_slope(measured):
    cells, table = measured(noise=0.0)
    (own,) = template_sensitivity.corrected(table, cells).to_dict("records")
    plain = slopes.between(cells, 99).set_index("term").loc["x"]
    assert own["coefficient"] == pytest.approx(plain["coefficient"])
    assert own["standard_error"] == pytest.approx(plain["standard_error"])


def test_the_jackknife_of_the_correction_refits():
    draw = np.random.default_rng(0)
    y, z, x = draw.normal(size=12), draw.normal(size=12), draw.normal(size=(12, 1)) + 0.5 * draw.normal(size=(12, 3))
    whole, error = template_sensitivity.errors_in_variables(y, z, x)
    left = [
        template_sensitivity.errors_in_variables(*(np.delete(one, n, axis=0) for one in (y, z, x)))[0]
        for n in range(12)
    ]
    assert error == pytest.approx(math.sqrt(11 / 12 * ((np.array(left) - whole) ** 2).sum()))


def test_unreliable_or_too_few_templates_are_named(measured, make_cells):
    cells, table = measured(noise=4.0)
    assert "too low to be corrected for" in template_sensitivity.corrected(table, cells).iloc[0]["reason"]
    single = table[table["template"] == "t0"]
    assert "1 templates" in template_sensitivity.corrected(single, cells).iloc[0]["reason"]
    assert template_sensitivity.poster_replica(single, cells)["reason"].eq("fewer than two templates").all()
    few_cells, few_table = measured(groups=9)
    assert template_sensitivity.per_template(few_table, few_cells, 99)["reason"].str.contains("fewer than 10").all()
