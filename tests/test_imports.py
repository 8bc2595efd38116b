"""Imports go one way, layer by layer, and heavy packages are imported in one place each (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEVELS = (
    ("__main__",),
    ("trial", "commands", "sweep"),
    ("kept_models",),
    ("pipeline", "memory"),
    ("resolved",),
    ("plugins",),
    ("interventions", "provenance"),
    ("tasks", "training", "tracking", "cluster"),
    ("metrics", "storage", "config"),
    ("models", "spec", "console"),
    ("errors", "hashing", "rounding", "determinism"),
)
"""The layers of bias_transfer, top first: a package or module imports what is in a lower layer, or in its own package."""

WITHIN_A_LAYER = {
    ("trial", "commands"),  # two lines that start a command
    ("pipeline", "memory"),
    ("training", "tracking"),
    ("metrics", "storage"),
}
"""(importer, imported) of one layer: each pair goes one way only."""

ANALYSIS = (
    ("__main__",),
    ("report",),
    ("findings",),
    ("figures",),
    ("estimands",),
    ("stats", "data"),
)
"""The layers of analysis."""

STANDARD_LIBRARY_ALONE = ("errors", "hashing", "rounding")

ONE_PLACE = {
    "accelerate": {"training/finetune"},
    "mlflow": {"tracking", "sweep/driver", "commands"},
    "peft": {"training/tuning"},
    "ray": {"sweep", "cluster"},
}
"""Third-party package -> the packages, or modules, that import it; in tracking's case the others name its client's type."""

FOR_ANALYSIS = {"tracking", "config", "storage", "spec", "console", "errors", "hashing"}
"""What analysis uses of bias_transfer: nothing that loads torch."""


def imported(source: str) -> Iterator[str]:
    """Dotted names that the code imports, late and for type checkers too; not under `if __name__ == "__main__"`."""
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        todo += ast.iter_child_nodes(node)


def modules(package: str) -> dict[Path, str]:
    """File -> the part of the package that it belongs to: a top-level module, or a sub-package."""
    files = [file for file in (ROOT / package).rglob("*.py") if file.name != "__init__.py"]
    return {file: file.relative_to(ROOT / package).parts[0].removesuffix(".py") for file in files}


FILES = modules("bias_transfer")


def edges(package: str) -> set[tuple[str, str]]:
    """(part, part that it imports) for all imports within the package that leave their own part."""
    return {
        (part, name.split(".")[1])
        for file, part in modules(package).items()
        for name in imported(file.read_text(encoding="utf-8"))
        if name.startswith(f"{package}.") and name.split(".")[1] != part
    }


def climbing(found: set[tuple[str, str]], layers: tuple[tuple[str, ...], ...]) -> set[tuple[str, str]]:
    """The imports that do not go down."""
    level = {part: number for number, parts in enumerate(layers) for part in parts}
    return {(part, other) for part, other in found if level[other] <= level[part]}


def test_every_part_has_its_layer():
    assert set(FILES.values()) == {part for parts in LEVELS for part in parts}
    assert set(modules("analysis").values()) == {part for parts in ANALYSIS for part in parts}
    top = [file for file in (ROOT / "bias_transfer").glob("*.py") if not file.name.startswith("__")]
    assert len(top) <= 12


def test_imports_go_down():
    found = edges("bias_transfer")
    assert len(found) > 30
    assert climbing(found, LEVELS) <= WITHIN_A_LAYER
    assert not {(other, part) for part, other in WITHIN_A_LAYER} & found
    assert climbing(edges("analysis"), ANALYSIS) == set()


def test_an_import_that_goes_up_would_be_seen():
    assert climbing({("models", "metrics")}, LEVELS) == {("models", "metrics")}
    assert climbing({("tasks", "training")}, LEVELS) == {("tasks", "training")}
    assert [*imported("def f():\n    if x:\n        from bias_transfer import pipeline")] == ["bias_transfer.pipeline"]
    assert [*imported("if __name__ == '__main__':\n    import ray")] == []


def test_no_module_imports_in_a_circle():
    """Module by module, within a package too."""
    names = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file
        for package in ("bias_transfer", "analysis")
        for file in modules(package)
    }
    targets = {name: _modules_of(file, names) - {name} for name, file in names.items()}
    while leaves := {name for name, found in targets.items() if not found & targets.keys()}:
        targets = {name: found for name, found in targets.items() if name not in leaves}
    assert not targets


def _modules_of(file: Path, names: dict[str, Path]) -> set[str]:
    found = set(imported(file.read_text(encoding="utf-8")))
    return {name for name in names if name in found or any(other.rpartition(".")[0] == name for other in found)}


@pytest.mark.parametrize("part", STANDARD_LIBRARY_ALONE)
def test_the_lowest_layer_imports_the_standard_library_alone(part):
    found = {name.split(".")[0] for name in imported((ROOT / "bias_transfer" / f"{part}.py").read_text())}
    assert found <= sys.stdlib_module_names


@pytest.mark.parametrize("package", ONE_PLACE)
def test_a_heavy_package_is_imported_in_one_place(package):
    """In all of the project; imports for type checkers count too."""
    found = {
        file.relative_to(ROOT / top).with_suffix("").as_posix()
        for top in ("bias_transfer", "analysis")
        for file in modules(top)
        if any(name.split(".")[0] == package for name in imported(file.read_text(encoding="utf-8")))
    }
    assert found
    for name in found:
        assert any(name == place or name.startswith(f"{place}/") for place in ONE_PLACE[package]), name


def test_analysis_imports_little():
    used = {
        name.split(".")[1]
        for file in modules("analysis")
        for name in imported(file.read_text(encoding="utf-8"))
        if name.startswith("bias_transfer.")
    }
    assert used <= FOR_ANALYSIS


def test_the_longest_test_files_are_where_they_are_looked_for(pytestconfig):
    conftest = pytestconfig.pluginmanager.getplugin(str(Path(__file__).with_name("conftest.py")))
    assert [file for file in conftest.MINUTES if not file.exists()] == []


def test_packages_are_empty():
    """A package that imports its parts makes circles. tracking alone sets environment variables that MLflow reads."""
    inits = [*(ROOT / "bias_transfer").rglob("__init__.py"), *(ROOT / "analysis").rglob("__init__.py")]
    assert len(inits) >= 15
    filled = {file.parent.name: file.read_text() for file in inits if file.read_text().strip()}
    assert set(filled) == {"tracking"}
    assert not [name for name in imported(filled["tracking"]) if name.split(".")[0] in ("bias_transfer", "mlflow")]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (
            "bias_transfer.spec, bias_transfer.config.grid",
            "torch transformers datasets accelerate ray mlflow pandas numpy",
        ),
        ("bias_transfer.tracking.store", "torch transformers datasets accelerate ray sqlalchemy alembic"),
        ("bias_transfer.sweep.__main__", "torch transformers datasets accelerate ray mlflow"),
        ("bias_transfer.pipeline, bias_transfer.commands.trial", "ray mlflow peft sklearn scipy"),
        ("bias_transfer, analysis.data.runs", "torch transformers ray"),
    ],
)
def test_what_is_not_loaded(module, heavy):
    """The first shows that a package which is imported would be seen."""
    loaded = f"import sys, json, {module}; print(*({{name.split('.')[0] for name in sys.modules}}))"
    found = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = set(found.stdout.split())
    assert {"json", "bias_transfer"} <= packages
    assert packages & set(heavy.split()) == set()


def packages_of(folder: Path, module: str, *words: str) -> set[str]:
    """What is loaded when `python -m MODULE WORDS` ends."""
    told = "import runpy, sys; sys.argv[1:] = {!r}\ntry: runpy.run_module({!r}, run_name='__main__', alter_sys=True)\n"
    told += "finally: print('LOADED', *{{name.split('.')[0] for name in sys.modules}})"
    code = told.format(list(words), module)
    found = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert "LOADED" in found.stdout, found.stderr
    return set(found.stdout.rpartition("LOADED")[2].split())


COMMANDS = [
    "sweep", "trial", "inspect", "status", "sync", "pretrain", "convert", "predict", "export", "published", "runs", "analyse",
]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ["bias_transfer"],
        *(["bias_transfer", name] for name in COMMANDS),
        ["bias_transfer.sweep"],
        ["bias_transfer.trial"],
        ["analysis"],
    ],
)
def test_help_waits_for_no_heavy_package(words, tmp_path):
    loaded = packages_of(tmp_path, *words, "--help")
    assert "typer" in loaded
    assert loaded & {"torch", "transformers", "datasets", "accelerate", "ray", "mlflow", "pandas", "sklearn"} == set()


def test_a_dry_run_loads_what_it_takes_to_name_the_trials(tmp_path):
    """Tasks and arms are beside code that computes with torch: it is loaded. What runs or scores trials is not."""
    loaded = packages_of(tmp_path, "bias_transfer.sweep", "--dry-run")
    assert "torch" in loaded
    assert loaded & {"ray", "peft", "sklearn", "statsmodels", "matplotlib"} == set()
