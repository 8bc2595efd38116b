"""Files and folders appear whole or not at all, and nothing is left of those that were not completed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bias_transfer.storage import atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete_and_replaces_an_older_one(tmp_path: Path):
    target = tmp_path / "table"
    for durable in (False, True):
        with atomic.new_file(target, durable) as new:
            new.write_text(f"durable: {durable}")
            assert not durable or target.read_text() == "durable: False"
    assert target.read_text() == "durable: True"
    assert names(tmp_path) == ["table"]


def test_a_durable_file_is_flushed_before_it_is_renamed_and_its_folder_after(tmp_path: Path, monkeypatch):
    target, flushed = tmp_path / "table", list[tuple[bool, bool]]()
    monkeypatch.setattr(atomic, "_flush", lambda path: flushed.append((path.is_dir(), target.exists())))
    with atomic.new_file(target, durable=True) as new:
        new.write_text("content")
    assert flushed == [(False, False), (True, True)]


@pytest.mark.parametrize("error", [OSError(28, os.strerror(28)), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_older_content_and_nothing_else(tmp_path: Path, error: BaseException):
    (tmp_path / "table").write_text("older")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("older")

    def write_half(path: Path) -> None:
        path.write_text("half")
        raise error

    with pytest.raises(type(error)), atomic.new_file(tmp_path / "table") as new:
        write_half(new)
    with pytest.raises(type(error)), atomic.new_folder(tmp_path / "model", replace=True) as folder:
        write_half(folder / "weights")
    assert names(tmp_path) == ["model", "table"]
    assert (tmp_path / "table").read_text() == (tmp_path / "model" / "weights").read_text() == "older"


def test_a_folder_replaces_another_only_if_that_is_asked_for(tmp_path: Path):
    target = tmp_path / "model"
    with atomic.new_folder(target) as folder:
        (folder / "weights").write_text("first")
        assert not target.exists()
    with pytest.raises(OSError), atomic.new_folder(target) as folder:  # noqa: PT011 - its number depends on the system
        (folder / "weights").write_text("second")
    assert (target / "weights").read_text() == "first"
    with atomic.new_folder(target, replace=True) as folder:
        (folder / "config").write_text("third")
    assert names(target) == ["config"]
    assert names(tmp_path) == ["model"]


def test_permissions_are_those_of_any_new_file_and_folder(tmp_path: Path):
    """Others may read a cache that is shared, although nobody may read what is being written."""
    before = os.umask(0o027)
    try:
        with atomic.new_file(tmp_path / "table") as new:
            new.touch()
            assert stat.S_IMODE(new.parent.stat().st_mode) == 0o700
        with atomic.new_folder(tmp_path / "model"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "table").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o750


def test_what_a_killed_process_leaves_has_not_the_targets_name(tmp_path: Path):
    with atomic.new_file(tmp_path / "entry.json") as new:
        assert new.name != "entry.json"
        assert new.parent.name.startswith(".entry.json-")
        new.touch()
