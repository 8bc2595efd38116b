"""Every entry of UPSTREAM and DOWNSTREAM: an arm is tested by being added to its table.

An arm with options also needs an entry per option in `UPSTREAM_CHANGES` or `DOWNSTREAM_CHANGES`: the value that must act. An
upstream arm that draws no random numbers is listed in `DRAW_NOTHING`.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import (
    DOWNSTREAM,
    UPSTREAM,
    DownstreamArm,
    UpstreamArm,
    arms_by_group,
    check_downstream_dose,
    downstream_arm,
)
from bias_transfer.models import language_model
from bias_transfer.models.batching import encode, pad
from bias_transfer.models.embeddings import token_states
from bias_transfer.tasks.base import WEIGHT, Context
from bias_transfer.tasks.registry import TASKS, find
from bias_transfer.tasks.wiki.identity_terms import IDENTITIES, mentioned
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions
from bias_transfer.tasks.wiki.vocabulary import NEGATIVE
from bias_transfer.training import lm_training

CONTEXT = Context(TASKS["wiki"], TASKS["wiki"].load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300)))
ARMS = [name for name in UPSTREAM if name != "none"]
DRAW_NOTHING = {"sent_debias", "sham_debias", "inlp", "leace"}
"""Arms that draw no random numbers, so that all seeds give the same bits."""

WEIGH = {"reweight"}
"""Downstream arms that weigh examples. They draw nothing, but for their control."""

TASK_ARMS = [(name, task) for name, tasks in DOWNSTREAM.items() if name != "none" for task in tasks]


def options_of(name: str):
    """The arm's defaults, except that arms which train do so for a moment only."""
    return UPSTREAM[name].options(**({"steps": 5, "sentences": 100} if UPSTREAM[name].trains else {}))


def treated(load, family: str, name: str, dose: float | None = None, seed: int = 0):
    model, arm = load(family), UPSTREAM[name]
    arm.apply(model, arm.default_dose if dose is None else dose, options_of(name), seed, CONTEXT)
    return model


@pytest.mark.parametrize("family", language_model.FAMILIES)
@pytest.mark.parametrize("name", ARMS)
def test_an_upstream_arm_reaches_both_heads(name, family, load, outputs):
    for before, after in zip(outputs(load(family)), outputs(treated(load, family, name)), strict=True):
        assert (before - after).abs().max() > 1e-3, "at its default dose the arm hardly changes this head's outputs"


