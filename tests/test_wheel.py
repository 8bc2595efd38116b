"""The wheel works outside the checkout: its default config is inside the package, and no benchmark or test is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bias_transfer.config import grid

ROOT = Path(__file__).parents[1]

SOURCES = ("analysis", "benchmarks", "bias_transfer", "examples", "tests", "LICENSE", "README.md", "pyproject.toml")
"""What is copied before the wheel is built, so that the build leaves nothing behind in the checkout."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the unpacked wheel."""
    built, unpacked = (tmp_path_factory.mktemp(name) for name in ("built", "unpacked"))
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", str(built), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(unpacked)
    return unpacked


def python(wheel: Path, folder: Path, *words: str) -> str:
    """Standard output of Python run in `folder`, with the wheel's packages in front of those of the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    environment |= {"PYTHONPATH": str(wheel), "BIAS_TRANSFER_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    command = [sys.executable, "-P", *words]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel, source):
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == {"analysis", "bias_transfer"}
    for name in (
        "bias_transfer/py.typed",
        "bias_transfer/config/quickstart.yaml",
        "analysis/report/pages/report.html.jinja",
    ):
        assert (wheel / name).read_bytes() == (source / name).read_bytes()


def test_every_module_of_the_checkout_is_in_the_wheel(wheel, source):
    for package in ("bias_transfer", "analysis"):
        modules = {path.relative_to(source) for path in (source / package).rglob("*.py")}
        assert {path.relative_to(wheel) for path in (wheel / package).rglob("*.py")} == modules


def test_the_metadata_name_the_license_and_the_command(wheel):
    (metadata,) = wheel.glob("*.dist-info")
    assert "License-Expression: Apache-2.0\n" in (metadata / "METADATA").read_text(encoding="utf-8")
    assert (metadata / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "bias-transfer = bias_transfer.__main__:app" in (metadata / "entry_points.txt").read_text(encoding="utf-8")


def test_the_wheel_plans_the_default_sweep_away_from_the_checkout(wheel, tmp_path):
    assert Path(python(wheel, tmp_path, "-c", "import bias_transfer; print(bias_transfer.__file__)").strip()) == (
        wheel / "bias_transfer" / "__init__.py"
    )
    planned = python(wheel, tmp_path, "-m", "bias_transfer", "sweep", "--dry-run")
    trials = len(grid.load(grid.EMBEDDED).trials)
    assert f"{trials} trials" in planned
    assert planned.count("to do") >= trials
