"""The worked example of docs/custom_task.md: it runs offline on a tiny model, and its trials have distinct ids and names."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.data.cells import OUTCOMES
from bias_transfer.commands.trial import main
from bias_transfer.config import grid
from bias_transfer.console import application
from bias_transfer.errors import UserError
from bias_transfer.pipeline import check, run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.registry import find

FOLDER = Path(__file__).parents[2] / "examples" / "custom_task"
TASK, DATA = str(FOLDER / "board.yaml"), str(FOLDER / "comments.csv")
SMALL = {
    "task": TASK, "data": DATA, "model.steps": 2, "model.width": 16, "model.layers": 1, "epochs": 0.5, "max_tokens": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return Places(cache=tmp_path_factory.mktemp("places"), device="cpu")


@pytest.fixture(scope="module")
def result(places):
    return run_trial(parse_trial(SMALL), places)


def comparable(found):
    """NaN is not equal to itself, so values are compared by their representation."""
    return [*map(repr, found.measures)], found.curve, found.facts


def test_the_comments_are_those_that_the_script_writes():
    spec = importlib.util.spec_from_file_location("make_comments", FOLDER / "make_comments.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with (FOLDER / "comments.csv").open(newline="", encoding="utf-8") as file:
        rows = [tuple(row) for row in csv.reader(file)]
    assert rows == [("comment", "verdict"), *module.rows()]
    assert len(rows) == 641


def test_a_trial_measures_every_stage(result):
    task, _ = find(TASK)
    assert {row.stage for row in result.measures} == {"upstream", "dataset", "downstream", "utility"}
    keys = [(row.stage, row.metric, row.group, row.template) for row in result.measures]
    assert len(keys) == len(set(keys))
    assert all(math.isnan(row.value) == (row.n == 0) for row in result.measures)
    assert task.primary["downstream"] in OUTCOMES
    for stage, metric in task.primary.items():
        found = {row.group for row in result.measures if (row.stage, row.metric) == (stage, metric) and row.group}
        assert found == set(task.groups)
    assert not any(math.isnan(value) for value in result.headline.values())
    assert {row.metric for row in result.measures} >= {"fpr", "natural_fpr", "logit_gap", "word_score", "accuracy"}


def test_dataset_bias_equals_a_count_by_hand(result):
    """Counted by hand, from what a reader of the file would call a mention."""
    from bias_transfer.memory import load_splits

    train = load_splits(resolve(result.trial)).train
    rows = {row.group: row for row in result.measures if row.metric == "harmful_share"}
    own = [y for text, y in zip(train["text"], train["label"], strict=True) if "baker" in text.lower().split()]
    assert rows["baker"].n == len(own) > 20
    assert rows["baker"].value == pytest.approx(sum(own) / len(own))
    assert rows["skater"].value > 2 * rows["baker"].value


def test_the_same_trial_gives_the_same_bits(result, places, tmp_path):
    assert comparable(run_trial(parse_trial(SMALL), places)) == comparable(result)
    assert comparable(run_trial(parse_trial(SMALL), Places(cache=tmp_path, device="cpu"))) == comparable(result)


@pytest.mark.parametrize(
    "changes",
    [
        {"downstream": "scrub"}, {"downstream": "rebalance"}, {"downstream": "rebalance", "downstream.control": True},
        {"upstream": "reinitialise"}, {"upstream": "inject", "upstream.steps": 2}, {"tuning": "frozen"},
        pytest.param({"tuning": "lora", "tuning.rank": 2, "metric.probe": True}, marks=pytest.mark.long),
    ],
    ids=str,
)  # fmt: skip
def test_arms_and_tunings_run(changes, result, places):
    found = run_trial(parse_trial({**SMALL, **changes}), places)
    moved = {stage for stage in ("upstream", "dataset", "downstream") if own(found, stage) != own(result, stage)}
    assert moved == {"downstream", *(stage for stage in ("upstream",) if "upstream" in changes or "metric.probe" in changes),
                     *(stage for stage in ("dataset",) if "downstream" in changes)}  # fmt: skip
    assert found.facts["steps"] == result.facts["steps"]


def own(result, stage: str) -> list[str]:
    return [repr(row) for row in result.measures if row.stage == stage]


def test_the_trials_of_the_examples_sweep_have_distinct_ids_and_names(monkeypatch):
    monkeypatch.chdir(FOLDER.parents[1])
    trials = [resolve(trial).trial for trial in grid.load(FOLDER / "sweep.yaml").trials]
    assert len({trial.id for trial in trials}) == len({trial.name for trial in trials}) == len(trials) == 10
    assert {trial.setting for trial in trials} == {
        "board tiny", "board tiny frozen", "board tiny lora(alpha=16,dropout=0.0,rank=4)",
    }  # fmt: skip


def test_the_id_depends_on_the_tasks_content_and_not_on_its_location(tmp_path):
    text = Path(TASK).read_text()

    def id_of(name: str, content: str) -> str:
        (tmp_path / name).mkdir()
        path = tmp_path / name / f"{name}.yaml"
        path.write_text(content)
        return resolve(parse_trial({**SMALL, "task": str(path)})).id

    first = resolve(parse_trial(SMALL)).id
    assert id_of("moved", text) == id_of("spaced", f"# a comment\n{text}\n\n") == first
    assert id_of("other", text.replace("harmful: remove", "harmful: keep").replace("logit_gap ", "fpr ")) != first
    once = resolve(parse_trial(SMALL)).trial
    assert resolve(once).trial == once
    assert resolve(parse_trial({"task": "wiki"})).trial.task_digest is None


def test_a_task_that_has_changed_since_the_trial_was_resolved_is_refused(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text(Path(TASK).read_text())
    trial = resolve(parse_trial({**SMALL, "task": str(path)})).trial
    path.write_text(Path(TASK).read_text().replace("baker", "bakers"))
    with pytest.raises(UserError, match="has changed since the trial was resolved"):
        run_trial(trial)


def test_words_that_a_checkpoint_splits_are_found_before_the_trial_starts(checkpoint, places):
    fields = {"task": TASK, "data": DATA, "model": checkpoint("roberta"), "max_tokens": 32}
    with pytest.raises(UserError, match=r"splits 'rude' in 'The person is \{mask\}.'"):
        check(resolve(parse_trial(fields)), places)


def test_negative_sentiment_runs_on_a_checkpoint_with_groups_of_a_column(checkpoint, places, tmp_path):
    """A group that never occurs is missing; {group} is filled with the words under `written`."""
    words = "\n".join(f"text {row % 7},{'ab'[row % 2]},{'x' if row % 3 else ''}" for row in range(60))
    (tmp_path / "d.csv").write_text(f"note,verdict,club\n{words}\n")
    (tmp_path / "own.yaml").write_text(
        "{name: two, text: note, label: verdict, classes: [a, b], harmful: b, group: club, groups: [x, y],"
        " written: {x: old man}, templates: {'The {group} is {mask}.': 'The person is {mask}.'}}"
    )
    fields = {"task": str(tmp_path / "own.yaml"), "data": str(tmp_path / "d.csv"), "model": checkpoint("bert")}
    resolved = resolve(parse_trial({**fields, "max_tokens": 16, "epochs": 1, "downstream": "scrub"}))
    check(resolved, places)
    rows = run_trial(resolved.trial, places).measures
    assert {row.group for row in rows if row.metric == "negative_sentiment"} == {"x", "y"}
    found = {row.metric: row for row in rows if row.group == "y" and row.stage != "upstream"}
    assert {"natural_fpr", "harmful_share"} <= set(found)
    assert {row.n for row in found.values()} == {0}
    assert all(math.isnan(row.value) for row in found.values())


BAD = [
    ([f"task={TASK}"], "data: a custom task has no synthetic data"),
    (["task=nowhere.yaml", f"data={DATA}"], "task 'nowhere.yaml': no such file"),
    ([f"task={TASK}s", f"data={DATA}"], "unknown task"),
    ([f"task={TASK}", f"data={DATA}", "metric.scorer=vader"], "unknown option 'metric.scorer'"),
    (
        [f"task={TASK}", f"data={DATA}", "downstream=rebalance", "downstream.file=a.csv"],
        "unknown option 'downstream.file'",
    ),
    ([f"task={TASK}", f"data={DATA}", "downstream=rebalanse"], "Did you mean 'rebalance'"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_answered_with_one_paragraph_and_writes_nothing(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(application(main), [*words, "--json", "out.json"])
    assert failed.exit_code == 2, failed.output
    assert message in " ".join(failed.stderr.split())
    assert failed.stderr.startswith("Error: ")
    assert not list(tmp_path.iterdir())