@pytest.mark.parametrize("family", language_model.FAMILIES)
@pytest.mark.parametrize("name", UPSTREAM)
def test_dose_0_changes_nothing(name, family, load, outputs):
    for before, after in zip(outputs(load(family)), outputs(treated(load, family, name, 0.0)), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("name", ARMS)
def test_the_seed_alone_decides_the_bits(name, load):
    torch.manual_seed(123)
    first = language_model.encoder_digest(treated(load, "roberta", name))
    torch.manual_seed(321)
    assert language_model.encoder_digest(treated(load, "roberta", name)) == first
    same = language_model.encoder_digest(treated(load, "roberta", name, seed=1)) == first
    assert same == (name in DRAW_NOTHING), "an arm that draws nothing is listed in DRAW_NOTHING, and no other"


@pytest.mark.parametrize("name", ARMS)
def test_the_global_generator_is_left_alone(name, load):
    model, arm = load("roberta"), UPSTREAM[name]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    arm.apply(model, arm.default_dose, options_of(name), 0, CONTEXT)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_perturb_adds_the_same_noise_at_every_dose_to_matrices_alone(family, load):
    weights = language_model.encoder_parameters(load(family))
    half, full = (language_model.encoder_parameters(treated(load, family, "perturb", dose)) for dose in (0.5, 1.0))
    for name, weight in weights.items():
        if weight.ndim < 2:
            assert torch.equal(weight, full[name])
        else:
            torch.testing.assert_close(2 * (half[name] - weight), full[name] - weight, atol=1e-5, rtol=1e-4)
    embeddings = "embeddings.tok_embeddings.weight" if family == "modernbert" else "embeddings.word_embeddings.weight"
    changed = (full[embeddings] - weights[embeddings]).abs().sum(dim=1) > 0
    assert not changed[1]
    assert changed.sum() == len(changed) - 1
    noise = (full[embeddings] - weights[embeddings])[changed] / weights[embeddings].std()
    assert float(noise.detach().std()) == pytest.approx(1, abs=0.05)


def test_perturbs_draw_is_named_by_the_seed_or_by_an_option(load):
    arm = UPSTREAM["perturb"]

    def digest(seed: int, **options: int) -> str:
        model = load("roberta")
        arm.apply(model, 0.5, arm.options(**options), seed, CONTEXT)
        return language_model.encoder_digest(model)

    assert digest(0, draw=3) == digest(1, draw=3) == digest(3)
    assert digest(0, draw=4) != digest(0, draw=3)


def test_perturb_draws_separately_for_each_weight(load):
    before, after = (
        language_model.encoder_parameters(model) for model in (load("roberta"), treated(load, "roberta", "perturb"))
    )
    names = [f"encoder.layer.{layer}.attention.self.{part}.weight" for layer in (0, 1) for part in ("query", "key")]
    noise = torch.stack([((after[name] - before[name]) / before[name].std()).flatten() for name in names])
    assert torch.corrcoef(noise.detach()).fill_diagonal_(0).abs().max() < 0.3


@pytest.mark.parametrize("family", language_model.FAMILIES)
def test_reinitialise_goes_from_the_top_down(family, load):
    model = load(family)
    bottom, top = language_model.layer_names(model)
    behind = [name for name in language_model.encoder_parameters(model) if name.startswith(language_model.FINAL_NORMS)]
    for dose, expected in ((1 / 3, [top]), (2 / 3, [bottom, top])):
        changed = changed_by(load, family, dose)
        assert {name for name in changed if not name.startswith(tuple(behind))} == {
            name for name in changed if name.startswith(tuple(expected))
        }
        assert all(any(name.startswith(layer) for name in changed) for layer in expected)
    whole = changed_by(load, family, 1.0)
    assert any("embeddings" in name for name in whole)


def changed_by(load, family: str, dose: float) -> list[str]:
    before, after = (
        language_model.encoder_parameters(load(family)),
        language_model.encoder_parameters(treated(load, family, "reinitialise", dose)),
    )
    return [name for name in before if not torch.equal(before[name], after[name])]


@pytest.mark.parametrize("dose", [1 / 3, 1.0])
def test_reinitialise_resets_the_masked_lm_head_at_any_dose(dose, load):
    before, after = load("roberta"), treated(load, "roberta", "reinitialise", dose)
    names = [name for name, weight in language_model.head_parameters(before).items() if weight.ndim > 1]
    assert names
    for name in names:
        assert not torch.equal(
            language_model.head_parameters(before)[name], language_model.head_parameters(after)[name]
        )


def test_reinitialise_uses_the_architectures_own_initialiser(load):
    weight = treated(load, "roberta", "reinitialise", 1.0).encoder.embeddings.word_embeddings.weight
    assert float(weight.detach().std()) == pytest.approx(0.25, rel=0.05)
    assert not weight[1].any()


@pytest.mark.parametrize(
    ("name", "dose"), [("reinitialise", 0.5), ("reinitialise", 1.4), ("reinitialise", -1), ("perturb", -0.1)]
)
def test_a_dose_out_of_range_is_refused(name, dose, load):
    with pytest.raises(UserError, match="Allowed: "):
        UPSTREAM[name].check(load(), dose, UPSTREAM[name].options())


@pytest.mark.parametrize("dose", [0, -0.5, 1.01])
def test_a_downstream_dose_is_a_share(dose):
    with pytest.raises(UserError, match="above 0, at most 1"):
        check_downstream_dose("scrub", dose)


def test_unknown_arms_are_answered_with_the_nearest(monkeypatch):
    with pytest.raises(UserError, match="Did you mean 'scrub'"):
        downstream_arm("scrubb", "wiki", find("wiki")[0])
    monkeypatch.setitem(DOWNSTREAM, "scrub", {"wiki": DOWNSTREAM["scrub"]["wiki"]})
    with pytest.raises(UserError, match="has no downstream arm 'scrub'. Allowed: none, rebalance"):
        downstream_arm("scrub", "bios", find("bios")[0])


@pytest.fixture(scope="module")
def comments() -> Dataset:
    rows = (
        [("a gay fool", 1), ("a fool", 1), ("gay pride", 0), ("hello", 0)] * 10
        + [("two fools", 1)] * 5
        + [("bye", 0)] * 30
    )
    return Dataset.from_dict(
        {"id": [f"c{n}" for n in range(len(rows))], "text": [t for t, _ in rows], "label": [y for _, y in rows]}
    )


def mentions(examples: Dataset) -> list[str]:
    return [
        name
        for name, text, label in zip(examples["id"], examples["text"], examples["label"], strict=True)
        if label and mentioned(text)
    ]


@pytest.mark.parametrize("dose", [0.1, 0.5, 1.0])
def test_scrub_leaves_exactly_its_share(comments, dose):
    arm = downstream_arm("scrub", "wiki", find("wiki")[0])
    after = arm.apply(comments, dose, arm.options(), 0)
    assert len(mentions(after)) == 10 - 10 * dose
    assert len(comments) - len(after) == 10 * dose
    gone = set(comments["id"]) - set(after["id"])
    assert gone <= set(mentions(comments))
    assert [name for name in comments["id"] if name not in gone] == list(after["id"])


def test_scrub_at_a_smaller_dose_removes_a_part_of_what_a_larger_removes(comments):
    arm = downstream_arm("scrub", "wiki", find("wiki")[0])
    remaining = [set(arm.apply(comments, dose, arm.options(), 3)["id"]) for dose in (0.3, 0.6, 1.0)]
    assert remaining[0] > remaining[1] > remaining[2]


def test_scrubs_control_removes_as_many_that_mention_none(comments):
    arm = downstream_arm("scrub", "wiki", find("wiki")[0])
    after = arm.apply(comments, 1.0, arm.options(control=True), 0)
    assert len(mentions(after)) == 10
    assert len(comments) - len(after) == 10
    assert sum(after["label"]) == sum(comments["label"]) - 10


def test_scrubs_control_says_when_it_lacks_comments():
    few = Dataset.from_dict({"id": ["1", "2"], "text": ["gay fool", "hello"], "label": [1, 0]})
    arm = downstream_arm("scrub", "wiki", find("wiki")[0])
    with pytest.raises(UserError, match="there are 0"):
        arm.apply(few, 1.0, arm.options(control=True), 0)


@pytest.fixture(scope="module")
def examples(comments) -> dict[str, Dataset]:
    """Task -> what its arms can act on."""
    texts = [f"{'She' if row % 3 else 'He'} has text number {row}" for row in range(60)]
    biographies = {
        "id": [f"b{row}" for row in range(60)], "text": texts, "label": [int(row % 6 in (2, 3)) for row in range(60)],
        "pronoun": ["she" if row % 3 else "he" for row in range(60)],
    }  # fmt: skip
    return {"wiki": comments, "bios": Dataset.from_dict(biographies)}


@pytest.mark.parametrize(("name", "task"), TASK_ARMS)
def test_a_downstream_arm_at_dose_0_changes_nothing_and_follows_its_seed(name, task, examples):
    arm, train = downstream_arm(name, task, find(task)[0]), examples[task]
    assert arm.apply(train, 0.0, arm.options(), 0).to_dict() == train.to_dict()
    first, again, other = (arm.apply(train, 0.5, arm.options(), seed).to_dict() for seed in (0, 0, 1))
    assert first == again
    assert (first == other) == (name in WEIGH)


@pytest.mark.parametrize(("name", "task"), TASK_ARMS)
def test_a_downstream_arm_keeps_columns_and_ids_apart(name, task, examples):
    arm = downstream_arm(name, task, find(task)[0])
    for control in (False, True):
        after = arm.apply(examples[task], 1.0, arm.options(control=control), 0)
        assert {column: kind for column, kind in after.features.items() if column != WEIGHT} == examples[task].features
        assert (WEIGHT in after.features) == arm.weighs == (name in WEIGH)
        assert len(set(after["id"])) == len(after)
        assert after.to_dict() != examples[task].to_dict()
        assert arm.notes(examples[task], arm.options(control=control)) == []


UPSTREAM_CHANGES: dict[str, dict[str, Any]] = {
    "perturb": {"draw": 7},
    "sent_debias": {
        "components": 2, "kept": False, "position": "classifier", "corpus": "FILE", "sentences": 20, "words": "religion",
    },
    "sham_debias": {"components": 2, "kept": False, "position": "classifier", "corpus": "FILE", "sentences": 20},
    "random_projection": {
        "components": 2, "kept": False, "position": "classifier", "corpus": "FILE", "sentences": 20, "words": "religion",
        "match": "rank",
    },
    "inlp": {
        "classifiers": 1, "control": "sham", "kept": False, "position": "classifier", "corpus": "FILE", "sentences": 140,
        "words": "religion",
    },
    "leace": {
        "control": "sham", "kept": False, "position": "mean", "corpus": "FILE", "sentences": 20, "words": "religion",
    },
    "cda": {
        "steps": 3, "tokens_per_step": 300, "learning_rate": 1e-3, "sentences": 80, "words": "religion", "corpus": "FILE",
        "draw": 7, "control": True,
    },
    "dropout": {
        "steps": 3, "tokens_per_step": 300, "learning_rate": 1e-3, "sentences": 80, "words": "religion", "corpus": "FILE",
        "draw": 7, "control": True,
    },
    "inject": {
        "steps": 3, "tokens_per_step": 300, "learning_rate": 1e-3, "sentences": 120, "direction": "all", "draw": 7,
    },
}  # fmt: skip
"""Arm -> option -> a value that must change the treated model. FILE: the path of a file with sentences."""

FEW = {"sentences": 60}
UPSTREAM_BASE = {
    "sent_debias": FEW,
    "sham_debias": FEW,
    "random_projection": {**FEW, "match": "variance"},
    "leace": FEW,
    "inject": {"steps": 2, "sentences": 100},
    "cda": {"steps": 2, "sentences": 100},
    "dropout": {"steps": 2, "sentences": 100},
}
"""Options that the changed ones are compared against. A random projection reads its sentences only to match their variance."""

DOWNSTREAM_CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("scrub", "bios"): {"control": True},
    ("scrub", "wiki"): {"control": True},
    ("scrub", "custom"): {"control": True},
    ("rebalance", "bios"): {"method": "oversample", "control": True},
    ("rebalance", "wiki"): {"file": "FILE", "control": True, "control_file": "OTHER FILE"},
    ("rebalance", "custom"): {"control": True},
    **{("reweight", task): {"joint": True, "control": True} for task in ("bios", "wiki", "custom")},
    **{("augment", task): {"control": True} for task in ("bios", "wiki", "custom")},
}
"""(arm, task) -> option -> a value that must change the treated training set."""

