"""The id of a trial, its streams, and the messages for what is misspelt."""

from __future__ import annotations

import pytest
from pydantic import Field

from bias_transfer.errors import UserError, look_up, unknown
from bias_transfer.hashing import derive_seed, digest
from bias_transfer.spec import OWNERS, Options, Trial, parse, parse_trial

RESOLVED = {"data_digest": "d", "model_digest": "m"}

OTHER = {
    "task": "bios",
    "task_digest": "own@c",
    "data_digest": "e",
    "model_digest": "n",
    "upstream": "perturb",
    "upstream_dose": 0.25,
    "downstream": "scrub",
    "downstream_dose": 0.25,
    "options": {"data.size": 300},
    "seed": 1,
    "epochs": 2.5,
    "batch_size": 16,
    "micro_batch_size": 32,
    "learning_rate": 1e-4,
    "warmup": 0.0,
    "weight_decay": 0.0,
    "clip": 2.0,
    "max_tokens": 64,
    "precision": "bf16",
    "threads": 2,
    "tuning": "frozen",
    "plugins_digest": "p",
}
"""Another value for each field that enters the id."""

NEEDS = {"upstream_dose": {"upstream": "reinitialise"}, "downstream_dose": {"downstream": "rebalance"}}


def trial(**fields: object) -> Trial:
    return Trial(**{**RESOLVED, **fields})


def test_every_field_but_the_names_of_data_model_and_plugins_is_tried_below():
    assert set(OTHER) == set(Trial.model_fields) - {"data", "model", "plugins"}


@pytest.mark.parametrize("field", OTHER)
def test_the_id_differs_by_every_field(field):
    base = trial(**NEEDS.get(field, {}))
    changed = trial(**{**NEEDS.get(field, {}), field: OTHER[field]})
    assert changed.id != base.id


@pytest.mark.parametrize("option", [1, 1.0, "1", True])
def test_the_id_differs_by_an_option_and_its_value(option):
    ids = {trial().id, trial(options={"data.x": 2}).id, trial(options={"model.x": 1}).id}
    assert trial(options={"data.x": option}).id not in ids


def test_equal_trials_have_equal_ids_whatever_the_order_of_options():
    one = trial(options={"data.a": 1, "metric.b": 2}, seed=4)
    two = trial(seed=4, options={"metric.b": 2, "data.a": 1})
    assert (one, one.id) == (two, two.id)
    assert len(one.id) == 12
    assert int(one.id, 16) >= 0


def test_names_of_places_do_not_enter_the_id():
    assert trial(data="/here/comments", model="/there/roberta").id == trial(data="elsewhere", model="roberta-base").id


def test_a_default_that_is_written_out_is_the_default():
    assert trial(epochs=3, precision="fp32", warmup=0.1, options={}).id == trial().id


def test_whole_numbers_are_numbers():
    assert trial(epochs=3).id == trial(epochs=3.0).id
    assert trial(upstream="perturb", upstream_dose=1).id == trial(upstream="perturb", upstream_dose=1.0).id


def test_a_field_added_later_leaves_old_ids_alone_until_it_is_set():
    class Later(Trial):
        dropout: float | None = Field(default=None)

    assert Later(**RESOLVED).id == trial().id
    assert Later(**RESOLVED, dropout=0.1).id != trial().id


def test_plugins_are_modules_in_one_order_and_their_folders_do_not_enter_the_id():
    one = parse_trial({**RESOLVED, "plugins": ["b.c", "x/y/a.d"], "plugins_digest": "p"})
    assert one.plugins == ("x/y/a.d", "b.c")
    assert one.id == parse_trial({**RESOLVED, "plugins": ["a.d", "b.c"], "plugins_digest": "p"}).id
    assert parse_trial({"plugins": "a.d"}).plugins == ("a.d",)
    assert parse_trial({"plugins": []}) == Trial(plugins=None)
    with pytest.raises(ValueError, match="no id yet"):
        _ = parse_trial({**RESOLVED, "plugins": "a"}).id
    for wrong in ("a-b", "a.", ".a", "/", "a b", "", "1a", 3):
        with pytest.raises(UserError, match="is not the name of a module"):
            parse_trial({"plugins": [wrong]})
    with pytest.raises(UserError, match="the module a is named more than once"):
        parse_trial({"plugins": ["a", "x/a"]})


@pytest.mark.parametrize("missing", [{}, {"data_digest": "d"}, {"model_digest": "m"}])
def test_no_id_before_the_content_is_known(missing):
    with pytest.raises(ValueError, match=r"no id yet: .*resolve\(\) first"):
        _ = Trial(**missing).id


def test_the_numerics_version_enters_the_id(monkeypatch):
    before = trial().id
    monkeypatch.setattr("bias_transfer.spec.NUMERICS", -1)
    assert trial().id != before


