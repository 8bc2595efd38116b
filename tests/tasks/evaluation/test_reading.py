"""Evaluation sets: what a mapping makes of a file, what is refused, and what enters the id."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bias_transfer import pipeline
from bias_transfer.config import grid
from bias_transfer.errors import UserError
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import parse_trial
from bias_transfer.storage import fingerprint
from bias_transfer.tasks.custom.task import custom_task
from bias_transfer.tasks.evaluation import reading
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.identity_terms import TERMS

HATECHECK = Path(__file__).parents[4] / "shared" / "data" / "hatecheck" / "test_suite_cases.csv"

CASES = """,functionality,case_id,test_case,label_gold,target_ident
0,derog_h,11,"I can't stand women. ",hateful,women
1,pos_nh,12,I like women.,non-hateful,women
2,pos_nh,13,I like Muslims.,non-hateful,Muslims
3,object_nh,14,I like tables.,non-hateful,
"""

POSTS = """post,verdict,score,about,colour,size,tall
p one,remove,0.9,baker; rower,red,big,1
p two,keep,0.5,baker,blue,,0.4
p three,keep,0.1,,red,small,
"""


def read(folder: Path, content: str, task=TASKS["wiki"], **options):
    """The set of a file with this content."""
    file = folder / "set.csv"
    file.write_text(content)
    given = {"mine": str(file), **{f"mine.{key}": value for key, value in options.items()}}
    return reading.load(reading.resolve(given, task), task)["mine"]


@pytest.fixture
def clubs(task_file):
    return custom_task(task_file())


def test_hatecheck_is_known_by_its_columns(tmp_path):
    mine = read(tmp_path, CASES)
    assert mine.examples.to_dict() == {
        "id": ["11", "12", "13", "14"],
        "text": ["I can't stand women. ", "I like women.", "I like Muslims.", "I like tables."],
        "label": [1, 0, 0, 0],
        "groups": [["women"], ["women"], ["Muslims"], []],
        "functionality": ["derog_h", "pos_nh", "pos_nh", "object_nh"],
    }
    assert mine.groups == ("Muslims", "women")
    assert mine.functionalities == ("derog_h", "object_nh", "pos_nh")


def test_the_published_hatecheck(tmp_path):
    """Counts of Röttger et al. 2021: 3,728 cases, 29 functionalities, 7 targets."""
    if not HATECHECK.is_file():
        pytest.skip(f"{HATECHECK} is not here")
    mine = read(tmp_path, HATECHECK.read_text(encoding="utf-8"))
    assert (len(mine.examples), len(mine.functionalities), len(mine.groups)) == (3728, 29, 7)
    assert sum(mine.examples["label"][:]) == 2563
    harmless = [
        names for names, label in zip(mine.examples["groups"][:], mine.examples["label"][:], strict=True) if not label
    ]
    assert harmless.count([]) == 292
    assert harmless.count(["gay people"]) == 178


def test_a_mapping_of_columns_with_several_groups_per_row(tmp_path, clubs):
    mine = read(tmp_path, POSTS, clubs, text="post", label="verdict", groups="about", functionality="size")
    assert mine.examples["label"][:] == [1, 0, 0]
    assert mine.examples["groups"][:] == [["baker", "rower"], ["baker"], []]
    assert mine.functionalities == ("big", "small")
    assert mine.examples["id"][:] == ["mine:0", "mine:1", "mine:2"]


def test_intersections_and_indicators(tmp_path, clubs):
    """An intersection needs a value in both columns; several entries are told apart by their names."""
    alone = read(tmp_path, POSTS, clubs, text="post", label="verdict", groups="colour*size")
    assert alone.examples["groups"][:] == [["red * big"], [], ["red * small"]]
    several = read(
        tmp_path, POSTS, clubs, text="post", label="verdict", groups="about, colour*about", indicators="tall"
    )
    assert several.examples["groups"][:] == [
        ["about: baker", "about: rower", "colour*about: red * baker", "colour*about: red * rower", "tall"],
        ["about: baker", "colour*about: blue * baker"],
        [],
    ]


def test_what_is_harmful_by_value_and_by_bound(tmp_path):
    by_value = read(tmp_path, POSTS, text="post", label="verdict", harmful="Remove, ban", groups="about")
    assert by_value.examples["label"][:] == [1, reading.OTHER, reading.OTHER]
    by_bound = read(tmp_path, POSTS, text="post", label="score", harmful=">=0.5", groups="about")
    assert by_bound.examples["label"][:] == [1, 1, reading.OTHER]


def test_without_a_column_the_groups_are_the_tasks_own(tmp_path):
    """All of them, so that those of which the file says nothing are missing and not left out."""
    mine = read(tmp_path, "text,label\nA gay mayor.,0\nAn African American.,1\nNobody.,0\n")
    assert mine.examples["groups"][:] == [["gay"], ["african american"], []]
    assert mine.groups == TERMS


def test_a_file_of_biographies_has_pronouns(tmp_path):
    mine = read(tmp_path, "hard_text,profession,gender\nShe sees patients.,19,1\nHe builds.,1,0\n", TASKS["bios"])
    assert mine.examples["label"][:] == [19, 1]
    assert mine.examples["groups"][:] == [["she"], ["he"]]


MAPPED = {"text": "post", "label": "verdict", "groups": "about", "harmful": "remove"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "body"}, "evaluate.mine: .*set.csv: no column for the text. It has: about, .*Allowed: body"),
        ({"label": "lable"}, "no column for the label. .*Allowed: lable"),
        ({"groups": "abuot"}, "no column for the group"),
        ({"functionality": "test"}, "no column for the functionality"),
        ({"harmful": None}, "lines 2, 3, 4: the label in 'verdict' \\(remove, keep\\) is no label of this task, whose classes "
         "are not toxic, toxic. If a value of it means 'toxic', .* add harmful: VALUE"),
        ({"harmful": "ban"}, "no row of 'verdict' is harmful by harmful: 'ban'"),
        ({"harmful": ">=0.5"}, "no number in 'verdict'"),
        ({"harmful": ">=x", "label": "score"}, "is no bound. Write it as in '>=0.5'"),
        ({"indicators": "colour"}, "'colour' is neither a number nor true or false"),
        ({"group": "about"}, "unknown option 'evaluate.mine.group'. Did you mean 'evaluate.mine.groups'"),
    ],
    ids=lambda value: ",".join(map(str, value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_mistakes_of_a_mapping_are_named(changes, message, tmp_path):
    options = {key: value for key, value in {**MAPPED, **changes}.items() if value is not None}
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, POSTS, **options)
    assert "p one" not in str(caught.value)


def test_labels_of_another_task_are_refused_in_one_sentence(tmp_path, clubs):
    with pytest.raises(UserError, match="'label_gold' \\(hateful, non-hateful\\) is no label of this task.*own task"):
        read(tmp_path, CASES, TASKS["bios"])
    with pytest.raises(UserError, match="If a value of it means 'remove', .* harmful: VALUE"):
        read(tmp_path, CASES, clubs)
    assert sum(label == 1 for label in read(tmp_path, CASES, clubs, harmful="hateful").examples["label"][:]) == 1
    with pytest.raises(UserError, match="no class of this task is a harmful one"):
        read(tmp_path, CASES, TASKS["bios"], harmful="hateful")


def test_files_that_cannot_be_a_set_are_refused(tmp_path, task_file, by_column):
    many = "\n".join(["text,label,who", *(f"a text,0,person {number}" for number in range(201))])
    for content, options, message in (
        (many, {"groups": "who"}, "who has 201 different values"),
        (f"text,label,who\nx,0,{'long ' * 20}\n", {"groups": "who"}, "the longest of 99 characters"),
        ("text,label,who\nx,0,\n", {"groups": "who"}, "no row has a group in who"),
        ("text,label,who\nx,0,a\x1b[31m\n", {"groups": "who"}, "line 2: 'who' has a character that cannot be printed"),
        ("text,label,who\n ,0,a\n", {"groups": "who"}, "line 2: no text"),
        ("text,label,who\n", {"groups": "who"}, "the file has no examples"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path, content, **options)
    no_groups = custom_task(task_file(**by_column))
    with pytest.raises(UserError, match="a text does not tell its groups. Write groups: COLUMN"):
        read(tmp_path, "text,label\nx,keep\n", no_groups)
    with pytest.raises(UserError, match="evaluate.mine: .*hatechek.csv: no such file"):
        reading.resolve({"mine": str(tmp_path / "hatechek.csv")}, TASKS["wiki"])
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(UserError, match=r"a.xlsx is an Excel workbook"):
        reading.resolve({"mine": str(tmp_path / "a.xlsx")}, TASKS["wiki"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"test": "a.csv"}, "'test' cannot be the name of a set"),
        ({"Forum": "a.csv"}, "'Forum' cannot be the name of a set"),
        ({"forum": "a.csv", "forum_log": "b.csv"}, "'forum_log' begins with 'forum'"),
        ({"forum.text": "body"}, "evaluate.forum: no file is named"),
    ],
)
def test_names_keep_metrics_apart(given, message):
    with pytest.raises(UserError, match=message):
        reading.resolve(given, TASKS["wiki"])


def test_a_config_takes_a_file_or_a_mapping(tmp_path):
    content = {"evaluate": {"a": "a.csv", "b": {"file": "b.csv", "groups": ["x", "y*z"], "harmful": 1}}}
    (trial,) = grid.expand({"defaults": content})
    assert trial.options == {
        "evaluate.a": "a.csv",
        "evaluate.b": "b.csv",
        "evaluate.b.groups": "x, y*z",
        "evaluate.b.harmful": 1,
    }
    assert trial.evaluation_sets == ("a", "b")
    assert len(grid.expand({"defaults": {"evaluate": [{}, {"a": "a.csv"}]}})) == 2


def test_content_and_mapping_are_in_the_id_and_the_path_is_not(tmp_path):
    def trial(name: str, content: str, **options):
        (tmp_path / name).write_text(content)
        given = {
            "evaluate.mine": str(tmp_path / name),
            **{f"evaluate.mine.{key}": value for key, value in options.items()},
        }
        return resolve(parse_trial(given)).trial

    plain, first = resolve(parse_trial({})).trial, trial("a.csv", CASES)
    assert first.id != plain.id
    assert trial("b.csv", CASES).id == first.id
    assert trial("b.csv", CASES, text="test_case", groups="target_ident").id == first.id  # the form says so by itself
    assert trial("b.csv", CASES.replace("tables", "chairs")).id != first.id
    assert trial("b.csv", CASES, groups="functionality").id != first.id
    assert resolve(first).trial == first
    # What is measured before fine-tuning is shared with trials that evaluate nothing else.
    assert fingerprint.upstream_key(first) == fingerprint.upstream_key(plain)


def test_a_file_that_changed_since_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(CASES)
    sets = reading.resolve({"mine": str(tmp_path / "a.csv")}, TASKS["wiki"])
    (tmp_path / "a.csv").write_text(CASES.replace("tables", "chairs"))
    with pytest.raises(UserError, match="has changed since the trial was resolved"):
        reading.load(sets, TASKS["wiki"])


def test_texts_that_were_trained_on_are_counted(tmp_path):
    mine = {"mine": read(tmp_path, CASES)}
    assert reading.warnings(mine, ["I like tables.", "other"]) == [
        "1 of the 4 texts of the evaluation set mine are in the training set as well."
    ]
    assert reading.warnings(mine, ["other"]) == []
    assert reading.remarks(mine) == ["evaluate.mine: 4 examples, 2 groups, 3 functionalities."]


def test_a_set_cannot_take_the_name_of_one_of_the_tasks(tmp_path, monkeypatch, few_phrases):
    (tmp_path / "a.csv").write_text(CASES)
    probes = TASKS["wiki"].probes
    named = dataclasses.replace(TASKS["wiki"], probes=lambda *given: {"mine": next(iter(probes(*given).values()))})
    monkeypatch.setitem(TASKS, "wiki", named)
    resolved = resolve(parse_trial({"evaluate.mine": str(tmp_path / "a.csv"), "data.size": 200}))
    with pytest.raises(UserError, match="the task has a set of its own with the name 'mine'"):
        pipeline.check(resolved, Places(cache=tmp_path, device="cpu"))