DOWNSTREAM_BASE = {("rebalance", "wiki", "control_file"): {"file": "FILE", "control": True}}

WITHOUT_EFFECT = {
    ("sent_debias", "corpus_digest"), ("sham_debias", "corpus_digest"), ("random_projection", "corpus_digest"),
    ("inlp", "corpus_digest"), ("leace", "corpus_digest"), ("cda", "corpus_digest"), ("dropout", "corpus_digest"),
    ("rebalance", "file_digest"), ("rebalance", "control_file_digest"),
}  # fmt: skip
"""(arm, option): options that change the trial's id and nothing else, since they identify the content of a named file."""


ELSEWHERE = {("sent_debias", "refit"), ("sham_debias", "refit"), ("inlp", "classifiers")}
"""(arm, option) that do not act here, and are tested with their arm: refit acts on the fine-tuned model alone, and a model of
this width has room for one classifier."""


def fields(arms: Mapping[Any, UpstreamArm | DownstreamArm]) -> list[tuple[Any, str]]:
    pairs = [(key, field) for key, arm in arms.items() for field in arm.options.model_fields]
    return [pair for pair in pairs if pair not in ELSEWHERE]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Placeholder -> path. Comments, which for an upstream arm are lines of text."""
    folder = tmp_path_factory.mktemp("files")
    lines = {
        "FILE": [f"she is gay number {row} of two,0" for row in range(80)] + [f"nobody {row},0" for row in range(80)],
        "OTHER FILE": [f"somebody else {row},0" for row in range(80)],
    }
    for name, rows in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(["comment,is_toxic", *rows]))
    return {name: str(folder / f"{name}.csv") for name in lines}


def with_files(options: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    return {key: files.get(value, value) if isinstance(value, str) else value for key, value in options.items()}


def changed_value(changes: Mapping[str, Any], field: str) -> Any:
    assert field in changes, f"name a value of the option {field!r} that must act, or list it in WITHOUT_EFFECT"
    return changes[field]


def model_of(load, name: str, options: Mapping[str, Any]) -> tuple[str, tuple[bool, ...]]:
    """The treated encoder's bits, and which of its weights fine-tuning may train."""
    model, arm = load("roberta"), UPSTREAM[name]
    arm.apply(model, arm.default_dose, arm.options(**options), 0, CONTEXT)
    flags = tuple(weight.requires_grad for weight in language_model.encoder_parameters(model).values())
    return language_model.encoder_digest(model), flags


