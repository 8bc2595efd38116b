"""Files appear whole or not at all, on whatever file system they are stored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bias_transfer.errors import UserError
from bias_transfer.storage import filesystem as storage_filesystem


def test_a_file_replaces_an_older_one_and_leaves_nothing_else(tmp_path):
    for storage in (str(tmp_path / "new"), f"file://{tmp_path}/uri"):
        filesystem, path = storage_filesystem.locate(storage, "deep", "file")
        for content in (b"older", b"newer"):
            storage_filesystem.write(filesystem, path, content)
            assert storage_filesystem.read(filesystem, path) == content
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["file", "file"]


def test_a_write_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    filesystem, path = storage_filesystem.locate(str(tmp_path), "file")
    storage_filesystem.write(filesystem, path, b"older")
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> None:
        write(path, content[:2])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        storage_filesystem.write(filesystem, path, b"newer")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert storage_filesystem.read(filesystem, path) == b"older"


def test_an_unknown_kind_of_storage_is_a_user_error_that_shows_no_password():
    with pytest.raises(UserError, match=r"BIAS_TRANSFER_STORAGE: 'ftq://x' cannot be used: .*s3://bucket/prefix"):
        storage_filesystem.locate("ftq://x")
    with pytest.raises(UserError) as error:
        storage_filesystem.locate("ftq://me:hunter2@bucket/prefix?secret_key=hunter2")
    assert "hunter2" not in str(error.value)


def test_the_default_storage(monkeypatch, tmp_path):
    monkeypatch.setenv("BIAS_TRANSFER_STORAGE", "s3://bucket/prefix")
    assert storage_filesystem.default() == storage_filesystem.named(None) == "s3://bucket/prefix"
    assert storage_filesystem.named("file:///given") == "file:///given"
    monkeypatch.setenv("BIAS_TRANSFER_STORAGE", "")
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", str(tmp_path))
    assert storage_filesystem.default() is None
    assert storage_filesystem.named(None) == str(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIAS_TRANSFER_STORAGE", "own")
    assert storage_filesystem.default() == str(tmp_path / "own")
