"""A cache entry appears whole or not at all, and is made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bias_transfer import cache
from bias_transfer.spec import UserError


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".lock")


def write(target: Path) -> None:
    (target / "weights").write_text("all of it")


def test_an_entry_is_made_once_and_found_again(tmp_path):
    first = cache.entry(tmp_path, "tiny", "k", write)
    assert (first / "weights").read_text() == "all of it"
    assert files(tmp_path) == ["tiny", "tiny/k", "tiny/k/weights"]
    assert cache.entry(tmp_path, "tiny", "k", lambda target: pytest.fail("made twice")) == first


def test_a_deleted_entry_is_made_again(tmp_path):
    (cache.entry(tmp_path, "tiny", "k", write) / "weights").unlink()
    (tmp_path / "tiny" / "k").rmdir()
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
    assert files(tmp_path) == ["tiny", "tiny/k", "tiny/k/weights"]


def test_the_entry_is_not_there_while_it_is_made(tmp_path):
    def look(target: Path) -> None:
        write(target)
        assert target.parent == tmp_path / "tiny"  # one file system, so that the renaming is one step
        assert not (tmp_path / "tiny" / "k").exists()

    cache.entry(tmp_path, "tiny", "k", look)


RACE = """
import sys, time
from pathlib import Path
from bias_transfer import cache
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
print(sorted(path.name for path in entry.iterdir()))
"""


def test_many_processes_make_it_once_and_all_see_it_whole(tmp_path):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    told = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert told == ["['first', 'second']"] * 4
    assert (tmp_path / "made").read_text() == "x"


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"the cache entry .*file/tiny/k cannot be written: Not a directory.*--cache"):
        cache.entry(tmp_path / "file", "tiny", "k", write)


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", "/own")
    assert cache.default_folder() == Path("/own")
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/user")
    assert cache.default_folder() == Path("/user/bias-transfer")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/one")
    assert cache.default_folder() == Path("/home/one/.cache/bias-transfer")
