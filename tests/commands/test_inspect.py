"""What `inspect` says of data, and the files to start from that it gives: both are read by what they are for."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from bias_transfer.commands.inspect import _interval, main
from bias_transfer.config import grid
from bias_transfer.console import application
from bias_transfer.pipeline import check
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.custom import schema

POSTS = ["the {} was kind to everyone in town", "go away you terrible {}", "that {} is a good cook", "the day is nice"]
GROUPS = ["bakers", "old rowers", ""]


@pytest.fixture
def inspect():
    """words -> the output of the command, which must end well."""

    def run(*words: str, status: int = 0) -> str:
        done = CliRunner().invoke(application(main), [*words])
        assert done.exit_code == status, done.output
        return " ".join(done.output.split())

    return run


@pytest.fixture
def posts(tmp_path):
    """A file that no task of the project reads: 120 posts with a verdict and whom they are about."""
    rows = [
        f'{number},"{POSTS[number % 4].format(group or "man")} {number}",{["fine", "hateful"][number % 4 == 1]},{group}'
        for number in range(120)
        for group in [GROUPS[number % 3]]
    ]
    path = tmp_path / "posts.csv"
    path.write_text("\n".join(["post,body,verdict,target_group", *rows]), encoding="utf-8")
    return str(path)


def test_splits_columns_labels_groups_and_duplicates_are_shown(inspect, tmp_path, checkpoint):
    texts = [f"a gay man {row} {'and more ' * (row % 2 * 20)}" for row in range(100)]
    rows = [f"{text},{row % 5 // 4},x" for row, text in enumerate([*texts, texts[3], texts[4], texts[5], "none"])]
    (tmp_path / "a.csv").write_text("\n".join(["text,label,note", *rows]), encoding="utf-8")
    shown = inspect(f"data={tmp_path / 'a.csv'}", f"model={checkpoint('bert')}", "max_tokens=32")
    for expected in (
        "a.csv: split 80/10/10 by data.split_seed.",
        "Columns: text (text), label (label). Not read: note.",
        "49 never",
        "Different texts: 101; 1 of them have rows with different labels.",
        "tokens of",
        "Warning:",
    ):
        assert expected in shown, expected
    assert re.search(r"│ gay │ 8\d │ 0\.\d\d \(0\.\d\d to 0\.\d\d\) │ 1?\d │", shown)
    assert "estimate" not in shown
    assert "an estimate without the tokenizer of tiny" in inspect(f"data={tmp_path / 'a.csv'}")


def test_the_interval_is_wilsons():
    assert _interval(0.5, 10) == "0.50 (0.24 to 0.76)"
    assert _interval(0.0, 5) == "0.00 (0.00 to 0.43)"
    assert _interval(float("nan"), 0) == "missing"


def test_the_config_to_start_from_is_read_as_one(inspect, tmp_path):
    rows = [f"a gay man {row},{row % 2}" for row in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    done = CliRunner().invoke(application(main), [f"data={tmp_path / 'a.csv'}", "data.split_seed=3"])
    (tmp_path / "config.yaml").write_text(done.output[done.output.index("defaults:") :], encoding="utf-8")
    trials = grid.load(tmp_path / "config.yaml").trials
    assert {trial.downstream for trial in trials} == {"none", "scrub", "rebalance"}
    assert {trial.options["data.split_seed"] for trial in trials} == {3}


def test_data_that_a_task_refuses_become_a_custom_task_that_runs(inspect, posts, tmp_path, checkpoint):
    written = tmp_path / "task.yaml"
    shown = inspect("task=wiki", f"data={posts}", "--write", str(written))
    for expected in (
        "The task wiki does not read these data.",
        "text: body",
        "label: verdict, with the classes fine (90 rows), hateful (30 rows); harmful: hateful",
        "groups: those of the column target_group: bakers (40), old rowers (40)",
        f"Next: bias-transfer inspect task={written} data={posts}",
    ):
        assert expected in shown, expected
    assert "The column 'target_group' has them." in inspect(f"task={written}", f"data={posts}")
    fields = {"task": str(written), "data": posts, "model": checkpoint("bert"), "max_tokens": 16}
    check(resolve(parse_trial(fields)), Places(cache=tmp_path))


def test_what_cannot_be_guessed_is_left_empty_and_refused_until_it_is_filled_in(inspect, tmp_path):
    rows = [f"这个面包师很好{row},{row % 2}" for row in range(40)]
    (tmp_path / "zh.csv").write_text("\n".join(["content,rating", *rows]), encoding="utf-8")
    written = tmp_path / "zh.yaml"
    shown = inspect(f"data={tmp_path / 'zh.csv'}", "--write", str(written))
    assert "Fill in terms and templates" in shown
    with pytest.raises(schema.UserError, match="terms: 0 given"):
        schema.read(written)
    text = written.read_text(encoding="utf-8").replace("terms: []", "terms: [面包师, 农民]")
    written.write_text(
        text.replace("templates: {}", 'templates: {"{group}很{mask}。": "人很{mask}。"}'), encoding="utf-8"
    )
    shown = inspect(f"task={written}", f"data={tmp_path / 'zh.csv'}")
    assert "│ 面包师 │ 32 │" in shown
    assert "All terms are found wherever a text has them" in shown
    assert "Warning: a trial would be refused. metric.scorer: vader is a lexicon of English" in shown


def test_terms_inside_longer_words_are_pointed_out(inspect, tmp_path):
    rows = [f"흑인은 나쁘다 {row},{row % 2}" for row in range(40)]
    (tmp_path / "ko.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    text = "name: ko\ntext: text\nlabel: label\nclasses: [0, 1]\nharmful: 1\nterms: [흑인, 여자]\n"
    text += 'templates: {"{group} {mask}": "{mask}"}\n'
    (tmp_path / "ko.yaml").write_text(text, encoding="utf-8")
    assert "Inside longer words there are 흑인 (32 texts)" in inspect(
        f"task={tmp_path}/ko.yaml", f"data={tmp_path}/ko.csv"
    )
    (tmp_path / "attached.yaml").write_text(f"{text}suffixes: korean\n", encoding="utf-8")
    shown = inspect(f"task={tmp_path}/attached.yaml", f"data={tmp_path}/ko.csv")
    assert "│ 흑인 │ 32 │" in shown
    assert "Inside longer words" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=nowhere.csv"], "neither a file nor a folder"),
        (["data=synthetic", "--write", "task.yml.txt"], "is no name of a custom task"),
        (["taks=wiki"], "Did you mean 'task'"),
    ],
)
def test_mistakes_end_in_a_sentence(words, message, inspect):
    assert message in inspect(*words, status=2)
