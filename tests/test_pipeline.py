"""One trial as a plain function: the same bits every time, and mistakes told before it starts."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from bias_transfer.config.yaml import parse_yaml
from bias_transfer.determinism import using_threads
from bias_transfer.errors import UserError
from bias_transfer.interventions import registry
from bias_transfer.interventions.registry import UPSTREAM
from bias_transfer.memory import load_splits
from bias_transfer.pipeline import build_prompt, check, forget, run_trial, treat_data
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.registry import TASKS
from bias_transfer.training import finetune, lm_training

SMALL = {
    "data.size": 200, "data.pretraining_sentences": 300, "model.steps": 4, "model.width": 16, "model.layers": 1,
    "model.vocabulary": 1200, "epochs": 0.5, "max_tokens": 16,
}  # fmt: skip


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    return Places(cache=tmp_path_factory.mktemp("places"), device="cpu")


def run(places, **changes):
    return run_trial(parse_trial({**SMALL, **changes}), places)


def comparable(result):
    """NaN is not equal to itself, so values are compared by their representation."""
    return [*map(repr, result.measures)], result.curve, result.facts


def test_the_same_trial_gives_the_same_bits_cold_and_warm(places, few_phrases, tmp_path):
    first = run(places)
    run(places, seed=1, upstream="perturb", downstream="scrub", precision="bf16")
    assert comparable(run(places)) == comparable(first)
    assert comparable(run(Places(cache=tmp_path, device="cpu"))) == comparable(first)


EXTRAS = {"metric.seat": "first", "metric.disco": True}


@pytest.mark.parametrize(
    "changes",
    [
        EXTRAS,
        {"upstream": "inject", "upstream.steps": 2, "upstream.sentences": 100},
        {"upstream": "random_projection", "upstream.match": "variance", "downstream": "scrub"},
    ],
    ids=["extras", "inject", "projection"],
)
def test_what_other_trials_left_in_the_cache_changes_no_bit(changes, places, few_phrases, tmp_path):
    """A trial that shares nothing, one whose whole upstream stage lies in the cache, and one that finds a part of it."""
    run(places)
    shutil.copytree(places.cache / "tiny", tmp_path / "tiny")
    cold = Places(cache=tmp_path, device="cpu")
    first, kept = run(cold, **changes), entries(tmp_path)
    assert {"measures", "tokens"} <= {path.parts[0] for path in kept}
    assert comparable(run(cold, **changes)) == comparable(first)
    assert entries(tmp_path) == kept
    shutil.rmtree(tmp_path / "measures")
    assert comparable(run(cold, **changes)) == comparable(first)
    other = {**changes, "seed": 1, "downstream": "none"}
    warm = comparable(run(cold, **other))
    for kind in {path.parts[0] for path in kept} - {"tiny"}:
        shutil.rmtree(tmp_path / kind)
    assert comparable(run(cold, **other)) == warm


def entries(cache: Path) -> set[Path]:
    return {path.parent.relative_to(cache) for path in cache.rglob(".manifest")}


@pytest.mark.long
def test_a_fresh_process_gives_the_same_bits(places, tmp_path):
    """With all phrases, by the command line, as one debugs a trial of a sweep."""
    words = [f"{key}={value}" for key, value in SMALL.items()]
    command = [sys.executable, "-m", "bias_transfer.trial", *words, "--json", str(tmp_path / "one.json")]
    done = subprocess.run([*command, "--cache", str(tmp_path / "cache")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "roc_auc" in done.stdout
    assert "baseline" in done.stdout
    here, there = run(places), json.loads((tmp_path / "one.json").read_text())
    assert there["id"] == here.trial.id
    values = [None if math.isnan(row.value) else row.value for row in here.measures]
    assert [row["value"] for row in there["measures"]] == values
    assert [row["loss"] for row in there["curve"]] == [step.loss for step in here.curve]


@pytest.mark.long
def test_a_trial_that_was_killed_goes_on_to_the_same_bits(checkpoint, few_phrases, tmp_path):
    """Killed in mid-training as a command, by SIGKILL; its checkpoint goes when its result is recorded."""
    fields = {key: value for key, value in SMALL.items() if not key.startswith("model.")}
    fields |= {"model": checkpoint("roberta"), "upstream": "perturb", "epochs": 12}
    expected = run_trial(parse_trial(fields), Places(cache=tmp_path / "other", device="cpu"))
    cache, words = tmp_path / "cache", [f"{key}={value}" for key, value in fields.items()]
    command = [sys.executable, "-m", "bias_transfer.trial", *words, "--cache", str(cache), "--checkpoint-minutes", "0"]
    kept = cache / "checkpoints" / expected.trial.id
    with subprocess.Popen(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}) as killed:
        while not (kept / "state.safetensors").exists() and killed.poll() is None:
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    steps, places = list[int](), Places(cache=cache, device="cpu")
    places = dataclasses.replace(
        places, report=lambda what, done, _: steps.append(done) if what == "fine-tune" else None
    )
    assert comparable(run_trial(parse_trial(fields), places)) == comparable(expected)
    assert 0 < steps[0] < expected.facts["steps"]
    assert kept.is_dir()
    forget(expected.trial, places)
    assert not kept.exists()


CHECKED = {"variance_removed", "hidden_shift", "upstream_shift_mean", "upstream_shift_rms", "upstream_kept_r"}


def test_every_upstream_arm_records_what_it_did(places, few_phrases):
    def whole(**changes) -> dict[str, float]:
        found = run(places, **changes).measures
        return {
            row.metric: row.value for row in found if row.stage == "upstream" and not row.group and not row.template
        }

    assert not CHECKED & set(whole())
    debiased, noisy = whole(upstream="sent_debias"), whole(upstream="perturb")
    for own in (debiased, noisy):
        assert set(own) >= CHECKED | {"masked_lm_loss"}
        assert own["hidden_shift"] > 0
        assert own["upstream_shift_rms"] > 0
    assert 0 < debiased["variance_removed"] < 1
    assert noisy["hidden_shift"] > debiased["hidden_shift"]


def test_arms_are_paired_by_seed(places, few_phrases):
    plain, scrubbed, perturbed = run(places), run(places, downstream="scrub"), run(places, upstream="perturb")
    assert plain.facts["steps"] == scrubbed.facts["steps"]
    assert scrubbed.facts["examples.train"] < plain.facts["examples.train"]
    assert own(plain, "upstream") == own(scrubbed, "upstream") != own(perturbed, "upstream")
    assert own(plain, "dataset") == own(perturbed, "dataset") != own(scrubbed, "dataset")
    assert len({str(own(result, "downstream")) for result in (plain, scrubbed, perturbed)}) == 3


BIOS = {"task": "bios", **SMALL, "data.size": 280, "data.test_size": 280, "max_tokens": 24}


def test_a_trial_of_biographies(places):
    arms = ({}, {"downstream": "rebalance"}, {"downstream": "scrub"})
    plain, balanced, scrubbed = (run(places, **BIOS, **arm) for arm in arms)
    keys = [(row.stage, row.metric, row.group, row.template) for row in plain.measures]
    assert len(keys) == len(set(keys))
    assert all(math.isnan(row.value) == (row.n == 0) for row in plain.measures)
    assert not any(math.isnan(value) for value in plain.headline.values())
    assert plain.facts["steps"] == balanced.facts["steps"] == scrubbed.facts["steps"]
    assert own(plain, "upstream") == own(balanced, "upstream") == own(scrubbed, "upstream")
    shares = [
        [row.value for row in result.measures if row.metric == "she_share"] for result in (plain, balanced, scrubbed)
    ]
    assert shares[0] == shares[2] != shares[1] == [0.5] * 29
    seen = [sum(row.n for row in result.measures if row.metric == "visible_she_share") for result in (plain, scrubbed)]
    assert seen[0] > seen[1] == 0


@pytest.mark.parametrize("tuning", ["full", "frozen", "lora"])
@pytest.mark.parametrize("upstream", UPSTREAM)
def test_a_causal_model_goes_through_every_arm_and_adaptation_cold_and_warm(
    upstream, tuning, checkpoint, few_phrases, tmp_path
):
    """From its folder, with the start token that its trial names."""
    fields = {key: value for key, value in SMALL.items() if not key.startswith("model.")} | {
        "model": checkpoint("llama"), "model.start_token": "</s>", "upstream": upstream, "tuning": tuning, "epochs": 0.1,
        **({"upstream.steps": 2, "upstream.sentences": 100} if UPSTREAM[upstream].trains else {}),
    }  # fmt: skip
    trial = parse_trial(fields)
    check(resolve(trial), Places(cache=tmp_path, device="cpu"))
    first, again = (run_trial(trial, Places(cache=tmp_path, device="cpu")) for _ in range(2))
    assert comparable(first) == comparable(again)
    assert first.facts["start_token"] == "</s>"
    found = {row.metric for row in first.measures}
    assert found >= {"causal_lm_loss", "unigram_loss", "negative_sentiment", "fpr", "roc_auc"}
    assert ("variance_removed" in found) == (upstream != "none")
    assert first.headline["causal_lm_loss"] > 0


def test_a_causal_trial_of_biographies_ranks_pronouns_that_come_next_and_that_come_first(places):
    result = run(places, **{"task": "bios", "data.size": 280, "data.test_size": 280, "model.kind": "causal"})
    for metric, templates in (("pronoun_score", 17), ("pronoun_first_score", 5)):
        assert len([row for row in result.measures if row.metric == metric]) == 28 * templates
    assert not math.isnan(result.headline["upstream_mean"])


CANNOT = [
    (
        {"metric.seat": "first"},
        r"metric.seat: first cannot be measured on a causal language model. Allowed: last, mean",
    ),
    ({"metric.seat": "last", "model.kind": "masked"}, "on a masked language model. Allowed: first, mean"),
    (
        {"metric.multi_token": True, "model.kind": "masked"},
        "metric.multi_token: a masked language model fills one mask",
    ),
    ({"model.start_token": "</s>"}, "model.start_token"),
    ({"max_tokens": 515}, "max_tokens: 515 exceeds the model's positions"),
]


@pytest.mark.parametrize(("changes", "message"), CANNOT, ids=str)
def test_what_a_kind_of_model_cannot_answer_is_refused_before_the_trial(changes, message, places):
    with pytest.raises(UserError, match=message):
        check(resolve(parse_trial({**SMALL, "model.kind": "causal", **changes})), places)


@pytest.mark.parametrize(
    ("template", "without", "message"),
    [
        ("{mask} is what the {group} is.", "So is {mask}.", "nothing stands before the slot in '{mask} is what"),
        ("The {group} is {mask}.", "{mask} they are.", "nothing stands before the slot in '{mask} they are"),
        (
            "So {mask} is the {group}.",
            "So {mask} is it.",
            "the same for all groups. Use a template in which the group comes",
        ),
    ],
)
@pytest.mark.parametrize("model", ["tiny", "llama"])
def test_a_slot_that_a_causal_model_cannot_predict_is_refused_before_the_trial(
    model, template, without, message, checkpoint, places, tmp_path
):
    """In a custom task that measures negative sentiment; a masked model takes it, and `tiny` has no tokenizer yet."""
    example = Path(__file__).parents[1] / "examples" / "custom_task"
    content = parse_yaml((example / "board.yaml").read_text(encoding="utf-8"))
    content |= {"templates": {template: without}, "words_a": None, "words_b": None}
    task = tmp_path / "board.yaml"
    task.write_text(json.dumps({key: value for key, value in content.items() if value}), encoding="utf-8")
    fields = {"task": str(task), "data": str(example / "comments.csv"), "max_tokens": 16}
    causal, masked = (
        ({"model": "tiny", "model.kind": "causal"}, {"model": "tiny"})
        if model == "tiny"
        else ({"model": checkpoint("llama")}, {"model": checkpoint("roberta")})
    )
    check(resolve(parse_trial({**fields, **masked})), places)
    with pytest.raises(UserError, match=re.escape(message)):
        check(resolve(parse_trial({**fields, **causal})), places)


PROMPT = {"model.kind": "causal", "tuning": "prompt", "tuning.shots": 1, "tuning.shot_tokens": 16}


def test_a_prompt_trains_nothing_and_keeps_nothing(places, few_phrases, tmp_path):
    """The encoder is measured before and after all the same; an upstream arm reaches the answers."""
    keeping = dataclasses.replace(places, storage=str(tmp_path), keep_models=True, checkpoint_minutes=0)
    plain = run(keeping, **PROMPT, **{"metric.seat": "last"})
    assert [*tmp_path.iterdir()] == []
    assert (plain.curve, plain.facts["steps"], plain.facts["prompt.chat"]) == ((), 0, False)
    assert len(plain.facts["prompt.examples"].split(", ")) == 2
    assert not {"prompt_changed", "tokens.train"} & plain.facts.keys()
    seat = {
        stage: [row.value for row in plain.measures if (row.stage, row.metric) == (stage, "seat")] for stage in STAGES
    }
    assert seat["upstream"] == seat["downstream"] != []
    assert {"fpr", "natural_fpr", "logit_gap", "roc_auc"} <= {row.metric for row in plain.measures}
    again, perturbed = run(places, **PROMPT, **{"metric.seat": "last"}), run(places, **PROMPT, upstream="perturb")
    assert comparable(again) == comparable(plain)
    assert own(perturbed, "downstream") != own(plain, "downstream")
    assert perturbed.facts["prompt.examples"] == plain.facts["prompt.examples"]


STAGES = ("upstream", "downstream")


def test_an_arm_that_leaves_the_prompt_alone_is_recorded_and_no_error(places, few_phrases):
    """A scrub with the first seed under which it removes none of the chosen comments."""
    for seed in range(20):
        fields = {**SMALL, **PROMPT, "seed": seed, "downstream": "scrub", "downstream_dose": 0.5}
        resolved = resolve(parse_trial(fields))
        splits, model = load_splits(resolved), lm_training.untrained(resolved.options.model, ("a",))
        sets = (splits.train, treat_data(resolved, splits.train))
        if len({build_prompt(resolved, model, train).shots for train in sets}) == 1:
            break
    scrubbed, plain = run(places, **fields), run(places, **PROMPT, seed=seed)
    assert scrubbed.facts["examples.train"] < plain.facts["examples.train"]
    assert own(scrubbed, "downstream") == own(plain, "downstream")
    assert scrubbed.facts["prompt_changed"] is False
    assert [(row.value, row.n) for row in scrubbed.measures if row.metric == "prompt_changed"] == [(0, 2)]
    assert scrubbed.warnings[-1] == (
        "The downstream arm scrub=0.5 left the examples of the prompt as they were, so it did not reach the classifier."
    )


def test_biographies_are_asked_about_with_the_pronouns_that_a_scrub_leaves(places):
    fields = {**BIOS, **PROMPT, "tuning.shots": 4}
    plain, scrubbed = run(places, **fields), run(places, **fields, downstream="scrub")
    assert len({*plain.facts["prompt.examples"].split(", ")}) == 4
    assert plain.facts["prompt.examples"] == scrubbed.facts["prompt.examples"]
    assert scrubbed.facts["prompt_changed"] is True
    assert [(row.value > 0, row.n) for row in scrubbed.measures if row.metric == "prompt_changed"] == [(True, 4)]
    assert not any("prompt" in warning for warning in scrubbed.warnings)
    assert own(plain, "downstream") != own(scrubbed, "downstream")
    assert not math.isnan(plain.headline["downstream_mean"])


CANNOT_ASK = [
    ({"model.kind": "masked"}, "of the family 'roberta-prelayernorm', is masked. Allowed for it: full, frozen, lora"),
    ({"tuning.shots": 0, "downstream": "scrub"}, "0 with the downstream arm scrub: .* Allowed: shots of 1 or more"),
    ({"tuning.shots": 21}, "21 examples of each class, .* has 20 whose answer is 'yes'. Allowed: at most 20"),
    ({"tuning.shots": 4, "tuning.shot_tokens": 99}, r"exceeds the model's positions \(514\). Lower tuning.shots"),
    ({**BIOS, "tuning.shots": 29}, "29 examples, each of another class, and the task has 28 classes"),
    ({"tuning.chat": True}, "the tokenizer of tiny has no chat template"),
    ({"tuning.shots": -1}, "tuning.shots"),
]


@pytest.mark.parametrize(("changes", "message"), CANNOT_ASK, ids=str)
def test_what_a_prompt_cannot_ask_is_refused_before_the_trial(changes, message, places):
    with pytest.raises(UserError, match=message):
        check(resolve(parse_trial({**SMALL, **PROMPT, **changes})), places)


def test_what_an_arm_leaves_alone_is_among_the_warnings(places):
    """Of ten biographies, the nearest to shares of 0 and 1/27 is none with she."""
    result = run(places, **BIOS, **{"data.dataset_spread": 0.5, "downstream": "rebalance"})
    assert result.warnings[-1].startswith("rebalance left alone the occupations that have one pronoun only: ")
    assert result.warnings[-1].count(",") == 3


def test_the_content_of_a_file_that_an_arm_names_is_in_the_id(tmp_path):
    names = []
    for place, text in (("one", "a gay man"), ("two", "a gay man"), ("three", "a gay woman")):
        (tmp_path / f"{place}.csv").write_text(f"comment,toxic\n{text},0\n")
        names.append(
            resolve(parse_trial({"downstream": "rebalance", "downstream.file": str(tmp_path / f"{place}.csv")})).id
        )
    assert names[0] == names[1] != names[2]


def own(result, stage: str) -> list[str]:
    return [repr(row) for row in result.measures if row.stage == stage]


def test_the_result_is_one_long_table_with_a_headline(places, few_phrases):
    result = run(places)
    assert {row.stage for row in result.measures} == {"upstream", "dataset", "downstream", "utility"}
    keys = [(row.stage, row.metric, row.group, row.template) for row in result.measures]
    assert len(keys) == len(set(keys))
    assert not any(math.isinf(row.value) for row in result.measures)
    assert all(math.isnan(row.value) == (row.n == 0) for row in result.measures)
    assert {"roc_auc", "upstream_sd", "dataset_mean", "downstream_mean"} <= set(result.headline)
    assert "hardly knows the language" in result.warnings[0]


@pytest.mark.parametrize(
    ("stage", "table", "broken"),
    [
        ("upstream", registry.UPSTREAM, dataclasses.replace(registry.UPSTREAM["perturb"], apply=lambda *_: None)),
        (
            "downstream",
            registry.DOWNSTREAM,
            {"wiki": dataclasses.replace(registry.DOWNSTREAM["scrub"]["wiki"], apply=lambda train, *_: train)},
        ),
    ],
)
def test_an_arm_that_changed_nothing_is_an_error(stage, table, broken, places, few_phrases, monkeypatch):
    name = "perturb" if stage == "upstream" else "scrub"
    monkeypatch.setitem(table, name, broken)
    with pytest.raises(UserError, match=f"the {stage} arm {name}.* changed nothing"):
        run(places, **{stage: name})


def test_an_arm_that_leaves_one_class_is_an_error(places, monkeypatch):
    def only_toxic(train: Dataset, *_) -> Dataset:
        return train.filter(lambda row: row["label"] == 1)

    arm = dataclasses.replace(registry.DOWNSTREAM["scrub"]["wiki"], apply=only_toxic)
    monkeypatch.setitem(registry.DOWNSTREAM, "scrub", {"wiki": arm})
    with pytest.raises(UserError, match="left a class"):
        run(places, downstream="scrub")


def test_resolving_fills_in_every_default_and_is_idempotent():
    trial = resolve(parse_trial({"upstream": "reinitialise", "downstream": "scrub"})).trial
    assert (trial.upstream_dose, trial.downstream_dose, trial.learning_rate) == (1.0, 1.0, 1e-3)
    assert trial.options["data.size"]
    assert trial.options["downstream.control"] is False
    assert resolve(trial).trial == trial
    assert trial.id == resolve(parse_trial({"upstream": "reinitialise", "upstream_dose": 1, "downstream": "scrub"})).id
    assert "metric.top_k" not in trial.options


def test_the_place_of_data_and_model_is_not_in_the_id(checkpoint, tmp_path):
    names = []
    for place in ("one", "two"):
        folder = tmp_path / place
        folder.mkdir()
        for split in ("train", "dev", "test"):
            (folder / f"{split}.csv").write_text("comment,toxic\na,0\nb,1\n")
        names.append(resolve(parse_trial({"data": str(folder), "model": checkpoint("roberta")})).id)
    assert names[0] == names[1]
    (folder / "train.csv").write_text("comment,toxic\na,0\nc,1\n")
    assert resolve(parse_trial({"data": str(folder), "model": checkpoint("roberta")})).id != names[0]


def test_a_model_from_a_folder_runs(checkpoint, places, few_phrases):
    small = {key: value for key, value in SMALL.items() if not key.startswith("model.")}
    result = run_trial(parse_trial({**small, "model": checkpoint("bert"), "upstream": "reinitialise"}), places)
    assert result.facts["family"] == "bert"
    assert result.trial.learning_rate == 5e-5


def test_text_that_a_checkpoint_never_read_plants_nothing_in_it(checkpoint, places, few_phrases):
    """`tiny` is pre-trained on the synthetic text; a checkpoint is not, so only what is planted in the data is recorded."""
    planted = {"planted_share", "planted_direction"}
    small = {key: value for key, value in SMALL.items() if not key.startswith("model.")}
    read, not_read = run(places), run_trial(parse_trial({**small, "model": checkpoint("bert")}), places)
    assert planted <= {row.metric for row in read.measures if row.stage == "upstream"}
    assert not planted & {row.metric for row in not_read.measures}
    in_data = [{row for row in result.measures if row.metric == "planted_toxic_share"} for result in (read, not_read)]
    assert in_data[0] == in_data[1] != set()


def test_an_injection_records_which_way_each_group_is_pushed_at_both_doses_alike(places, few_phrases):
    arm = {"upstream": "inject", "upstream.steps": 2, "upstream.sentences": 100}
    plus, minus = (run(places, **arm, upstream_dose=dose).measures for dose in (1.0, -1.0))
    pushed = [
        {row.group: (row.value, row.n) for row in rows if row.metric == "injected_direction"} for rows in (plus, minus)
    ]
    assert pushed[0] == pushed[1]
    assert set(pushed[0]) == set(TASKS["wiki"].groups)
    assert sorted({value for value, _ in pushed[0].values()}) == [-1, 1]
    assert sum(n for _, n in pushed[0].values()) == 66  # two thirds of the sentences name a term
    assert not any(row.metric == "injected_direction" for row in run(places).measures)


def test_a_trial_has_its_own_number_of_threads(places, few_phrases, monkeypatch):
    seen, train = list[int](), finetune.finetune

    def spy(*arguments):
        seen.append(torch.get_num_threads())
        return train(*arguments)

    monkeypatch.setattr(finetune, "finetune", spy)
    with using_threads(2):
        run(places)
        assert torch.get_num_threads() == 2
    assert seen == [1]


def test_logits_that_are_not_finite_stop_the_trial(places, few_phrases, monkeypatch):
    monkeypatch.setattr(finetune, "predict", lambda model, rows, *_: np.full((len(rows), 2), np.nan, np.float32))
    with pytest.raises(finetune.TrainingDiverged, match="logits on dev are not finite"):
        run(places)


def test_fp16_is_refused_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="precision=fp16 needs a GPU"):
        resolve(parse_trial({"precision": "fp16"}))


NOTHING_TO_DO = [
    {"upstream": "reinitialise", "upstream_dose": 0.005},
    {"downstream": "scrub", "data.mention_share": 0.0},
    {"downstream": "scrub", "downstream_dose": 0.001},
]


@pytest.mark.parametrize("changes", NOTHING_TO_DO, ids=str)
def test_an_arm_that_cannot_change_anything_is_found_beforehand(changes, places):
    """Bad input is told by `resolve` or `check`: before any trial starts, not when its turn comes."""
    with pytest.raises(UserError):
        check(resolve(parse_trial({**SMALL, **changes})), places)


@pytest.mark.parametrize("model", ["tiny", "bert", "roberta"])
def test_more_tokens_than_the_model_has_positions_are_found_beforehand(model, places, checkpoint):
    """tiny has 512 positions, the checkpoints 128 to 130."""
    fields = {"max_tokens": 1024} if model == "tiny" else {"max_tokens": 1024, "model": checkpoint(model)}
    with pytest.raises(UserError, match="max_tokens"):
        check(resolve(parse_trial(fields)), places)


def test_a_checkpoint_is_checked_before_the_trial_starts(checkpoint, places, tmp_path):
    with pytest.raises(UserError, match="Allowed: 0.333, 0.667, 1"):
        check(
            resolve(parse_trial({"model": checkpoint("bert"), "upstream": "reinitialise", "upstream_dose": 0.5})),
            places,
        )
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be loaded"):
        check(resolve(parse_trial({"model": str(tmp_path)})), places)


@pytest.mark.parametrize("task", TASKS)
def test_resolving_twice_changes_nothing(task):
    """A default that is written as 0 and read back as 0.0 once gave one trial two ids."""
    once = resolve(parse_trial({"task": task})).trial
    assert resolve(once).id == once.id