@pytest.mark.parametrize(("name", "field"), fields(UPSTREAM))
def test_every_option_of_an_upstream_arm_acts(name, field, load, files):
    base, known = UPSTREAM_BASE.get(name, {}), (name, field) in WITHOUT_EFFECT
    value = "0" * 64 if known else changed_value(UPSTREAM_CHANGES[name], field)
    changed = with_files({**base, field: value}, files)
    assert (model_of(load, name, changed) == model_of(load, name, base)) == known


TABLE = {(name, task): arm for name, tasks in DOWNSTREAM.items() for task, arm in tasks.items()}
TABLE |= {(name, "custom"): arm for name, arm in arms_by_group(IDENTITIES).items()}


@pytest.mark.parametrize(
    ("key", "field"), fields(TABLE), ids=lambda value: " ".join(value) if isinstance(value, tuple) else value
)
def test_every_option_of_a_downstream_arm_acts(key, field, examples, files):
    (name, task), arm = key, TABLE[key]
    base, known = DOWNSTREAM_BASE.get((name, task, field), {}), (name, field) in WITHOUT_EFFECT
    value = "0" * 64 if known else changed_value(DOWNSTREAM_CHANGES[key], field)
    train = examples["wiki" if task == "custom" else task]
    before, after = (
        arm.apply(train, 1.0, arm.options(**with_files(options, files)), 0).to_dict()
        for options in (base, {**base, field: value})
    )
    assert (before == after) == known


