"""Tables are read unchanged if they are well-formed, and refused with the line of the fault if not."""

from __future__ import annotations

import random

import pandas as pd
import pytest

from bias_transfer.errors import UserError
from bias_transfer.tasks import readers

CODES = {"0": 0, "1": 1}


def test_cells_are_read_unchanged(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        '\ufeffid, comment ,toxic\n01,NA,0\n\n02,"two\nlines, ""quoted""",\n03, null ,1.0\n', encoding="utf-8"
    )
    table = readers.read_table(path)
    assert table.frame.columns.tolist() == ["id", "comment", "toxic"]
    assert table.frame.values.tolist() == [
        ["01", "NA", "0"],
        ["02", 'two\nlines, "quoted"', ""],
        ["03", " null ", "1.0"],
    ]
    assert table.frame.index.tolist() == [2, 4, 6], "lines of the file: a blank one and one inside a field count"


def test_all_kinds_give_the_same_table(tmp_path):
    frame = pd.DataFrame({"text": ["a\tb", 'c "d"', "NA"], "label": [0, 1, 1]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "a.parquet")
    csv, tsv, parquet = (readers.read_table(tmp_path / f"a{kind}").frame for kind in (".csv", ".tsv", ".parquet"))
    assert csv.values.tolist() == tsv.values.tolist() == parquet.values.tolist()
    assert parquet.index.tolist() == [1, 2, 3]


def test_missing_values_of_a_typed_file_are_empty(tmp_path):
    pd.DataFrame({"text": ["a", None], "label": [True, None]}).to_parquet(tmp_path / "a.parquet")
    assert readers.read_table(tmp_path / "a.parquet").frame.values.tolist() == [["a", "True"], ["", ""]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\na,0\nb\n", "line 3: the number of fields is not that of the header (2)"),
        ("a.csv", b"text,label\na,0\nb,1,2\nc,0\nd\n", "lines 3, 5: the number of fields"),
        ("a.csv", b"text,label\n" + b"a\n" * 9, "lines 2, 3, 4, 5, 6 and 4 more"),
        ("a.csv", b'text,label\n"secret,0\nb,1\n', "line 3 ends a row that cannot be read: unexpected end of data"),
        ("a.csv", b'text,label\na,0\n"secret"x,1\n', "line 3 ends a row that cannot be read"),
        ("a.csv", b"text,label\na,0\n\xff\xfe,1\n", "line 3 is not UTF-8"),
        ("a.csv", b"text,label,text\na,0,b\n", "has text more than once"),
        ("a.csv", b"text,label\n", "has no examples"),
        ("a.csv", b"", "has no examples"),
        ("a.parquet", b"text,label\n", "not a readable Parquet file"),
        (
            "a.dat",
            b"{}",
            "Allowed: .arrow, .csv, .json, .jsonl, .ndjson, .parquet, .tsv, .txt.",
        ),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        readers.read_table(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def test_a_missing_file_is_reported_with_the_nearest_one(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").touch()
    with pytest.raises(UserError, match=r"no such file\. Did you mean '.*data/train\.csv'\?"):
        readers.read_table(tmp_path / "dta" / "trian.csv")


def test_headers_that_do_not_look_like_names_are_not_shown(tmp_path):
    (tmp_path / "a.csv").write_text("you are a secret,0\nb,1\n")
    table = readers.read_table(tmp_path / "a.csv")
    with pytest.raises(
        UserError, match=r"no column for the text\. It has: 0, 1 that do not look like names\."
    ) as error:
        readers.find_column(table, "text", ("comment", "text"))
    assert "secret" not in str(error.value)


def test_splitting_is_stratified_and_independent_of_the_order_of_rows():
    frame = pd.DataFrame({"label": [0] * 200 + [1] * 37, "name": [f"n{number}" for number in range(237)]})
    split = readers.split_frame(frame, frame["name"].tolist(), 0)
    assert {name: part["label"].value_counts().to_dict() for name, part in split.items()} == {
        "train": {0: 160, 1: 29}, "dev": {0: 20, 1: 4}, "test": {0: 20, 1: 4},
    }  # fmt: skip
    mixed = frame.iloc[random.Random(0).sample(range(237), 237)]
    again = readers.split_frame(mixed, mixed["name"].tolist(), 0)
    other = readers.split_frame(frame, frame["name"].tolist(), 1)
    for name in readers.SPLITS:
        assert set(split[name]["name"]) == set(again[name]["name"])
        assert set(split[name]["name"]) != set(other[name]["name"])
    assert sorted(pd.concat(split.values())["name"]) == sorted(frame["name"])


def test_a_known_split_does_not_change():
    """Old trials stay comparable: the ranking must never change."""
    frame = pd.DataFrame({"label": [0, 1] * 10})
    split = readers.split_frame(frame, [str(number) for number in range(20)], 0)
    assert (split["dev"].index.tolist(), split["test"].index.tolist()) == ([2, 5], [13, 14])


def test_unknown_labels_are_reported_by_line(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na, 1 \nb,2\nc,0.7\nd,x\ne,0\n")
    table = readers.read_table(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"lines 3, 4, 5: unknown label in 'label'\. Allowed: 0, 1\."):
        readers.check_labels(table, "label", CODES)


def test_a_label_that_never_occurs_is_refused():
    readers.check_classes("a.csv", [0, 1, 1], range(2))
    with pytest.raises(UserError, match=r"a\.csv: label 1 occurs 0 times, label 2 occurs 1 times; .* at least 2 times"):
        readers.check_classes("a.csv", [0, 0, 2], range(3), least=2)
