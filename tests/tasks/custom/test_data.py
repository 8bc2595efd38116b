"""Examples of own tasks: the columns that the file names, and groups by terms or by a column."""

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
    """(header, rows) -> a CSV file of them, five times each row."""

    def write(header: str = "note,verdict,club", rows=ROWS, times: int = 5) -> str:
        path = tmp_path / "notes.csv"
        lines = [",".join(f'"{cell}"' for cell in row) for row in rows for _ in range(times)]
        path.write_text("\n".join([header, *lines]))
        return str(path)

    return write


def test_a_single_file_is_split_and_nothing_is_lost(own, file):
    splits = custom_data.load(own(), file(), FileOptions())
    assert (len(splits.train), len(splits.dev), len(splits.test)) == (16, 2, 2)
    texts = [*splits.train["text"], *splits.dev["text"], *splits.test["text"]]
    assert sorted(texts) == sorted(text for text, *_ in ROWS for _ in range(5))
    labels = dict(zip(splits.train["text"], splits.train["label"], strict=True))
    assert (labels["The baker waved"], labels["A bread-baker shouted"]) == (0, 1), "in any case"


def test_the_order_of_classes_is_the_files_and_there_may_be_more(own, file):
    three = own(classes=["remove", "ask", "keep"], harmful="ask")
    splits = custom_data.load(three, file(rows=[*ROWS, ("?", "ask", "")]), FileOptions())
    labels = dict(zip(splits.train["text"], splits.train["label"], strict=True))
    assert (labels["rower, baker"], labels["?"], labels["The baker waved"]) == (0, 1, 2)
    assert custom_data.groups_of(three).harmful == 1


def test_groups_are_the_terms_that_a_text_mentions(own):
    data = Dataset.from_dict({"text": [text for text, *_ in ROWS] + ["BREAD  BAKER, rower", "x"]})
    assert custom_data.groups_of(own()).of(data) == [
        ("baker",), ("bread baker",), (), ("baker", "rower"), ("bread baker", "rower"), (),
    ]  # fmt: skip


def test_groups_are_the_values_of_a_column(own, by_column, file):
    task = own(**by_column)
    splits = custom_data.load(task, file(), FileOptions())
    found = dict(zip(splits.train["text"], custom_data.groups_of(task).of(splits.train), strict=True))
    assert found == {ROWS[0][0]: ("baker",), ROWS[1][0]: ("rower",), ROWS[2][0]: (), ROWS[3][0]: ("rower",)}


BAD = [
    ({"text": "notes"}, {}, r"notes.csv: no column for the text. It has: club, note, verdict. Allowed: notes"),
    ({"label": "label"}, {}, r"no column for the label. .* Allowed: label"),
    ({"classes": ["keep", "drop"], "harmful": "drop"}, {}, r"lines .*: no label that is allowed in 'verdict'. Allowed: keep"),
    ({}, {"rows": [*ROWS, (" ", "keep", "")]}, r"no text in 'note'"),
    ({}, {"rows": ROWS[:1]}, r"label 1 occurs 0 times"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "content", "told"), BAD, ids=[told for *_, told in BAD])
def test_data_that_do_not_fit_are_refused(changes, content, told, own, file):
    with pytest.raises(UserError, match=told):
        custom_data.load(own(**changes), file(**content), FileOptions())


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("note,verdict,clubs", r"no column for the group. It has: clubs, note, verdict. Allowed: club"),
        (
            "note,verdict,club",
            r"lines 7, 8.*: no group that is allowed in 'club'. Allowed: baker, skater, or an empty cell",
        ),
    ],
)
def test_a_group_column_that_does_not_fit_is_refused(header, told, own, by_column, file):
    with pytest.raises(UserError, match=told):
        custom_data.load(own(**{**by_column, "groups": ["baker", "skater"]}), file(header), FileOptions())


def test_synthetic_is_refused_by_name():
    for use in (custom_data.data_options, custom_data.identify):
        with pytest.raises(UserError, match=r"data: an own task has no synthetic data; name yours by data=FILE"):
            use("synthetic")


def test_data_are_identified_by_their_content(file, tmp_path):
    first = custom_data.identify(file())
    other = tmp_path / "elsewhere.csv"
    other.write_bytes((tmp_path / "notes.csv").read_bytes())
    assert custom_data.identify(str(other)) == first != custom_data.identify(file(times=6))
    with pytest.raises(UserError, match="neither a file nor a folder"):
        custom_data.identify("nowhere.csv")
