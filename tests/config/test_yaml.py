"""Configs and custom tasks hold plain values: nothing that runs code, repeats itself without end, or fills the memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from bias_transfer.config import grid
from bias_transfer.config.yaml import DEEPEST, parse_yaml
from bias_transfer.errors import UserError
from bias_transfer.tasks.custom import schema

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
)
"""Ten lines that stand for 9^10 values, which nothing could count, print or compare in time."""

REFUSED = {
    "!!python/object/apply:os.system ['touch ran']": "the tag tag:yaml.org,2002:python/object/apply:os.system",
    "seed: !!python/name:os.system": "line 1: the tag",
    "- 1\n- !mine {a: 1}": "line 2: the tag !mine",
    "a: !!str 1": "Tags are not read",
    "a: !!binary aGVsbG8=": "Tags are not read",
    "a: &a [1, *a]": r"line 1: the anchor &a\. .* write its value out again in place of each \*a",
    BOMB: "line 1: the anchor &a0",
    "a: &a {seed: [0, 1]}\nb: *a": "line 1: the anchor &a",
    "a: 1\nb: {<<: *a, epochs: 2}": r"line 2: the alias \*a",
    "- *a": r"line 1: the alias \*a\. .* delete &a",
    "a: " + "[" * 3000 + "]" * 3000: f"more than {DEEPEST} lists and mappings within each other",
    "seed: " + "1" * 5000: "invalid YAML",
    "seed: 2001-13-45": "invalid YAML",
    "a: 1\n---\na: 2": "invalid YAML",
    "a: 1\na: 2": "invalid YAML",
    "a: \x00": "invalid YAML",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_yaml_that_is_not_plain_is_refused_and_runs_nothing(text: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    for read in (parse_yaml, lambda _: grid.load(Path("config.yaml")), lambda _: schema.read(Path("config.yaml"))):
        with pytest.raises(UserError, match=REFUSED[text]):
            read(text)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_plain_values_are_read():
    assert parse_yaml("a: {seed: [0, 1]}\nb: no\nc: 5e-5\nd: 'R&D *'") == {
        "a": {"seed": [0, 1]},
        "b": "no",
        "c": 5e-5,
        "d": "R&D *",
    }
    assert parse_yaml("[" * DEEPEST + "]" * DEEPEST)
    assert parse_yaml("") is None


def test_a_config_named_like_a_folder_above_is_refused(tmp_path: Path):
    """A config's name is also that of its experiment and of the folder of its results."""
    (tmp_path / "...yaml").write_text("defaults: {seed: 0}")
    with pytest.raises(UserError, match="may not begin with a dot"):
        grid.load(tmp_path / "...yaml")
