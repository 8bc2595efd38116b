"""A checkpoint is whole or absent, belongs to one trial and runs no code. Problems with it stop no training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from bias_transfer.training import checkpoint
from bias_transfer.training.checkpoint import Place, State

STATE = State(
    {
        "weight": torch.tensor([[1.5, float("nan")], [float("-inf"), -0.0]]),
        "step": torch.tensor(3.0),
        "generator": torch.arange(256, dtype=torch.uint8),
        "none": torch.empty(0, 2, dtype=torch.int64),
    },
    {"rates": [0.1, 1e-300], "curve": [], "scaler": None},
)


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(str(tmp_path), "0123456789ab", 600.0, "cpu")


def file(place: Place) -> Path:
    return Path(place.storage) / "checkpoints" / place.trial / checkpoint.NAME


def same(one: State, other: State) -> bool:
    return one.facts == other.facts and {
        name: (value.dtype, value.shape, value.numpy().tobytes()) for name, value in one.tensors.items()
    } == {name: (value.dtype, value.shape, value.numpy().tobytes()) for name, value in other.tensors.items()}


def test_a_saved_state_is_loaded_bit_for_bit_and_can_be_forgotten(place):
    assert checkpoint.load_state(place) is None
    checkpoint.save_state(place, STATE)
    assert same(checkpoint.load_state(place), STATE)
    checkpoint.forget(place)
    assert checkpoint.load_state(place) is None
    assert not file(place).parent.exists()
    checkpoint.forget(place)


def test_the_newest_replaces_the_older_and_nothing_else_is_left(place):
    checkpoint.save_state(place, STATE)
    newer = State({"weight": torch.ones(2)}, {"step": 2})
    checkpoint.save_state(place, newer)
    assert same(checkpoint.load_state(place), newer)
    assert [path.name for path in file(place).parent.iterdir()] == [checkpoint.NAME]


def test_it_is_a_plain_safetensors_file_with_json(place):
    checkpoint.save_state(place, STATE)
    assert set(load(file(place).read_bytes())) == set(STATE.tensors)
    assert json.loads(checkpoint._metadata(file(place).read_bytes())["checkpoint"])["trial"] == place.trial


def test_views_of_one_storage_are_kept_apart(place):
    whole = torch.arange(6.0)
    checkpoint.save_state(place, State({"one": whole[:3], "two": whole[1:], "turned": whole.reshape(2, 3).T}))
    loaded = checkpoint.load_state(place)
    assert torch.equal(loaded.tensors["turned"], whole.reshape(2, 3).T)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def forge(content: bytes) -> bytes:
    """Another learning rate, in a header that is otherwise whole."""
    header = json.loads(checkpoint._metadata(content)["checkpoint"])
    header["facts"]["rates"] = [9.0, 9.0]
    return save(load(content), {"checkpoint": json.dumps(header)})


@pytest.mark.parametrize(
    "damage",
    [cut, flip, forge, lambda content: b"", lambda content: content[:9], lambda content: b"\x80\x04K\x01." * 9,
     lambda content: save({"weight": torch.ones(1)}), lambda content: save({}, {"checkpoint": "[]"})],
)  # fmt: skip
def test_a_damaged_one_is_reported_and_not_used(place, damage):
    checkpoint.save_state(place, STATE)
    file(place).write_bytes(damage(file(place).read_bytes()))
    with pytest.warns(
        UserWarning, match=r"checkpoints/0123456789ab is not used: .*; training starts from the beginning"
    ):
        assert checkpoint.load_state(place) is None
    checkpoint.save_state(place, STATE)
    assert same(checkpoint.load_state(place), STATE)


def test_one_of_another_trial_torch_or_device_is_reported_and_not_used(place, monkeypatch):
    other = dataclasses.replace(place, trial="another")
    checkpoint.save_state(other, STATE)
    file(place).parent.mkdir()
    file(place).write_bytes(file(other).read_bytes())
    with pytest.warns(UserWarning, match="its trial is another, not 0123456789ab"):
        assert checkpoint.load_state(place) is None
    checkpoint.save_state(place, STATE)
    monkeypatch.setattr(torch, "__version__", "1.0")
    with pytest.warns(UserWarning, match="its torch is .*, not 1.0"):
        assert checkpoint.load_state(place) is None
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS")
    with pytest.warns(UserWarning, match="its machine is cpu .*, not cpu "):
        assert checkpoint.load_state(place) is None


def test_a_storage_that_cannot_be_written_is_reported_and_stops_nothing(place):
    (Path(place.storage) / "checkpoints").write_text("a file is in the way")
    with pytest.warns(UserWarning, match=r"the checkpoint in .* cannot be written.*; training goes on"):
        checkpoint.save_state(place, STATE)
    assert checkpoint.load_state(place) is None
    checkpoint.forget(place)


def test_a_uri_and_a_relative_folder_name_the_same_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = [
        Place(storage, "t", 0.0, "cpu") for storage in (f"file://{tmp_path}/runs", "runs", str(tmp_path / "runs"))
    ]
    checkpoint.save_state(places[0], STATE)
    assert all(same(checkpoint.load_state(place), STATE) for place in places)


def test_a_password_in_a_uri_is_never_shown(place):
    storage = "ftq://me:hunter2@bucket/prefix?secret_key=hunter2"
    with pytest.warns(UserWarning, match="ftq://bucket/prefix/checkpoints/0123456789ab is not used") as warnings:
        checkpoint.load_state(dataclasses.replace(place, storage=storage))
    assert "hunter2" not in str(warnings[0].message)
