"""What a sweep says of kept models and predictions: their size beforehand, and which finished trials have none."""

from __future__ import annotations

import pytest

from bias_transfer.errors import UserError
from bias_transfer.kept_models import kept_bytes
from bias_transfer.memory import load_splits
from bias_transfer.pipeline import predicted_sets
from bias_transfer.resolved import resolve
from bias_transfer.spec import parse_trial
from bias_transfer.sweep import keeping
from bias_transfer.sweep.__main__ import _command
from bias_transfer.sweep.plan import Plan
from bias_transfer.tasks import predictions
from bias_transfer.training import kept, tuning


@pytest.fixture
def resolved(checkpoint):
    fields = [{"seed": 0}, {"seed": 1}, {"tuning": "lora"}]
    return tuple(resolve(parse_trial({"model": checkpoint("roberta"), **each})) for each in fields)


def plan_of(resolved, done=()) -> Plan:
    trials = tuple(entry.trial for entry in resolved)
    todo = tuple(trial for trial in trials if trial.id not in done)
    labels = {trial.id: trial.label for trial in trials}
    return Plan("one", trials, labels, todo, dict.fromkeys(done, "run"), {}, frozenset())


def test_the_size_is_bytes_per_model_times_trials_that_are_to_run(resolved, capsys, tmp_path):
    whole, adapters = kept_bytes(resolved[0]), kept_bytes(resolved[2])
    assert adapters < whole / 3
    keeping.show_size(plan_of(resolved), resolved, str(tmp_path))
    shown = capsys.readouterr().out
    assert f"about {(2 * whole + adapters) / 1e3:.0f} kB in {tmp_path}/models" in shown
    assert f"1 x {adapters / 1e3:.0f} kB, 2 x {whole / 1e3:.0f} kB" in shown
    keeping.show_size(plan_of(resolved, [entry.id for entry in resolved]), resolved, str(tmp_path))
    assert capsys.readouterr().out == ""


def test_finished_trials_without_a_model_are_counted_with_the_command_that_runs_one(resolved, capsys, tmp_path):
    done = [resolved[0].id, resolved[2].id]
    kept.save(str(tmp_path), kept.Kept(resolved[0].trial, ("a", "b"), {}, "", {}))
    keeping.show_missing(plan_of(resolved, done), done, str(tmp_path))
    shown = capsys.readouterr().out
    assert "Kept models: 1 of 2 finished trials" in shown
    assert "1 finished trial has no kept model" in shown
    assert "bias-transfer trial" in shown
    assert shown.rstrip().endswith("--keep-models")
    assert "tuning=lora" in shown
    kept.save(str(tmp_path), kept.Kept(resolved[2].trial, ("a", "b"), {}, "x", {}))
    keeping.show_missing(plan_of(resolved, done), done, str(tmp_path))
    assert "no kept model" not in capsys.readouterr().out


def test_the_size_of_predictions_is_told_and_who_has_none(few_phrases, checkpoint, capsys, new_store):
    resolved = tuple(
        resolve(parse_trial({"model": checkpoint("roberta"), "data.size": 200, "seed": seed})) for seed in range(3)
    )
    plan = plan_of(resolved, [resolved[0].id])
    keeping.show_size_of_predictions(plan, resolved)
    examples = len(predictions_of(resolved[1]))
    assert f"2 x {keeping._bytes(size_of(resolved[1]))} for {examples} examples" in capsys.readouterr().out
    keeping.show_without_predictions(plan, plan.done, new_store)
    assert "1 finished trial has no predictions" in capsys.readouterr().out
    keeping.show_without_predictions(plan, [], new_store)
    assert capsys.readouterr().out == ""


def predictions_of(resolved) -> list[str]:
    sets = predicted_sets(resolved, load_splits(resolved))
    return [identifier for each in sets.values() for identifier in each["id"][:]]


def size_of(resolved) -> int:
    return predictions.size(resolved.task, predicted_sets(resolved, load_splits(resolved)))


def test_on_a_cluster_a_shared_storage_is_needed():
    with pytest.raises(UserError, match="set BIAS_TRANSFER_STORAGE"):
        keeping.check("10.0.0.1:6379", None)
    keeping.check(None, None)
    keeping.check("10.0.0.1:6379", "s3://bucket")


def test_the_command_that_starts_the_sweep_again_keeps_models_too(tmp_path):
    assert _command(tmp_path / "a.yaml", [], True).endswith("a.yaml --keep-models")
    assert _command(tmp_path / "a.yaml", [], False).endswith("a.yaml")
    assert _command(tmp_path / "a.yaml", [], False, True).endswith("a.yaml --keep-predictions")


def test_trials_by_prompt_keep_nothing_and_are_not_missed(checkpoint, capsys, tmp_path):
    fields = [{"tuning": "frozen"}, {"tuning": "prompt", "seed": 1}, {"tuning": "prompt", "seed": 2}]
    resolved = tuple(resolve(parse_trial({"model": checkpoint("llama"), **each})) for each in fields)
    keeping.show_prompts(resolved[:1])
    assert capsys.readouterr().out == ""
    keeping.show_prompts(resolved)
    assert capsys.readouterr().out.split() == tuning.NOTHING_TO_KEEP.split()
    assert kept_bytes(resolved[1]) == 0
    keeping.show_size(plan_of(resolved), resolved, str(tmp_path))
    assert f"1 x {kept_bytes(resolved[0]) / 1e3:.0f} kB." in capsys.readouterr().out
    keeping.show_missing(plan_of(resolved), [entry.id for entry in resolved], str(tmp_path))
    assert "1 finished trial has no kept model" in capsys.readouterr().out
