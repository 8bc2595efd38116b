"""A run per arm, which no part of the project takes for a trial."""

from bias_transfer.spec import Trial
from bias_transfer.tracking import runs, store, summaries, sweeps
from bias_transfer.tracking.store import KIND, search
from bias_transfer.tracking.summaries import ArmSummary

TRIAL = Trial(data_digest="d", model_digest="m")
PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}


def summary(name, value):
    return ArmSummary(name, {"upstream": name}, {"fpr.mean": value, "seeds": 3.0})


def test_summaries_are_replaced_and_are_no_trials(new_store):
    client = store.connect(new_store, create=True)
    parent = sweeps.open_sweep(client, "one", [TRIAL], PRIMARY, command="bias-transfer sweep one.yaml")
    for arms in (("a", "b"), ("b", "c")):
        summaries.write(client, "one", parent, [summary(arm, 1.5) for arm in arms])
    summaries.describe(client, parent, "**Less harm.**")
    experiment = client.get_experiment_by_name("one")
    found = search(client, experiment.experiment_id, f"tags.`{KIND}` = 'arm'")
    assert sorted(run.info.run_name for run in found) == ["arm: b", "arm: c"]
    assert found[0].data.metrics == {"fpr.mean": 1.5, "seeds": 3.0}
    assert "seed" not in found[0].data.params
    assert runs.finished(client, "one") == {}
    read = sweeps.read("one", uri=new_store)
    assert read.runs == {}
    assert read.command == "bias-transfer sweep one.yaml"
    noted = client.get_run(parent).data.tags
    assert noted["mlflow.note.content"] == "**Less harm.**"
    assert noted["mlflow.source.name"] == "bias-transfer"