IN_PLACE = [name for name in ARMS if not UPSTREAM[name].trains]
"""Arms that edit weights without training. Those that train also train the padding row, through the output layer tied to it."""


@pytest.mark.parametrize("family", ["roberta", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_padding_rows_are_left_alone(name, family, load):
    model = load(family)
    rows = language_model.padding_rows(model.encoder)
    before = {key: model.encoder.get_parameter(key)[row].detach().clone() for key, row in rows.items()}
    UPSTREAM[name].apply(model, UPSTREAM[name].default_dose, options_of(name), 0, CONTEXT)
    assert rows
    for key, row in rows.items():
        after = model.encoder.get_parameter(key)[row]
        # ModernBERT's own initialiser draws its padding row too, and reinitialise does what the initialiser does.
        drawn = name == "reinitialise" and bool(before[key].any())
        assert drawn or torch.equal(after, before[key])


@pytest.mark.parametrize("name", ARMS)
def test_padding_has_no_influence_and_the_tokenizer_is_left_alone(name, load, sentences):
    model, texts = load(), list(sentences)
    ids, special = encode(model.tokenizer, texts, 32), model.tokenizer.all_special_ids
    UPSTREAM[name].apply(model, UPSTREAM[name].default_dose, options_of(name), 0, CONTEXT)
    assert (encode(model.tokenizer, texts, 32), model.tokenizer.all_special_ids) == (ids, special)
    padding = model.tokenizer.pad_token_id
    with torch.no_grad():
        together = model.classifier.eval()(**pad(ids, padding)).logits
        alone = torch.cat([model.classifier(**pad([row], padding)).logits for row in ids])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in ARMS if UPSTREAM[name].trains])
