"""All that decides a value is in its key, and nothing else."""

from __future__ import annotations

import torch

from bias_transfer import hashing
from bias_transfer.resolved import resolve
from bias_transfer.spec import Trial, parse_trial
from bias_transfer.storage import fingerprint
from bias_transfer.storage.fingerprint import model_key, upstream_key

FULL = {
    "task": "wiki", "data": "synthetic", "data.size": 300, "model": "tiny", "model.steps": 5, "upstream": "perturb",
    "upstream_dose": 0.5, "downstream": "scrub", "tuning": "lora", "metric.top_k": 5,
}  # fmt: skip
CHANGED = {
    "task": "bios", "data": "other", "model": "other", "upstream": "permute", "upstream_dose": 0.25, "seed": 1,
    "downstream": "rebalance", "downstream_dose": 0.5, "epochs": 1.0, "batch_size": 8, "micro_batch_size": 4,
    "learning_rate": 1e-5, "warmup": 0.2, "weight_decay": 0.1, "clip": 2.0, "max_tokens": 32, "precision": "bf16",
    "threads": 2, "tuning": None, "task_digest": "x", "data_digest": "x", "model_digest": "x",
}  # fmt: skip
DECISIVE = {
    "task", "task_digest", "data_digest", "model_digest", "upstream", "upstream_dose", "seed", "max_tokens", "precision",
    "threads",
}  # fmt: skip


def test_every_field_that_decides_changes_the_key_and_no_other_does():
    """A field that is added to Trial needs a place here."""
    given = resolve(parse_trial(FULL)).trial
    assert CHANGED.keys() | {"options"} == Trial.model_fields.keys()
    for name, value in CHANGED.items():
        same = upstream_key(given.model_copy(update={name: value})) == upstream_key(given)
        assert same == (name not in DECISIVE), name
    for name in given.options:
        other = given.model_copy(update={"options": {**given.options, name: "other"}})
        same = upstream_key(other) == upstream_key(given)
        assert same == name.startswith(("downstream.", "tuning.")), name
    options = {**given.options, "upstream.corpus": "here", "upstream.corpus_digest": "x"}
    placed = [given.model_copy(update={"options": {**options, **own}}) for own in ({}, {"upstream.corpus": "there"})]
    assert upstream_key(placed[0]) == upstream_key(placed[1]) != upstream_key(given)


def test_the_seed_decides_nothing_of_an_untreated_model():
    plain = [resolve(parse_trial({"seed": seed})).trial for seed in (0, 1)]
    treated = [resolve(parse_trial({"seed": seed, "upstream": "perturb"})).trial for seed in (0, 1)]
    assert upstream_key(plain[0]) == upstream_key(plain[1])
    assert upstream_key(treated[0]) != upstream_key(treated[1])


def forget() -> None:
    fingerprint._code.cache_clear()
    fingerprint._packages.cache_clear()


def test_the_code_the_packages_and_the_machine_are_in_every_key(monkeypatch, tmp_path):
    before = fingerprint.machine("cpu", 1)
    for target, name, value in (
        (fingerprint, "NUMERICS", -1),
        (fingerprint, "version", lambda name: "0"),
        (fingerprint, "CODE", tmp_path),
        (torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, value)
            forget()
            assert fingerprint.machine("cpu", 1) != before, name
    forget()
    assert fingerprint.machine("cpu", 1) == before != fingerprint.machine("cpu", 2)


def test_the_code_is_that_of_the_whole_package():
    """Else an edit of a metric would leave its cached values in use."""
    assert fingerprint.CODE.name == "bias_transfer"
    assert {"spec.py", "metrics", "tasks"} <= {path.name for path in fingerprint.CODE.iterdir()}


def test_the_model_and_its_options_are_in_its_key():
    given = resolve(parse_trial(FULL)).trial
    for other in ({"model_digest": "x"}, {"options": {**given.options, "model.steps": 6}}):
        assert model_key(given.model_copy(update=other)) != model_key(given)
    assert model_key(given.model_copy(update={"upstream": "permute"})) == model_key(given)
    assert hashing.text_digest(["ab", "c"]) != hashing.text_digest(["a", "bc"])
