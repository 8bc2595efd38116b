"""Kept predictions: fairlearn's MetricFrame makes of them the rates that the trial reports."""

from __future__ import annotations

import dataclasses
from io import BytesIO

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from datasets import Dataset

from bias_transfer.memory import load_splits
from bias_transfer.pipeline import predicted_sets, run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks import predictions
from bias_transfer.tasks.base import Predicted
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.probe_sets import probes

SMALL = {
    "data.size": 200, "data.toxic_share": 0.5, "data.pretraining_sentences": 300, "model.steps": 4, "model.width": 16,
    "model.layers": 1, "model.vocabulary": 1200, "epochs": 3, "max_tokens": 16, "learning_rate": 0.01,
}  # fmt: skip

CASES = "text,label,who,kind\n" + "\n".join(
    f"{word} people are {what},{label},{who if number else ''},{kind}"
    for number, word in enumerate(("All", "Some", "Those", "My", "Our", "Most"))
    for what, label, kind in (("kind", 0, "praise"), ("a cruel idiot and a liar", 1, "insult"), ("here", 0, "neutral"))
    for who in ("a;b", "b", "c")
)


def frame(content: bytes) -> pd.DataFrame:
    return pd.read_parquet(BytesIO(content))


def by_fairlearn(metric, rows: pd.DataFrame, column: str = "groups") -> dict[str, float]:
    from fairlearn.metrics import MetricFrame

    # Its groups are disjoint, so an example of two groups becomes two rows.
    rows = rows.explode(column).dropna(subset=[column])
    rows = rows[rows[column] != ""]
    of = MetricFrame(
        metrics=metric, y_true=rows["label"], y_pred=rows["prediction"], sensitive_features=rows[column].astype(str)
    )
    return of.by_group.to_dict()


def ours(result, metric: str, template: str = "") -> dict[str, float]:
    rows = [row for row in result.measures if row.metric == metric and row.template == template and row.group and row.n]
    return {row.group: pytest.approx(row.value) for row in rows}


FEW = dataclasses.replace(
    TASKS["wiki"],
    probes=lambda splits, options: {
        name: each.select(range(0, len(each), 20)) for name, each in probes(splits, options).items()
    },
)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A trial on WIKI, with every twentieth phrase."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "cases.csv").write_text(CASES)
    options = {
        "evaluate.mine": str(folder / "cases.csv"),
        "evaluate.mine.groups": "who",
        "evaluate.mine.functionality": "kind",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "wiki", FEW)
        places = Places(cache=folder / "cache", device="cpu", keep_predictions=True)
        trial = parse_trial({**SMALL, **options})
        kept, again = run_trial(trial, places), run_trial(trial, places)
        plain = run_trial(trial, dataclasses.replace(places, keep_predictions=False))
    assert again.predictions == kept.predictions
    assert plain.predictions is None
    assert [*map(repr, plain.measures)] == [*map(repr, kept.measures)]
    return kept


def test_fairlearn_gives_our_rates(result):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    from sklearn.metrics import accuracy_score

    kept = frame(result.predictions)
    sets = dict(iter(kept.groupby("set", observed=True)))
    assert sets.keys() == {"dev", "test", "phrases", "neutral", "mine"}
    rates = {"fpr": fairlearn.false_positive_rate, "fnr": fairlearn.false_negative_rate}
    for prefix, name in (("mine_", "mine"), ("", "phrases"), ("natural_", "test")):
        for metric, function in rates.items():
            expected = ours(result, f"{prefix}{metric}")
            assert len(expected) >= 3
            # fairlearn gives 0 to a group without examples of the label; ours is missing.
            found = by_fairlearn(function, sets[name])
            assert {group: found[group] for group in expected} == expected
    assert by_fairlearn(accuracy_score, sets["mine"]) == ours(result, "mine_accuracy")
    assert by_fairlearn(accuracy_score, sets["mine"], "part") == ours(result, "mine_functionality_accuracy")
    predicted = sets["mine"]["prediction"]
    assert 0 < predicted.mean() < 1  # or all rates would be 0 or 1


def test_what_a_file_holds(result):
    kept = frame(result.predictions)
    assert list(kept) == predictions.SCHEMA.names
    assert ((kept["score"] > 0) == (kept["prediction"] == 1)).all()
    assert not kept.duplicated(["set", "id"]).any()
    mine = kept[kept["set"] == "mine"].reset_index(drop=True)
    assert mine.loc[9, "groups"].tolist() == ["a", "b"]
    assert mine.loc[0, "groups"].tolist() == []
    assert mine.loc[3, "part"] == "insult"
    schema = pyarrow.parquet.read_schema(BytesIO(result.predictions))
    assert schema.metadata[b"classes"] == b"harmless, harmful"
    assert not {name for name in kept if "text" in name}


def test_recall_by_pronoun_from_kept_biographies():
    fairlearn = pytest.importorskip("fairlearn.metrics")
    from sklearn.metrics import accuracy_score

    bios, draw = TASKS["bios"], np.random.default_rng(0)
    labels, pronouns = draw.integers(0, 28, 600).tolist(), draw.choice(["she", "he"], 600).tolist()
    examples = Dataset.from_dict(
        {"id": [*map(str, range(600))], "text": ["x"] * 600, "label": labels, "pronoun": pronouns}
    )
    logits = draw.normal(size=(600, 28)).astype(np.float32)
    logits[np.arange(600), labels] += 2
    predicted = {"test": Predicted(examples, logits), "test_scrubbed": Predicted(examples, logits), "dev": None}
    rows = frame(predictions.parquet(bios, {"test": predicted["test"]}))
    assert ((rows["score"] > 0) == (rows["prediction"] == rows["label"])).all()
    of = fairlearn.MetricFrame(
        metrics=accuracy_score, y_true=rows["label"], y_pred=rows["prediction"],
        sensitive_features=rows["groups"].str[0], control_features=rows["label"],
    ).by_group  # fmt: skip
    measures = [row for metric in bios.downstream[:1] for row in metric(predicted, bios.metric_options())]
    for row in measures:
        if row.metric in ("tpr_she", "tpr_he") and not row.template:
            assert of[bios.labels.index(row.group), row.metric.removeprefix("tpr_")] == pytest.approx(row.value)


def test_the_size_is_known_beforehand(result):
    """To a tenth: the scores are most of it. A weak model gives some texts the same one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "wiki", FEW)
        resolved = resolve(result.trial)
        told = predictions.size(resolved.task, predicted_sets(resolved, load_splits(resolved)))
    assert len(result.predictions) <= told <= 1.1 * len(result.predictions)
