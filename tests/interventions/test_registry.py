"""Every entry of UPSTREAM and DOWNSTREAM, on every family: an arm is tested on arrival."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset

from bias_transfer.models import language_model
from bias_transfer.interventions.registry import DOWNSTREAM
from bias_transfer.interventions.registry import UPSTREAM
from bias_transfer.interventions.registry import check_downstream_dose
from bias_transfer.interventions.registry import downstream_arm
from bias_transfer.errors import UserError
from bias_transfer.tasks.wiki.synthetic import SyntheticOptions
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.base import Context
from bias_transfer.tasks.wiki.identity_terms import mentioned

CONTEXT = Context(TASKS["wiki"], TASKS["wiki"].load("synthetic", SyntheticOptions(size=200, pretraining_sentences=300)))
ARMS = [name for name in UPSTREAM if name != "none"]
DRAW_NOTHING = {"sent_debias", "sham_debias"}
TASK_ARMS = [(name, task) for name, tasks in DOWNSTREAM.items() if name != "none" for task in tasks]


def options_of(name: str):
    """The arm's defaults, but for how long it trains."""
    return UPSTREAM[name].options(**({"steps": 5, "sentences": 100} if name == "inject" else {}))


def treated(load, family: str, name: str, dose: float | None = None, seed: int = 0):
    model, arm = load(family), UPSTREAM[name]
    arm.apply(model, arm.default_dose if dose is None else dose, options_of(name), seed, CONTEXT)
    return model


@pytest.mark.parametrize("family", language_model.FAMILIES)
@pytest.mark.parametrize("name", ARMS)
def test_an_upstream_arm_reaches_both_heads(name, family, load, outputs):
    for before, after in zip(outputs(load(family)), outputs(treated(load, family, name)), strict=True):
        assert (before - after).abs().max() > 1e-3


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
    assert same == (name in DRAW_NOTHING)


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


def test_perturb_draws_for_each_weight_anew(load):
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
    behind = [name for name in language_model.encoder_parameters(model) if name.startswith(language_model.BEHIND_THE_LAYERS)]
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
        assert not torch.equal(language_model.head_parameters(before)[name], language_model.head_parameters(after)[name])


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
        downstream_arm("scrubb", "wiki")
    monkeypatch.setitem(DOWNSTREAM, "scrub", {"wiki": DOWNSTREAM["scrub"]["wiki"]})
    with pytest.raises(UserError, match="has no downstream arm 'scrub'. Allowed: none, rebalance"):
        downstream_arm("scrub", "bios")


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
    arm = downstream_arm("scrub", "wiki")
    after = arm.apply(comments, dose, arm.options(), 0)
    assert len(mentions(after)) == 10 - 10 * dose
    assert len(comments) - len(after) == 10 * dose
    gone = set(comments["id"]) - set(after["id"])
    assert gone <= set(mentions(comments))
    assert [name for name in comments["id"] if name not in gone] == list(after["id"])


def test_scrub_at_a_smaller_dose_removes_a_part_of_what_a_larger_removes(comments):
    arm = downstream_arm("scrub", "wiki")
    kept = [set(arm.apply(comments, dose, arm.options(), 3)["id"]) for dose in (0.3, 0.6, 1.0)]
    assert kept[0] > kept[1] > kept[2]


def test_scrubs_control_removes_as_many_that_mention_none(comments):
    arm = downstream_arm("scrub", "wiki")
    after = arm.apply(comments, 1.0, arm.options(control=True), 0)
    assert len(mentions(after)) == 10
    assert len(comments) - len(after) == 10
    assert sum(after["label"]) == sum(comments["label"]) - 10


def test_scrubs_control_says_when_it_lacks_comments():
    few = Dataset.from_dict({"id": ["1", "2"], "text": ["gay fool", "hello"], "label": [1, 0]})
    arm = downstream_arm("scrub", "wiki")
    with pytest.raises(UserError, match="there are 0"):
        arm.apply(few, 1.0, arm.options(control=True), 0)


@pytest.fixture(scope="module")
def examples(comments) -> dict[str, Dataset]:
    """Task -> what its arms can act on."""
    texts = [f"{'She' if row % 3 else 'He'} has text number {row}" for row in range(60)]
    biographies = {
        "id": [f"b{row}" for row in range(60)], "text": texts, "label": [row % 2 for row in range(60)],
        "pronoun": ["she" if row % 3 else "he" for row in range(60)],
    }  # fmt: skip
    return {"wiki": comments, "bios": Dataset.from_dict(biographies)}


@pytest.mark.parametrize(("name", "task"), TASK_ARMS)
def test_a_downstream_arm_at_dose_0_changes_nothing_and_follows_its_seed(name, task, examples):
    arm, own = downstream_arm(name, task), examples[task]
    assert arm.apply(own, 0.0, arm.options(), 0).to_dict() == own.to_dict()
    first, again, other = (arm.apply(own, 0.5, arm.options(), seed).to_dict() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("name", "task"), TASK_ARMS)
def test_a_downstream_arm_keeps_columns_and_ids_apart(name, task, examples):
    arm = downstream_arm(name, task)
    for control in (False, True):
        after = arm.apply(examples[task], 1.0, arm.options(control=control), 0)
        assert after.features == examples[task].features
        assert len(set(after["id"])) == len(after)
        assert after.to_dict() != examples[task].to_dict()
        assert arm.notes(examples[task], arm.options(control=control)) == []
