"""Imports go one way, and Ray, MLflow and Accelerate are each imported by one file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEVELS = (
    {"spec"},
    {"batching", "cache", "console", "grid", "hub", "optimiser", "tracking"},
    {"models"},
    {"metrics"},
    {"tasks"},
    {"finetune", "interventions", "pretrain", "yardstick"},
    {"trial"},
    {"pretrain_command", "sweep_report", "trial_command"},
    {"sweep"},
)
"""A file imports files of its own level or below; `grid` and `tracking` import `spec` alone."""

LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
LATE = {("pretrain", "pretrain_command"), ("trial", "trial_command"), ("sweep_report", "sweep")}
"""Under `if __name__ == "__main__"`: `python -m bias_transfer.trial` is the command of that file."""

ANALYSIS_READS = {"console", "grid", "spec", "tracking"}
ONLY = {"accelerate": "finetune", "mlflow": "tracking", "ray": "sweep"}


def imported(path: Path) -> set[str]:
    """Modules that a file imports anywhere in it, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(path: Path) -> set[str]:
    """The parts of bias_transfer that a file imports: `tasks` for `bias_transfer.tasks.wiki`."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("bias_transfer.")}


FILES = sorted(path for path in (ROOT / "bias_transfer").rglob("*.py") if path.name != "__init__.py")


def part(path: Path) -> str:
    return path.relative_to(ROOT / "bias_transfer").parts[0].removesuffix(".py")


def test_every_file_has_a_level():
    assert {part(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    wrong = {name for name in own(path) if LEVEL[name] > LEVEL[part(path)] and (part(path), name) not in LATE}
    assert not wrong


@pytest.mark.parametrize("name", ["grid", "tracking"])
def test_grid_and_tracking_import_spec_alone(name):
    assert own(ROOT / "bias_transfer" / f"{name}.py") == {"spec"}


def test_spec_imports_nothing_of_ours():
    assert not own(ROOT / "bias_transfer" / "spec.py")


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").glob("*.py")), ids=lambda path: path.name)
def test_analysis_reads_runs_and_values_alone(path):
    assert own(path) <= ANALYSIS_READS


@pytest.mark.parametrize(("package", "file"), ONLY.items())
def test_one_file_imports_it(package, file):
    found = {part(path) for path in FILES if any(name.split(".")[0] == package for name in imported(path))}
    assert found == {file}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("bias_transfer.trial_command", {"ray", "mlflow"}),
        ("bias_transfer.grid", {"torch", "transformers", "datasets", "ray", "mlflow"}),
        ("bias_transfer.sweep", {"torch", "transformers", "datasets", "ray", "mlflow"}),
        ("analysis.load", {"torch", "transformers", "ray"}),
    ],
)
def test_what_is_not_loaded(module, absent):
    code = f"import sys, {module}; print(*sorted({sorted(absent)!r} & sys.modules.keys()))".replace("[", "{").replace(
        "]", "}"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.split() == []
