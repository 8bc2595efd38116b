"""A cache entry appears whole or not at all, is verified, and is made once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bias_transfer.errors import UserError
from bias_transfer.storage import cache


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".lock")


def write(target: Path) -> None:
    (target / "weights").write_text("all of it")


def test_an_entry_is_made_once_and_found_again(tmp_path):
    first = cache.entry(tmp_path, "tiny", "k", write)
    assert (first / "weights").read_text() == "all of it"
    assert files(tmp_path) == ["tiny", "tiny/k", "tiny/k/.manifest", "tiny/k/weights"]
    assert cache.entry(tmp_path, "tiny", "k", lambda target: pytest.fail("made twice")) == first


def test_a_deleted_entry_is_made_again(tmp_path):
    shutil.rmtree(cache.entry(tmp_path, "tiny", "k", write))
    assert (cache.entry(tmp_path, "tiny", "k", write) / "weights").is_file()


def test_keys_and_kinds_do_not_meet(tmp_path):
    made = [cache.entry(tmp_path, kind, key, write) for kind in ("tiny", "tokens") for key in ("a", "b.c", "b.d")]
    assert len({*made}) == 6


@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt(), UserError("no text")])
def test_nothing_is_left_of_an_entry_that_was_not_finished(tmp_path, error):
    def half(target: Path) -> None:
        write(target)
        raise error

    with pytest.raises(type(error)):
        cache.entry(tmp_path, "tiny", "k", half)
    assert files(tmp_path) == ["tiny"]
    cache.entry(tmp_path, "tiny", "k", write)
    assert files(tmp_path) == ["tiny", "tiny/k", "tiny/k/.manifest", "tiny/k/weights"]


def test_an_entry_is_not_visible_while_it_is_made(tmp_path):
    def look(target: Path) -> None:
        write(target)
        assert target.is_relative_to(tmp_path / "tiny")  # on the same file system, where renaming is one step
        assert not (tmp_path / "tiny" / "k").exists()

    cache.entry(tmp_path, "tiny", "k", look)


RACE = """
import sys, time
from pathlib import Path
from bias_transfer.storage import cache
folder = Path(sys.argv[1])

def make(target):
    with (folder / "made").open("a") as file:
        file.write("x")
    (target / "first").write_text("1")
    time.sleep(0.5)
    (target / "second").write_text("2")

(folder / f"ready-{sys.argv[2]}").touch()
while len(list(folder.glob("ready-*"))) < 4:
    time.sleep(0.01)
entry = cache.entry(folder / "cache", "tiny", "k", make)
print(sorted(path.name for path in entry.iterdir() if path.name != cache.MANIFEST))
"""


def race(folder: Path) -> list[str]:
    """What each of four processes sees that ask for the same entry at the same time."""
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(folder), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    return [racer.communicate(timeout=60)[0].strip() for racer in racers]


def test_many_processes_make_it_once_and_all_see_it_whole(tmp_path):
    assert race(tmp_path) == ["['first', 'second']"] * 4
    assert (tmp_path / "made").read_text() == "x"


def test_many_processes_replace_a_damaged_entry_once_and_all_see_it_whole(tmp_path):
    cache.entry(tmp_path / "cache", "tiny", "k", lambda target: (target / "first").write_text("1"))
    (tmp_path / "cache" / "tiny" / "k" / "first").unlink()
    assert race(tmp_path) == ["['first', 'second']"] * 4
    assert (tmp_path / "made").read_text() == "x"
    assert not [*(tmp_path / "cache" / "tiny").glob(".k*")]


def several(target: Path) -> None:
    (target / "inner").mkdir()
    (target / "inner" / "weights").write_bytes(bytes(range(256)) * 40)
    (target / "config").write_text("{}")


def truncate(entry: Path) -> None:
    os.truncate(entry / "inner" / "weights", 100)


def flip(entry: Path) -> None:
    content = bytearray((entry / "inner" / "weights").read_bytes())
    content[5000] ^= 1
    (entry / "inner" / "weights").write_bytes(content)


DAMAGES = {
    "inner/weights has 100 bytes instead of 10240": truncate,
    "inner/weights has other content than was written": flip,
    "config is missing": lambda entry: (entry / "config").unlink(),
    "it has no manifest": lambda entry: (entry / cache.MANIFEST).unlink(),
    "Expecting value": lambda entry: (entry / cache.MANIFEST).write_text(""),
    "": lambda entry: (entry / cache.MANIFEST).write_text("[1, 2]"),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_a_damaged_entry_is_reported_and_made_again(tmp_path, fault):
    cache.entry(tmp_path, "tiny", "k", several)
    DAMAGES[fault](tmp_path / "tiny" / "k")
    with pytest.warns(UserWarning, match=f"tiny/k is damaged and is made again: {fault}"):
        again = cache.entry(tmp_path, "tiny", "k", several)
    assert (again / "inner" / "weights").read_bytes() == bytes(range(256)) * 40
    assert cache.entry(tmp_path, "tiny", "k", lambda target: pytest.fail("made twice")) == again
    assert files(tmp_path) == [
        "tiny",
        *(f"tiny/k{name}" for name in ("", "/.manifest", "/config", "/inner", "/inner/weights")),
    ]


def test_an_entry_is_verified_once_per_process(tmp_path, monkeypatch):
    cache.entry(tmp_path, "tiny", "k", several)
    read, digest = list[str](), cache.file_digest
    monkeypatch.setattr(cache, "file_digest", lambda path: (read.append(path.name), digest(path))[1])
    for _ in range(3):
        cache.entry(tmp_path, "tiny", "k", several)
    assert sorted(read) == ["config", "weights"]


def test_a_process_that_is_reading_a_damaged_entry_reads_on(tmp_path):
    entry = cache.entry(tmp_path, "tiny", "k", several)
    (entry / "config").unlink()
    with (entry / "inner" / "weights").open("rb") as reader:
        first = reader.read(10)
        with pytest.warns(UserWarning, match="damaged"):
            cache.entry(
                tmp_path, "tiny", "k", lambda target: several(target) if entry.exists() else pytest.fail("gone")
            )
        assert first + reader.read() == bytes(range(256)) * 40


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can't be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("library", [False, True])
def test_a_full_disk_is_a_user_error_and_nothing_is_left(small_disk, library):
    """Both where Python writes and where a library does that raises an exception of its own."""

    def make(target: Path) -> None:
        if library:
            save_file({"weights": torch.zeros(100_000)}, target / "model.safetensors")
        (target / "weights").write_bytes(b"x" * 100_000)

    with pytest.raises(UserError, match=r"tiny/k cannot be written: No space left on device.*--cache FOLDER"):
        cache.entry(small_disk, "tiny", "k", make)
    assert files(small_disk) == ["tiny"]
    assert (cache.entry(small_disk, "tiny", "k", several) / "config").is_file()


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"the cache entry .*file/tiny/k cannot be written: Not a directory.*--cache"):
        cache.entry(tmp_path / "file", "tiny", "k", write)


def test_the_caches_folder(monkeypatch):
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", "/own")
    assert cache.default_folder() == Path("/own")
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/user")
    assert cache.default_folder() == Path("/user/bias-transfer")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/one")
    assert cache.default_folder() == Path("/home/one/.cache/bias-transfer")
