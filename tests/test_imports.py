"""Imports go one way, and heavy packages are imported in one file each (DESIGN.md, "Imports go one way")."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEVELS = (
    ("sweep", "sync", "status"),
    ("sweep_run",),
    ("sweep_ray",),
    ("sweep_follow", "sweep_queue"),
    ("sweep_report", "sweep_kept", "sweep_worker"),
    ("sweep_plan", "content", "remote"),
    ("head", "ray_access"),
    ("trial_command", "pretrain_command"),
    ("trial",),
    ("yardstick", "interventions", "finetune", "facts"),
    ("training", "tuning"),
    ("pretrain",),
    ("tasks",),
    ("metrics",),
    ("delivery",),
    ("outbox",),
    ("embed", "tokenised", "first_token"),
    ("deciding",),
    ("models",),
    ("memo",),
    ("batching", "optimiser", "processor", "checkpoint", "hub", "foreign"),
    ("storage",),
    ("cache", "console"),
    ("grid", "tracking", "estimate"),
    ("yaml_text",),
    ("spec",),
)
"""Top first: a module imports of its own package what stands below it, or what lies in its own folder."""

ALONE = {
    "estimate": {"spec"},
    "grid": {"spec", "yaml_text"},
    "tracking": {"spec"},
    "spec": set[str](),
    "yaml_text": {"spec"},
}
"""Modules that import these of the package and no others."""

FREE = set[tuple[str, str]]()
"""Beside the levels."""

ONE_FILE = {
    "accelerate": {"finetune"},
    "mlflow": {"tracking"},
    "peft": {"tuning"},
    "ray": {"sweep_ray", "sweep_follow", "sweep_queue"},
}
"""Package -> the only modules, or folder, that import it."""

FOR_ANALYSIS = {"tracking", "grid", "spec", "console", "cache"}


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
    """File -> the part of the package that it belongs to: a module, or a folder."""
    files = [file for file in (ROOT / package).rglob("*.py") if file.name != "__init__.py"]
    return {file: file.relative_to(ROOT / package).parts[0].removesuffix(".py") for file in files}


FILES = modules("bias_transfer")
OWN = [
    (str(file.relative_to(ROOT)), part, name.split(".")[1])
    for file, part in FILES.items()
    for name in imported(file.read_text(encoding="utf-8"))
    if name.startswith("bias_transfer.")
]
"""(file, its part, the part that it imports)."""


def level(part: str) -> int:
    return next(number for number, parts in enumerate(LEVELS) if part in parts)


def faults(own: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [
        (file, other)
        for file, part, other in own
        if part != other and level(other) <= level(part) and (part, other) not in FREE
    ]


def test_every_module_has_its_level():
    assert set(FILES.values()) == {part for parts in LEVELS for part in parts}
    assert len(OWN) > 50


def test_imports_go_down():
    assert faults(OWN) == []


def test_an_import_that_goes_up_would_be_seen():
    assert faults([("models.py", "models", "metrics")]) == [("models.py", "metrics")]
    assert [*imported("def f():\n    if x:\n        from bias_transfer import trial")] == ["bias_transfer.trial"]
    assert [*imported("if __name__ == '__main__':\n    import ray")] == []


@pytest.mark.parametrize("part", ALONE)
def test_some_import_next_to_nothing(part):
    assert {other for _, own, other in OWN if own == part != other} == ALONE[part]


@pytest.mark.parametrize("package", ONE_FILE)
def test_one_file_imports_it(package):
    """In all of the project."""
    found = {
        part
        for file, part in {**FILES, **modules("analysis")}.items()
        if any(name.split(".")[0] == package for name in imported(file.read_text(encoding="utf-8")))
    }
    assert found == ONE_FILE[package]


def test_analysis_imports_little():
    used = {
        name.split(".")[1]
        for file in modules("analysis")
        for name in imported(file.read_text(encoding="utf-8"))
        if name.startswith("bias_transfer.")
    }
    assert used <= FOR_ANALYSIS


def test_packages_are_empty():
    """A package that imports its parts makes cycles. Only tracking does: to all others it is one module."""
    inits = [*(ROOT / "bias_transfer").rglob("__init__.py"), *(ROOT / "analysis").rglob("__init__.py")]
    assert len(inits) >= 5
    assert [file.parent.name for file in inits if file.read_text().strip()] == ["tracking"]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("bias_transfer.spec, bias_transfer.grid", "torch transformers datasets accelerate ray mlflow pandas numpy"),
        ("bias_transfer.tracking", "torch transformers datasets accelerate ray sqlalchemy alembic"),
        ("bias_transfer.sweep", "torch transformers datasets accelerate ray mlflow"),
        ("bias_transfer.trial, bias_transfer.trial_command", "ray mlflow peft sklearn scipy"),
        ("bias_transfer, analysis.load", "torch transformers ray"),
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


COMMANDS = ["sweep", "trial", "status", "sync", "pretrain"]


@pytest.mark.parametrize("module", [*(f"bias_transfer.{name}" for name in COMMANDS), "analysis"])
def test_help_waits_for_no_heavy_package(module, tmp_path):
    loaded = packages_of(tmp_path, module, "--help")
    assert "typer" in loaded
    assert loaded & {"torch", "transformers", "datasets", "accelerate", "ray", "mlflow", "pandas", "sklearn"} == set()


def test_a_dry_run_loads_what_it_takes_to_name_the_trials(tmp_path):
    """Tasks and arms are beside code that computes with torch: it is loaded. What runs or scores trials is not."""
    loaded = packages_of(tmp_path, "bias_transfer.sweep", "--dry-run")
    assert "torch" in loaded
    assert loaded & {"ray", "peft", "sklearn", "statsmodels", "matplotlib"} == set()
