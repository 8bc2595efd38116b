"""CONTRIBUTING.md is true: its worked examples apply to the project, pass its linter, and their tests pass."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

BLOCK = re.compile(r"^```(python|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

COPIED = (
    "analysis",
    "bias_transfer",
    "tests/conftest.py",
    "tests/interventions",
    "tests/tasks/conftest.py",
    "tests/tasks/test_shared_metrics.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)

OF_THE_REGISTRY = ("drop_weights", "mask_terms", "tickets", "every_option_of_a_downstream_arm_acts")
"""What is selected of tests/interventions/test_registry.py, mostly by the name of the arm or task that a test is about."""

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/science.md",
    "docs/usage.md",
    "docs/plugins.md",
    "docs/custom_task.md",
    "docs/real_encoder.md",
)


def blocks(kind: str) -> list[str]:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [content for language, content in BLOCK.findall(page) if language == kind]


def add_file(root: Path, content: str) -> Path:
    """Write the file that the block's first line names, and mark its folder as a package."""
    name, _, body = content.partition("\n")
    path = root / name.removeprefix("# ")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_relative_to(root / "bias_transfer"):
        (path.parent / "__init__.py").touch()
    assert not path.exists(), f"{name}: the project has this file, so it is no example"
    path.write_text(body, encoding="utf-8")
    return path


def apply_diff(root: Path, diff: str) -> set[Path]:
    """Apply the hunks of a block: "--- FILE", then "@@" before each hunk. A hunk's old lines occur in the file once."""
    changed = set[Path]()
    for part in diff.split("--- ")[1:]:
        name, *hunks = part.split("@@\n")
        path = root / name.strip()
        text = path.read_text(encoding="utf-8")
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            assert text.count(old) == 1, f"CONTRIBUTING.md: these lines do not occur in {name.strip()} once:\n{old}"
            text = text.replace(old, "".join(line[1:] for line in lines if line[0] in " +"))
        path.write_text(text, encoding="utf-8")
        changed.add(path)
    return changed


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """(a copy of the project with all worked examples, the files that they add or change)."""
    root = tmp_path_factory.mktemp("project")
    for name in COPIED:
        (root / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    added = [add_file(root, content) for content in blocks("python")]
    changed = set().union(*(apply_diff(root, diff) for diff in blocks("diff")))
    for words in (
        ["check", "--fix", "--select", "I"],
        ["format"],
    ):  # as the page says, for the imports that its diffs add
        subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--quiet", "--no-cache", *map(str, changed)], cwd=root, check=True
        )
    return root, [*added, *sorted(changed)]


def test_the_worked_examples_pass_their_tests_and_those_of_the_tables(project):
    root, files = project
    registry, shared = "tests/interventions/test_registry.py", "tests/tasks/test_shared_metrics.py"
    own = {str(path.relative_to(root)) for path in files if path.name.startswith("test_")} - {registry}
    selected = " or ".join([*OF_THE_REGISTRY, *(Path(name).stem for name in (*own, shared))])
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *sorted(own), registry, shared]
    command += ["-k", selected]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed, run.stdout
    assert int(passed[1]) >= len(own) + 20


def test_the_worked_examples_pass_the_linter(project):
    root, files = project
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", *map(str, files)]
        run = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_a_page_names_exist(page):
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    links = {link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)}
    missing = {link for link in links if not ((ROOT / page).parent / link).exists()}
    roots = "analysis|benchmarks|bias_transfer|docs|examples|tests|tune_configs"
    named = set(re.findall(rf"\b(?:{roots})/[\w/.-]*\w\.(?:py|md|yaml|csv)\b", text))
    assert missing | {name for name in named if not (ROOT / name).exists()} == set()


def test_the_readme_is_short_and_its_figure_small():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
    assert all(file.stat().st_size < 200_000 for file in (ROOT / "docs" / "images").glob("*.png"))


def test_the_layers_of_the_documentation_are_those_that_imports_are_held_to():
    tree = ast.parse((ROOT / "tests" / "test_imports.py").read_text(encoding="utf-8"))
    (levels,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LEVELS"
    ]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert "\n".join(f"    {', '.join(parts)}" for parts in levels) in page


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert YAML(typ="safe").load(ROOT / "CITATION.cff")["version"] == version
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == version


def make_target(name: str) -> list[str]:
    """The commands of a target of the Makefile."""
    rule = re.search(rf"^{name}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert rule, f"the Makefile has no target {name}"
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in rule[1].splitlines()]


def test_commits_are_checked_as_by_make_check():
    config = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")
    (local,) = config["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == [
        command.removesuffix(" .") for command in make_target("check")
    ]


def test_the_workflow_calls_make_targets_alone():
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "ci.yml")
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert "make test" in commands
    for command in commands:
        program, target = command.split()
        assert program == "make"
        assert make_target(target)
