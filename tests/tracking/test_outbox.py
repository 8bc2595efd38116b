"""What is kept comes back as it was, whole or not at all."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from bias_transfer.tracking import outbox
from bias_transfer.tracking import results
from bias_transfer.tracking.outbox import Entry
from bias_transfer.spec import Measure
from bias_transfer.spec import Step
from bias_transfer.spec import Trial
from bias_transfer.spec import TrialResult
from bias_transfer.errors import UserError

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
    assert outbox.keep(ENTRY, scheme + storage) == f"{scheme}{storage}/outbox"
    found = outbox.read("one", TRIAL.id, storage)
    assert repr(found) == repr(ENTRY)  # NaN is not equal to itself, and repr tells every bit
    assert results.long_table(found.outcome).equals(results.long_table(RESULT))
    assert outbox.ids("one", storage) == [TRIAL.id]
    assert outbox.outcomes("one", storage) == {TRIAL.id: ""}
    assert outbox.experiments(storage) == ["one"]
    outbox.remove("one", TRIAL.id, storage)
    assert not folder(storage).exists()
    assert outbox.ids("one", storage) == outbox.experiments(storage) == []


def test_an_error_is_kept_too_and_gives_way_to_a_result_but_not_the_other_way(storage):
    failed = dataclasses.replace(ENTRY, outcome="ValueError: no")
    outbox.keep(failed, storage)
    assert outbox.read("one", TRIAL.id, storage) == failed
    assert outbox.outcomes("one", storage) == {TRIAL.id: "ValueError: no"}
    outbox.keep(ENTRY, storage)
    outbox.keep(failed, storage)
    assert outbox.outcomes("one", storage) == {TRIAL.id: ""}


def test_what_was_cut_off_is_not_there(storage, monkeypatch):
    put = outbox.write

    def dies(filesystem, path, content):
        if path.endswith(outbox.ENTRY):
            raise OSError(28, "No space left on device", path)
        put(filesystem, path, content)

    monkeypatch.setattr(outbox, "write", dies)
    with pytest.raises(OSError, match="No space"):
        outbox.keep(ENTRY, storage)
    assert (folder(storage) / outbox.MEASURES).exists()
    assert outbox.ids("one", storage) == []


@pytest.mark.parametrize("name", [outbox.ENTRY, outbox.MEASURES])
def test_what_is_damaged_is_said_to_be_and_runs_again(storage, name):
    outbox.keep(ENTRY, storage)
    file = folder(storage) / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises((ValueError, OSError)):
        outbox.read("one", TRIAL.id, storage)
    assert outbox.outcomes("one", storage) == {}


def test_an_entry_of_another_trial_is_refused(storage):
    outbox.keep(ENTRY, storage)
    folder(storage).rename(folder(storage).with_name("f" * 12))
    with pytest.raises(ValueError, match=f"it is of trial {TRIAL.id}"):
        outbox.read("one", "f" * 12, storage)


def test_nothing_there_is_nothing_kept_and_a_wrong_address_is_told(storage):
    assert outbox.ids("one", storage) == []
    assert not Path(storage).exists()
    with pytest.raises(UserError, match="BIAS_TRANSFER_STORAGE: 'nothing://here' cannot be used"):
        outbox.ids("one", "nothing://here")
    assert outbox.place("s3://key:secret@bucket/runs") == "s3://bucket/runs/outbox"
