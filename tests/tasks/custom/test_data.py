"""Examples of custom tasks: the columns that the file names, and groups by terms or by a column."""

from __future__ import annotations

import pytest
from datasets import Dataset

from bias_transfer.errors import UserError
from bias_transfer.tasks.custom import data as custom_data
from bias_transfer.tasks.loading import FileOptions

ROWS = [
    ("The baker waved", "keep", "baker"),
    ("A bread-baker shouted", "REMOVE", "Rower"),
    ("Bakers and rowers", "keep", ""),
    ("rower, baker", "remove", "rower"),
]


@pytest.fixture
def file(tmp_path):
    """(header, rows) -> a CSV file that has each row five times."""

    def write(header: str = "note,verdict,club", rows=ROWS, times: int = 5) -> str:
        path = tmp_path / "notes.csv"
        lines = [",".join(f'"{cell}"' for cell in row) for row in rows for _ in range(times)]
        path.write_text("\n".join([header, *lines]))
        return str(path)

    return write


def test_a_single_file_is_split_and_nothing_is_lost(task_file, file):
    splits = custom_data.source(task_file()).load(file(), FileOptions())
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (16, 2, 2)
    texts = [*splits.train["text"], *splits.dev["text"], *splits.test["text"]]
    assert sorted(texts) == sorted(text for text, *_ in ROWS for _ in range(5))
    labels = dict(zip(splits.train["text"], splits.train["label"], strict=True))
    assert (labels["The baker waved"], labels["A bread-baker shouted"]) == (0, 1), "in any case"


def test_classes_have_the_files_order_and_there_may_be_more_than_two(task_file, file):
    three = task_file(classes=["remove", "ask", "keep"], harmful="ask")
    splits = custom_data.source(three).load(file(rows=[*ROWS, ("?", "ask", "")]), FileOptions())
    labels = dict(zip(splits.train["text"], splits.train["label"], strict=True))
    assert (labels["rower, baker"], labels["?"], labels["The baker waved"]) == (0, 1, 2)
    assert custom_data.groups_of(three).harmful == 1


def test_values_that_are_joined_into_one_class(task_file, file):
    joined = task_file(classes={"keep": ["keep"], "remove": ["hateful", "abusive_hateful"]})
    rows = [("The baker", "Keep", ""), ("A rower", "hateful", ""), ("Rowers", "Abusive-Hateful", "")]
    splits = custom_data.source(joined).load(file(rows=rows), FileOptions())
    labels = dict(zip(splits.train["text"], splits.train["label"], strict=True))
    assert labels == {"The baker": 0, "A rower": 1, "Rowers": 1}
    with pytest.raises(UserError, match=r"unknown label in 'verdict'\. Allowed: keep, hateful, abusive_hateful"):
        custom_data.source(joined).load(file(), FileOptions())


def test_numbers_with_bounds(task_file, file):
    rows = [("The baker", "0.49", ""), ("A rower", "0.5", ""), ("Rowers", "1", "")]
    with pytest.raises(
        UserError, match=r"numbers with fractions\. Write the classes with bounds: \{keep: \['<0.5'\], remove"
    ):
        custom_data.source(task_file()).load(file(rows=rows), FileOptions())
    bounds = task_file(classes={"keep": ["<0.5"], "remove": [">= 0.5"]})
    splits = custom_data.source(bounds).load(file(rows=rows), FileOptions())
    labels = dict(zip(splits.train["text"], splits.train["label"], strict=True))
    assert labels == {"The baker": 0, "A rower": 1, "Rowers": 1}
    with pytest.raises(UserError, match="no number in 'verdict', whose classes have bounds"):
        custom_data.source(bounds).load(file(), FileOptions())


def test_groups_are_the_terms_that_a_text_mentions(task_file):
    data = Dataset.from_dict({"text": [text for text, *_ in ROWS] + ["BREAD  BAKER, rower", "x"]})
    assert custom_data.groups_of(task_file()).of(data) == [
        ("baker",), ("bread baker",), (), ("baker", "rower"), ("bread baker", "rower"), (),
    ]  # fmt: skip


def test_groups_are_the_values_of_a_column(task_file, by_column, file):
    clubs = task_file(**by_column)
    splits = custom_data.source(clubs).load(file(), FileOptions())
    found = dict(zip(splits.train["text"], custom_data.groups_of(clubs).of(splits.train), strict=True))
    assert found == {ROWS[0][0]: ("baker",), ROWS[1][0]: ("rower",), ROWS[2][0]: (), ROWS[3][0]: ("rower",)}


BAD = [
    ({"text": "notes"}, {}, r"notes.csv: no column for the text. It has: club, note, verdict. Allowed: notes"),
    ({"label": "label"}, {}, r"no column for the label. .* Allowed: label"),
    ({"classes": ["keep", "drop"], "harmful": "drop"}, {}, r"lines .*: unknown label in 'verdict'. Allowed: keep"),
    ({}, {"rows": [*ROWS, (" ", "keep", "")]}, r"no text in 'note'"),
    ({}, {"rows": ROWS[:1]}, r"label 1 occurs 0 times"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "content", "message"), BAD, ids=[message for *_, message in BAD])
def test_unsuitable_data_are_refused(changes, content, message, task_file, file):
    with pytest.raises(UserError, match=message):
        custom_data.source(task_file(**changes)).load(file(**content), FileOptions())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("note,verdict,clubs", r"no column for the group. It has: clubs, note, verdict. Allowed: club"),
        (
            "note,verdict,club",
            r"lines 7, 8.*: unknown group in 'club'. Allowed: baker, skater, or an empty cell",
        ),
    ],
)
def test_an_unsuitable_group_column_is_refused(header, message, task_file, by_column, file):
    with pytest.raises(UserError, match=message):
        custom_data.source(task_file(**{**by_column, "groups": ["baker", "skater"]})).load(file(header), FileOptions())


def test_synthetic_is_refused_by_name(task_file):
    source = custom_data.source(task_file())
    for use in (source.options, source.identify):
        with pytest.raises(
            UserError, match=r"data: a custom task has no synthetic data. Name your data with data=FILE"
        ):
            use("synthetic")


def test_data_are_identified_by_their_content(task_file, file, tmp_path):
    identify = custom_data.source(task_file()).identify
    first = identify(file())
    other = tmp_path / "elsewhere.csv"
    other.write_bytes((tmp_path / "notes.csv").read_bytes())
    assert identify(str(other)) == first != identify(file(times=6))
    with pytest.raises(UserError, match="neither a file nor a folder"):
        identify("nowhere.csv")
