"""No row of a .csv or .tsv file is lost to a quotation mark: it is read, or refused with its line."""

from __future__ import annotations

import pytest

from bias_transfer.errors import UserError
from bias_transfer.tasks import readers


def tweets() -> list[tuple[str, str, str]]:
    """120 rows. Every tenth text begins with a quotation mark, the third after it ends with one, as people tweet."""
    marks = {3: '"{}', 6: '{}"', 8: '"{}"', 9: '5" {} "so"'}
    return [(str(row), marks.get(row % 10, "{}").format(f"text {row}"), str(row % 2)) for row in range(120)]


def write(path, delimiter: str):
    path.write_text("\n".join(delimiter.join(row) for row in [("id", "text", "label"), *tweets()]))
    return path


def test_a_file_of_tweets_loses_no_row(tmp_path):
    table = readers.read_table(write(tmp_path / "a.tsv", "\t"))
    assert table.frame["id"].tolist() == [str(row) for row in range(120)]
    assert table.frame["text"].tolist()[3:10] == [
        '"text 3', "text 4", "text 5", 'text 6"', "text 7", "text 8", '5" text 9 "so"',
    ]  # fmt: skip
    assert table.frame.index.tolist() == list(range(2, 122))


def test_rows_that_a_quotation_mark_would_swallow_are_refused(tmp_path):
    """With commas, or where one line has another number of tabs, a field may span lines: these rows could be one text."""
    mixed = write(tmp_path / "b.tsv", "\t")
    mixed.write_text(mixed.read_text() + '\n120\t"two\nlines"\t1\n')
    for path in (write(tmp_path / "a.csv", ","), mixed):
        with pytest.raises(
            UserError, match=r"line 5 opens a quotation mark that closes on line 8 only, although .* 4 lines"
        ):
            readers.read_table(path)


def test_a_mark_within_a_field_is_refused_where_rows_span_lines(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\na 5" pipe,0\nb,1\n"two\nlines",0\nc,1\n')
    with pytest.raises(
        UserError, match=r"4 rows are read, but 2 rows begin by the count of quotation marks.* line 3 on"
    ):
        readers.read_table(tmp_path / "a.csv")


def test_texts_over_several_lines_are_read(tmp_path):
    """Each line of the second row has the header's two commas, as happens in real comments, but it is no row by itself."""
    (tmp_path / "a.csv").write_text('id,text,label\n1,a,0\n2,"Hello, you\n\nand, ""you"", too\nare, fine",1\n3,b,1\n')
    frame = readers.read_table(tmp_path / "a.csv").frame
    assert frame["text"].tolist() == ["a", 'Hello, you\n\nand, "you", too\nare, fine', "b"]
    assert frame.index.tolist() == [2, 3, 7]


def test_a_long_text_is_read(tmp_path):
    (tmp_path / "a.csv").write_text(f"text,label\n{'long ' * 28_000},0\n")
    assert len(readers.read_table(tmp_path / "a.csv").frame["text"][2]) == 140_000
