"""A classifier that a trial kept answers with the bits of the trial; it is stored whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bias_transfer.errors import UserError
from bias_transfer.kept_models import ask, kept_bytes
from bias_transfer.memory import load_splits
from bias_transfer.models.batching import encode, pad
from bias_transfer.pipeline import run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import NUMERICS, Trial, parse_trial
from bias_transfer.storage.filesystem import write as write_file
from bias_transfer.training import finetune, kept

SMALL = {"data.size": 200, "data.pretraining_sentences": 300, "epochs": 0.5, "max_tokens": 16}
TINY = {"model.steps": 4, "model.width": 16, "model.layers": 1, "model.vocabulary": 1200}

CASES = [
    ("tiny", {"upstream": "sent_debias", "upstream.refit": True}),
    ("roberta", {"upstream": "perturb", "upstream_dose": 0.5}),
    ("bert", {"tuning": "frozen"}),
    ("roberta", {"tuning": "lora", "tuning.rank": 2, "upstream": "perturb", "upstream_dose": 0.5}),
    ("tiny", {"upstream": "random_projection"}),
    ("tiny", {"upstream": "inject", "upstream.steps": 2, "upstream.sentences": 100, "tuning": "lora"}),
    ("tiny", {"upstream": "random_projection", "tuning": "frozen", "precision": "bf16"}),
    ("tiny", {"upstream": "sent_debias", "upstream.refit": True, "tuning": "lora"}),
    ("tiny", {"upstream": "leace"}),
    ("modernbert", {"precision": "bf16"}),
    ("deberta-v2", {"tuning": "lora"}),
    ("distilbert", {}),
]


@pytest.fixture
def places(tmp_path) -> Places:
    return Places(cache=tmp_path / "cache", device="cpu", storage=str(tmp_path / "storage"), keep_models=True)


def run(fields, model: str, checkpoint, places: Places) -> tuple[Trial, np.ndarray]:
    """(trial, its logits on the test set)."""
    trial = parse_trial({**SMALL, **(TINY if model == "tiny" else {"model": checkpoint(model)}), **fields})
    logits, predict = list[np.ndarray](), finetune.predict
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "predict", lambda *given: (logits.append(predict(*given)), logits[-1])[1])
        result = run_trial(trial, places)
    return result.trial, logits[1]


def folder_of(trial: Trial, places: Places) -> Path:
    return Path(places.stored) / kept.FOLDER / trial.id


def stored(trial: Trial, places: Places) -> kept.Kept:
    return kept.load(places.stored, trial.id)


def texts_of(trial: Trial) -> list[str]:
    return load_splits(resolve(trial)).test["text"][:]


@pytest.mark.parametrize(
    ("model", "fields"),
    [pytest.param(*case, id=str(case), marks=[] if n < 5 else pytest.mark.long) for n, case in enumerate(CASES)],
)
def test_it_answers_with_the_bits_of_its_trial(model, fields, checkpoint, places, few_phrases):
    trial, logits = run(fields, model, checkpoint, places)
    torch.manual_seed(99)
    assert np.array_equal(ask(stored(trial, places), texts_of(trial), places), logits)
    weights = folder_of(trial, places) / kept.WEIGHTS
    resolved = resolve(trial)
    assert kept_bytes(resolved) == pytest.approx(weights.stat().st_size, rel=0.02, abs=15_000)
    if trial.tuning:
        assert [path.name for path in sorted(weights.parent.iterdir())] == [kept.WEIGHTS, kept.FACTS]
        whole = kept_bytes(resolve(trial.with_fields(tuning=None, options=dict(options_without_tuning(trial)))))
        assert kept_bytes(resolved) < whole / 3


def options_without_tuning(trial: Trial):
    return ((key, value) for key, value in trial.options.items() if not key.startswith("tuning."))


def test_a_whole_classifier_is_a_checkpoint_of_transformers(checkpoint, places, few_phrases):
    trial, _ = run({}, "bert", checkpoint, places)
    folder = folder_of(trial, places)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = texts_of(trial)[:4]
    with torch.no_grad():
        logits = model(**pad(encode(tokenizer, texts, 16), tokenizer.pad_token_id)).logits.numpy()
    np.testing.assert_allclose(logits, ask(stored(trial, places), texts, places), atol=1e-5)
    assert [*model.config.id2label.values()] == [*resolve(trial).task.labels]
    assert str(places.cache) not in "".join(path.read_text() for path in folder.glob("*config.json"))


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("fields", [{}, {"tuning": "lora"}], ids=str)
def test_the_same_trial_stores_the_same_bits_and_keeping_changes_no_id(fields, checkpoint, places, few_phrases):
    trial, logits = run(fields, "roberta", checkpoint, places)
    first = content(folder_of(trial, places))
    (folder_of(trial, places) / kept.WEIGHTS).write_bytes(b"older")
    assert run(fields, "roberta", checkpoint, places)[0] == trial
    assert content(folder_of(trial, places)) == first
    without, same = run(fields, "roberta", checkpoint, Places(cache=places.cache, device="cpu"))
    assert without.id == trial.id
    assert np.array_equal(same, logits)
    assert kept.ids(str(places.cache)) == frozenset()
    facts = json.loads((folder_of(trial, places) / kept.FACTS).read_text())
    assert (facts["id"], facts["numerics"], facts["task"]) == (trial.id, NUMERICS, "wiki")
    assert facts["model_digest"] == trial.model_digest
    assert len(facts["labels"]) == 2


def test_adapters_on_another_encoder_are_refused(checkpoint, places, few_phrases, tmp_path):
    trial, _ = run({"tuning": "lora"}, "roberta", checkpoint, places)
    with pytest.raises(UserError, match="not the one that they were trained on"):
        ask(stored(trial, places), ["a good cat"], places, model=checkpoint("bert"))


KEPT = kept.Kept(
    Trial(data_digest="d", model_digest="m"), ("no", "yes"), {"w": torch.ones(3)}, "", {"config.json": b"{}"}
)


def test_a_classifier_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """Every write can be the last: what is left does not count as a classifier."""
    storage, left = str(tmp_path), list[int]()

    def stop(filesystem, path: str, content: bytes) -> None:
        if not left:
            raise OSError("disk full")
        left.pop()
        write_file(filesystem, path, content)

    kept.save(storage, KEPT)
    monkeypatch.setattr(kept, "write", stop)
    for number in range(3):
        left[:] = range(number)
        with pytest.warns(UserWarning, match=f"{KEPT.trial.id} cannot be kept in .*disk full; its result is recorded"):
            kept.save(storage, KEPT)
        assert kept.ids(storage) == frozenset()
    left[:] = range(3)
    kept.save(storage, KEPT)
    assert kept.ids(storage) == {KEPT.trial.id}


def test_a_damaged_or_absent_classifier_is_reported(tmp_path):
    storage = str(tmp_path)
    with pytest.raises(UserError, match="unknown kept classifier 'abc'. Allowed: none"):
        kept.load(storage, "abc")
    kept.save(storage, KEPT)
    assert torch.equal(kept.load(storage, KEPT.trial.id).weights["w"], torch.ones(3))
    folder = tmp_path / kept.FOLDER / KEPT.trial.id
    facts = json.loads((folder / kept.FACTS).read_text())
    (folder / kept.FACTS).write_text(json.dumps({**facts, "files": {**facts["files"], "../x": ""}}))
    with pytest.raises(UserError, match="leaves its folder"):
        kept.load(storage, KEPT.trial.id)
    (folder / kept.FACTS).write_text(json.dumps(facts))
    (folder / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.json has other content than was written. Run the trial again"):
        kept.load(storage, KEPT.trial.id)
