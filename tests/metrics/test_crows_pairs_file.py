"""The reader of sentence pairs: strict, and silent about what the sentences say."""

from __future__ import annotations

import pytest

from bias_transfer.metrics.pairs_file import Pair
from bias_transfer.metrics.pairs_file import content_digest
from bias_transfer.metrics.pairs_file import read_pairs
from bias_transfer.errors import UserError

HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations\n"


@pytest.fixture
def written(tmp_path):
    def write(content: str | bytes) -> str:
        path = tmp_path / "pairs.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_the_published_form_is_read(written):
    path = written(HEADER + '0,"A, ""b"".",C.,stereo,age,"[[\'age\']]"\n\n1,D.,E.,antistereo,race-color,x\n')
    assert read_pairs(path) == (Pair('A, "b".', "C.", "stereo", "age"), Pair("D.", "E.", "antistereo", "race-color"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sent_more,sent_less,bias_type\nSECRET,b,age\n", "stereo_antistereo must each be one column"),
        (HEADER, "no pair"),
        ("", "must each be one column"),
        (HEADER + "0,SECRET,b,stereo,age\n", "line 2 ends a row of 5 fields; the header has 6"),
        (HEADER + "0,a,b,stereo,age,x\n1,SECRET,,stereo,age,x\n", "line 3 ends a row without sent_less"),
        (HEADER + "0,SECRET,b,Stereo,age,x\n", "line 2: stereo_antistereo is neither of stereo, antistereo"),
        (HEADER + "0,SECRET,SECRET,stereo,age,x\n", "line 2 ends a row whose two sentences are the same"),
        (HEADER + '0,"SECRET"x,b,stereo,age,x\n', "line 2 ends a row that cannot be read"),
        (HEADER.encode() + b"0,SECRET\xff,b,stereo,age,x\n", "line 2 is not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(written, content, told):
    with pytest.raises(UserError) as raised:
        read_pairs(written(content))
    assert told in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_a_file_that_is_not_there_names_its_option(tmp_path):
    for read in (read_pairs, content_digest):
        with pytest.raises(UserError, match="metric.crows_pairs: .*nothing.csv: no such file"):
            read(str(tmp_path / "nothing.csv"))


def test_the_digest_is_of_content_not_of_place(written, tmp_path):
    first = content_digest(written(HEADER + "0,a,b,stereo,age,x\n"))
    (tmp_path / "other.csv").write_bytes((tmp_path / "pairs.csv").read_bytes())
    assert content_digest(str(tmp_path / "other.csv")) == first
    assert content_digest(written(HEADER + "0,a,c,stereo,age,x\n")) != first