def test_streams_are_what_they_always_were():
    """A change here changes every result: raise NUMERICS with it."""
    assert derive_seed(0, "head") == 1922757931537938525
    assert derive_seed(1, "order") == 3209055086111657733
    assert derive_seed(0, "upstream", "perturb", "w") == 3155434698573299673


def test_streams_do_not_depend_on_each_other():
    names = [
        ("head",),
        ("order",),
        ("dropout",),
        ("upstream", "perturb"),
        ("upstream", "reinitialise"),
        ("up", "stream"),
    ]
    drawn = [derive_seed(seed, *name) for seed in range(20) for name in names]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**63 for seed in drawn)
    assert derive_seed(1, "1") != derive_seed(11)
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")


def test_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


@pytest.mark.parametrize(
    ("key", "near"), [("sead", "seed"), ("learning_rte", "learning_rate"), ("batchsize", "batch_size")]
)
def test_an_unknown_key_is_answered_with_the_nearest(key, near):
    with pytest.raises(UserError, match=f"unknown key '{key}'. Did you mean '{near}'.*Allowed: .*upstream.OPTION"):
        parse_trial({key: 1})


def test_digests_are_not_offered_as_keys():
    with pytest.raises(UserError) as caught:
        parse_trial({"digest": 1})
    assert "_digest" not in str(caught.value)


@pytest.mark.parametrize("stage", ["upstream", "downstream"])
def test_dose_zero_is_written_none(stage):
    with pytest.raises(UserError, match=f"a dose of 0 changes nothing; write {stage}: none"):
        parse_trial({stage: "perturb", f"{stage}_dose": 0})
    with pytest.raises(UserError, match=f"{stage}: none takes no dose .got 0.5"):
        parse_trial({f"{stage}_dose": 0.5})


@pytest.mark.parametrize("key", ["upstrem.draw", "x.y", "data.", "seed.x"])
def test_an_option_has_an_owner(key):
    with pytest.raises(UserError, match=f"option '{key}' has no owner: .*{', '.join(OWNERS)}"):
        parse_trial({key: 1})


def test_options_are_read_by_owner():
    options = parse_trial({"data.size": 300, "downstream": "scrub", "downstream.control": True}).options_of
    assert options("data") == {"size": 300}
    assert options("downstream") == {"control": True}
    assert options("upstream") == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": -1}, {"seed": 0.5}, {"seed": "0"}, {"seed": True}, {"epochs": 0}, {"batch_size": 0}, {"batch_size": 1.5},
        {"warmup": 1}, {"clip": 0}, {"max_tokens": 7}, {"precision": "fp64"}, {"threads": 0}, {"data": 1},
        {"learning_rate": float("nan")}, {"data.size": [1]}, {"data.size": None},
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_named(fields):
    (key,) = fields
    with pytest.raises(UserError, match=key):
        parse_trial(fields)


@pytest.mark.parametrize("key", ["epochs", "learning_rate", "clip", "weight_decay", "upstream_dose"])
def test_infinity_is_no_setting(key):
    with pytest.raises(UserError, match=key):
        parse_trial({"upstream": "perturb", key: float("inf")})


def test_all_faults_are_told_in_one_message():
    with pytest.raises(UserError, match=r"seed: .*; threads: "):
        parse_trial({"seed": -1, "threads": 0})


def test_a_changed_copy_is_validated():
    assert trial().with_fields(seed=3) == trial(seed=3)
    with pytest.raises(UserError, match="seed"):
        trial().with_fields(seed=-3)


def test_a_trial_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        trial().seed = 3


def test_an_unknown_option_names_its_neighbours():
    class Own(Options):
        steps: int = 1
        width: int = 8

    assert parse(Own, {"steps": 3}, "model.").steps == 3
    with pytest.raises(UserError, match=r"unknown option 'model.step'. Did you mean 'model.steps'.*model.width"):
        parse(Own, {"step": 3}, "model.")
    with pytest.raises(UserError, match=r"model.width: .*got 'wide'"):
        parse(Own, {"width": "wide"}, "model.")


def test_look_up():
    assert look_up({"scrub": 1}, "scrub", "arm") == 1
    with pytest.raises(UserError, match=r"unknown arm 'scrubb'. Did you mean 'scrub'\? Allowed: none, scrub."):
        look_up({"scrub": 1, "none": 2}, "scrubb", "arm")
    assert unknown("arm", "zzzz", []) == "unknown arm 'zzzz'. Allowed: none."


def test_names_for_people():
    one = trial(
        model="/a/b/roberta/", upstream="perturb", upstream_dose=0.5, downstream="scrub", seed=2,
        options={"downstream.control": True, "upstream.draw": 3, "data.size": 300},
    )  # fmt: skip
    assert one.arm == "perturb=0.5(draw=3) + scrub(control)"
    assert one.name == "perturb=0.5(draw=3) + scrub(control) s2 wiki b/roberta"
    assert trial(seed=1).arm == trial(seed=2).arm == "none + none"
