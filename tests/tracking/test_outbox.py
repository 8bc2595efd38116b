"""An entry of the outbox is read as it was written, whole or not at all."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from bias_transfer.errors import UserError
from bias_transfer.spec import Measure, Step, Trial, TrialResult
from bias_transfer.tracking import outbox, results
from bias_transfer.tracking.outbox import Entry

TRIAL = Trial(data_digest="d", model_digest="m", learning_rate=1e-3, options={"data.size": 300, "model.name": "x"})
RESULT = TrialResult(
    trial=TRIAL,
    measures=(
        Measure("downstream", "fpr", "deaf", "", 0.1 + 0.2, 757),
        Measure("dataset", "toxic_share", "sikh", "The {group}.", math.nan, 0),
        Measure("dataset", "log_ratio", "", "", -math.inf, 3),
        Measure("dataset", "smallest", "", "", 5e-324, 3),
    ),
    curve=(Step(10, 1 / 3, 1e-3), Step(20, math.nan, 5e-4)),
    headline={"roc_auc": 0.1 + 0.7, "downstream_sd": math.nan},
    facts={"digest.train": "abc", "examples.train": 300, "family": "roberta"},
    warnings=("a warning",),
    seconds={"finetune": 1.234},
)
ENTRY = Entry("one", "a" * 32, "wiki s0", TRIAL, RESULT)


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return str(tmp_path / "storage")


def folder(storage: str) -> Path:
    return Path(storage) / "outbox" / "one" / TRIAL.id


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_result_comes_back_bit_for_bit(storage, scheme):
    assert outbox.add(ENTRY, scheme + storage) == f"{scheme}{storage}/outbox"
    entry = outbox.read("one", TRIAL.id, storage)
    assert repr(entry) == repr(ENTRY)  # not ==, since NaN is not equal to itself; repr shows every bit
    assert results.long_table(entry.outcome).equals(results.long_table(RESULT))
    assert outbox.ids("one", storage) == [TRIAL.id]
    assert outbox.outcomes("one", storage) == {TRIAL.id: ""}
    assert outbox.experiments(storage) == ["one"]
    outbox.remove("one", TRIAL.id, storage)
    assert not folder(storage).exists()
    assert outbox.ids("one", storage) == outbox.experiments(storage) == []


def test_kept_predictions_come_back(storage):
    kept = dataclasses.replace(ENTRY, outcome=dataclasses.replace(RESULT, predictions=b"a Parquet file"))
    outbox.add(kept, storage)
    assert outbox.read("one", TRIAL.id, storage).outcome.predictions == b"a Parquet file"
    outbox.add(ENTRY, storage)
    assert outbox.read("one", TRIAL.id, storage).outcome.predictions is None


def test_a_result_replaces_an_error_but_not_the_other_way_round(storage):
    failed = dataclasses.replace(ENTRY, outcome="ValueError: no")
    outbox.add(failed, storage)
    assert outbox.read("one", TRIAL.id, storage) == failed
    assert outbox.outcomes("one", storage) == {TRIAL.id: "ValueError: no"}
    outbox.add(ENTRY, storage)
    outbox.add(failed, storage)
    assert outbox.outcomes("one", storage) == {TRIAL.id: ""}


def test_an_entry_that_was_not_completed_does_not_exist(storage, monkeypatch):
    put = outbox.write

    def dies(filesystem, path, content):
        if path.endswith(outbox.ENTRY):
            raise OSError(28, "No space left on device", path)
        put(filesystem, path, content)

    monkeypatch.setattr(outbox, "write", dies)
    with pytest.raises(OSError, match="No space"):
        outbox.add(ENTRY, storage)
    assert (folder(storage) / outbox.MEASURES).exists()
    assert outbox.ids("one", storage) == []


@pytest.mark.parametrize("name", [outbox.ENTRY, outbox.MEASURES])
def test_a_damaged_entry_cannot_be_read_and_its_trial_runs_again(storage, name):
    outbox.add(ENTRY, storage)
    file = folder(storage) / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises((ValueError, OSError)):
        outbox.read("one", TRIAL.id, storage)
    assert outbox.outcomes("one", storage) == {}


def test_an_entry_of_another_trial_is_refused(storage):
    outbox.add(ENTRY, storage)
    folder(storage).rename(folder(storage).with_name("f" * 12))
    with pytest.raises(ValueError, match=f"it belongs to trial {TRIAL.id}"):
        outbox.read("one", "f" * 12, storage)


def test_a_missing_outbox_is_empty_and_a_wrong_uri_is_a_user_error(storage):
    assert outbox.ids("one", storage) == []
    assert not Path(storage).exists()
    with pytest.raises(UserError, match="BIAS_TRANSFER_STORAGE: 'nothing://here' cannot be used"):
        outbox.ids("one", "nothing://here")
    assert outbox.location("s3://key:secret@bucket/runs") == "s3://bucket/runs/outbox"
