"""Plugins' modules: what belongs to one, that its bytes alone decide the digest, and that those very bytes are run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bias_transfer.config import modules
from bias_transfer.errors import UserError

FILES = {
    "lab/__init__.py": "",
    "lab/arms.py": "import math\nfrom . import tools\nfrom lab.deep.inner import VALUE\nUPSTREAM = {'n': VALUE}\n",
    "lab/tools.py": "def late():\n    import lab.lazy\n    return lab.lazy\n",
    "lab/lazy.py": "from bias_transfer.errors import UserError\n",
    "lab/deep/inner.py": "from ..tools import late\nVALUE = 1\n",
    "lab/unrelated.py": "raise SystemExit('executed')\n",
    "other.py": "",
}
COVERED = ["lab", "lab.arms", "lab.deep.inner", "lab.lazy", "lab.tools"]


def write(folder: Path, **changes: str) -> Path:
    for name, content in {**FILES, **changes}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lab", "alone")]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(tmp_path / "one")


def find(folder: Path, module: str = "lab.arms") -> modules.Plugin:
    (plugin,) = modules.find_all([f"{folder}/{module}"])
    return plugin


def test_a_plugin_is_what_it_imports_of_its_own_package(folder):
    assert [*find(folder).sources] == COVERED
    assert "lab.arms" not in sys.modules, "nothing is imported to find out"


@pytest.mark.parametrize(
    ("name", "moves"),
    [*((f"{name.replace('.', '/')}.py", True) for name in COVERED[1:]), ("lab/__init__.py", True),
     ("lab/unrelated.py", False), ("other.py", False)],
)  # fmt: skip
def test_the_digest_is_that_of_its_bytes_and_not_of_its_place(folder, tmp_path, name, moves):
    before = find(folder).digest
    assert find(write(tmp_path / "moved")).digest == before
    (folder / name).write_text(FILES[name] + "# edited\n")
    assert (find(folder).digest != before) is moves


def test_where_python_finds_it_or_in_the_current_folder(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no module lab.arms"):
        modules.find_all(["lab.arms"])
    monkeypatch.chdir(folder)
    (here,) = modules.find_all(["lab.arms"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    (on_path,) = modules.find_all(["lab.arms"])
    assert here.digest == on_path.digest == find(folder).digest


def test_what_is_sent_is_read_back_with_the_same_digest(folder, tmp_path):
    plugins = (find(folder), find(folder, "lab.tools"))
    for source in modules.sources_of(plugins).values():
        (tmp_path / source.flat).write_bytes(source.content)
    sent = modules.from_flat(tmp_path, ["lab.arms", "somewhere/else/lab.tools"])
    assert modules.digest_of(sent) == modules.digest_of(plugins)
    assert modules.digest_of(plugins) not in (None, modules.digest_of(plugins[:1]))
    assert modules.load(sent)[0].VALUE == 1


def test_the_version_that_is_asked_for_runs_whatever_was_imported_before(folder, tmp_path, monkeypatch):
    changed = {"lab/deep/inner.py": "VALUE = 2\n", "lab/lazy.py": "NEW = True\n"}
    later = find(write(tmp_path / "two", **changed))
    monkeypatch.syspath_prepend(str(folder))
    import lab.arms  # as a program that uses the package would

    assert lab.arms.VALUE == 1
    (module,) = modules.load([later])
    assert module.VALUE == 2
    assert module.tools.late().NEW
    (first,) = modules.load([find(folder)])
    assert (first.VALUE, module.VALUE) == (1, 2)
    assert modules.load([find(folder)])[0] is first, "loaded once"
    assert not any(isinstance(finder, modules._Finder) for finder in sys.meta_path)


def test_the_bytes_that_were_digested_run_and_not_those_on_disk(folder):
    plugin = find(folder)
    (folder / "lab/deep/inner.py").write_text("VALUE = 3\n")
    assert modules.load([plugin])[0].VALUE == 1


FAULTS = [
    ({}, "lab.armz", r"there is no module lab.armz. Did you mean 'lab.arms'\?"),
    ({}, "json", "json belongs to Python's standard library"),
    ({}, "bias_transfer.spec", "bias_transfer belongs to this project"),
    ({"lab/tools.py": "def ("}, "lab.arms", r"tools.py is not valid Python: line 1"),
    ({"alone.py": "import other\n"}, "alone", "imports other, which is stored next to it and is not in its package"),
]


@pytest.mark.parametrize(("changes", "module", "message"), FAULTS, ids=[fault[2] for fault in FAULTS])
def test_what_cannot_be_a_plugin_is_refused_before_anything_runs(tmp_path, changes, module, message):
    with pytest.raises(UserError, match=message):
        find(write(tmp_path, **changes), module)
    assert not {"lab", "alone"} & sys.modules.keys()


BROKEN = [
    ({"lab/deep/inner.py": "\n\nVALUE = 1 / 0\n"}, r"cannot be imported: ZeroDivisionError: .*inner.py:3\)"),
    ({"lab/lazy.py": "import not_there_at_all\n"}, r"No module named 'not_there_at_all' \(.*lazy.py:1\)"),
    ({"lab/lazy.py": "raise SystemExit(1)\n"}, r"cannot be imported: SystemExit"),
    ({"lab/lazy.py": "import importlib\nimportlib.import_module('lab.more')\n", "lab/more.py": ""},
     "loads lab.more otherwise than by an import statement"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_what_cannot_be_imported_says_where_and_leaves_nothing(tmp_path, changes, message):
    plugin = find(write(tmp_path, **changes))
    with pytest.raises(UserError, match=message):
        modules.load([plugin])
    assert not {name for name in sys.modules if name in COVERED}


def test_two_packages_of_one_name_are_refused(folder, tmp_path):
    second = write(tmp_path / "two", **{"lab/tools.py": "TASKS = {}\n"})
    with pytest.raises(UserError, match="are both the module lab.tools"):
        modules.load([find(folder), find(second, "lab.tools")])