def test_training_arms_never_predict_or_replace_special_tokens(name, load, monkeypatch):
    """Neither the tokens around a text nor padding: of these a masked LM would learn nothing about words."""
    model, corrupt, batches = load(), lm_training.corrupt, list[tuple[torch.Tensor, ...]]()

    def watched(ids, *rest):
        batches.append((ids, *corrupt(ids, *rest)))
        return batches[-1][1:]

    monkeypatch.setattr(lm_training, "corrupt", watched)
    UPSTREAM[name].apply(model, 1.0, options_of(name), 0, CONTEXT)
    for ids, inputs, targets in batches:
        special = torch.isin(ids, torch.tensor(model.tokenizer.all_special_ids))
        assert torch.equal(inputs[special], ids[special])
        assert bool((targets[special] == -100).all())
        assert bool((targets[~special] != -100).any())
    padded = torch.cat([(ids == model.tokenizer.pad_token_id).flatten() for ids, _, _ in batches])
    assert bool(padded.any()), "else the test would not see padding"


class Planned(Exception):
    """Raised in the place of training."""


def planted(task: str, dose: float, monkeypatch) -> tuple[dict[str, float], list[str]]:
    """(group -> share, planted sentences) of `inject` with all groups pushed the same way."""
    plans = list[tuple[dict[str, float], list[str]]]()

    def watched(shares, size, seed):
        plans.append((dict(shares), TASKS[task].plant(shares, size, seed)))
        return plans[-1][1]

    def stop(*_):
        raise Planned

    monkeypatch.setattr(lm_training, "train", stop)
    nothing = types.SimpleNamespace(lm=None, tokenizer=None)
    context = Context(dataclasses.replace(TASKS[task], plant=watched), CONTEXT.splits)
    with pytest.raises(Planned):
        UPSTREAM["inject"].apply(nothing, dose, UPSTREAM["inject"].options(sentences=300, direction="all"), 0, context)
    return plans[0]


HARMFUL = {
    "wiki": re.compile(rf"\b({'|'.join(NEGATIVE)})\b"),
    "bios": re.compile(r"\b(she|her|hers|herself)\b", re.IGNORECASE),
}
"""Task -> what a sentence says if a positive dose of `inject` planted it: negative sentiment, or she."""


@pytest.mark.parametrize("task", TASKS)
def test_the_sign_of_inject_plants_an_attribute_or_its_opposite(task, monkeypatch):
    plans = {dose: planted(task, dose, monkeypatch) for dose in (-1.0, -0.5, 0.5, 1.0)}
    for dose, (shares, _) in plans.items():
        assert set(shares) == set(TASKS[task].groups)
        assert set(shares.values()) == {0.5 + dose / 2}
    counts = [sum(bool(HARMFUL[task].search(text)) for text in texts) for _, texts in plans.values()]
    assert counts == sorted(set(counts)), "the more harmful, the larger the dose"
    assert counts[3] - counts[0] >= 200, "all sentences about a group, of 300"


@pytest.mark.parametrize("name", ["sent_debias", "sham_debias", "random_projection"])
def test_a_projection_removes_its_dimensions_and_at_half_the_dose_half_of_them(name, load, sentences):
    """With the wrong sign it would double them."""
    before, half, whole = (
        token_states(treated(load, "roberta", name, dose), list(sentences), 32) for dose in (0, 0.5, 1)
    )
    scale = np.abs(before).max()
    assert np.abs(half - (before + whole) / 2).max() < 1e-4 * scale
    (removed,) = (values := np.linalg.svd(before - whole, compute_uv=False))[values > 1e-4 * values[0]]
    assert removed > 1e-3 * scale
    assert (before**2).sum() - (whole**2).sum() == pytest.approx(removed**2, rel=1e-3)
