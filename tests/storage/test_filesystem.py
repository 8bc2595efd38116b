"""Files that appear whole or not at all, wherever they lie."""

import os

import pytest
from pyarrow.fs import FileSystem

from bias_transfer.storage import filesystem as storage_filesystem
from bias_transfer.errors import UserError


def test_a_file_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path):
    for own in (str(tmp_path / "new"), f"file://{tmp_path}/uri"):
        filesystem, path = storage_filesystem.locate(own, "deep", "file")
        for content in (b"older", b"newer"):
            storage_filesystem.write(filesystem, path, content)
            assert storage_filesystem.read(filesystem, path) == content
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["file", "file"]


def test_a_write_that_is_cut_off_leaves_the_older_one(tmp_path, monkeypatch):
    filesystem, path = storage_filesystem.locate(str(tmp_path), "file")
    storage_filesystem.write(filesystem, path, b"older")
    put = storage_filesystem._put

    def full(filesystem: FileSystem, path: str, content: bytes) -> None:
        put(filesystem, path, content[:2])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(storage_filesystem, "_put", full)
    with pytest.raises(OSError, match="No space left on device"):
        storage_filesystem.write(filesystem, path, b"newer")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert storage_filesystem.read(filesystem, path) == b"older"


def test_a_kind_that_is_not_known_is_the_users_to_mend_and_a_password_is_not_told():
    with pytest.raises(UserError, match=r"BIAS_TRANSFER_STORAGE: 'ftq://x' cannot be used: .*s3://bucket/prefix"):
        storage_filesystem.locate("ftq://x")
    with pytest.raises(UserError) as error:
        storage_filesystem.locate("ftq://me:hunter2@bucket/prefix?secret_key=hunter2")
    assert "hunter2" not in str(error.value)
    assert storage_filesystem.shown("s3://key:secret@bucket/runs?region=x") == "s3://bucket/runs"


def test_where_it_is(monkeypatch, tmp_path):
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
