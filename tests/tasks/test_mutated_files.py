"""Files that are changed at random are read whole or refused in one sentence: no row is lost, and nothing else is raised."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pandas as pd
import pyarrow
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from bias_transfer.errors import UserError
from bias_transfer.spec import parse
from bias_transfer.tasks import file_kinds, readers
from bias_transfer.tasks.base import Splits
from bias_transfer.tasks.registry import TASKS

SAID = ("a plain text", "one, two; three", 'she said "no"', "caf\u00e9", "it's", '"quoted"', "x\\y", "")
"""What follows the mark of a row, r7x."""

OVER_LINES = (*SAID, "two\nlines", 'and, "so"\non')

PIECES = (
    *(
        b'"',
        b'""',
        b",",
        b"\t",
        b";",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b" ",
        b"0",
        b"1",
        b"a",
    ),
    *(
        b"\0",
        b"\xff",
        b"\xe9",
        b"\x80",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\x1a",
        "\u2028".encode(),
        b"\\ud800",
        b"null",
        b"NaN",
    ),
)
"""What is written into files."""


def frame(said: tuple[str, ...]) -> pd.DataFrame:
    rows = [(f"n{row}", f"r{row}x {said[row % len(said)]}", row % 2) for row in range(24)]
    return pd.DataFrame(rows, columns=["id", "text", "label"])


def lines(frame: pd.DataFrame) -> list[str]:
    return [json.dumps(row) for row in frame.to_dict("records")]


def arrow(frame: pd.DataFrame) -> bytes:
    table, sink = pyarrow.Table.from_pandas(frame), pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


CSV, JSON = frame(OVER_LINES).to_csv(index=False), "\n".join(lines(frame(OVER_LINES)))
TEXTS = {
    "a.csv": frame(SAID).to_csv(index=False).encode(),
    "plain.csv": frame(SAID[:1]).to_csv(index=False).encode(),
    "over lines.csv": CSV.encode(),
    "semicolons.csv": frame(SAID).to_csv(index=False, sep=";").encode(),
    "windows.csv": frame(SAID).to_csv(index=False, lineterminator="\r\n").encode(),
    "a.tsv": frame(SAID).to_csv(index=False, sep="\t").encode(),
    "tweets.tsv": "\n".join(
        "\t".join(map(str, row)) for row in [["id", "text", "label"], *frame(SAID).values]
    ).encode(),
    "over lines.txt": frame(OVER_LINES).to_csv(index=False, sep="\t").encode(),
    "utf16.csv": frame(SAID).to_csv(index=False).encode("utf-16"),
    "a.jsonl": JSON.encode(),
    "a.json": f"[{', '.join(lines(frame(OVER_LINES)))}]".encode(),
    "over lines.json": json.dumps(frame(SAID).to_dict("records"), indent=1).encode(),
    "a.csv.gz": gzip.compress(CSV.encode(), mtime=0),
    "a.jsonl.zst": pyarrow.compress(JSON.encode(), codec="zstd", asbytes=True),
}
BINARY = {"a.parquet": frame(SAID).to_parquet(), "a.arrow": arrow(frame(SAID))}
FILES = TEXTS | BINARY

place = some.integers(0, 997).map(lambda number: number * 631 % 998 / 998)  # so that small numbers are anywhere
edits = some.one_of(
    some.tuples(some.just("insert"), place, some.sampled_from(PIECES)),
    some.tuples(some.just("replace"), place, some.sampled_from(PIECES)),
    some.tuples(some.just("delete"), place, some.integers(1, 8)),
    some.tuples(some.just("repeat"), place, some.integers(1, 60)),
    some.tuples(some.just("cut"), place, some.just(0)),
    some.tuples(some.just("enclose"), place, some.integers(1, 4)),
)


def enclosed(content: bytes, rows: int) -> bytes:
    """With a quotation mark where the next text begins, and one where a text ends that many rows later."""
    begins, ends = re.search(rb"r\d+x", content), [*re.finditer(rb"(?=[,;\t][01]\r?\n)", content)]
    if not begins or len(ends) <= rows:
        return content
    start, end = begins.start(), ends[rows].start()
    return content[:start] + b'"' + content[start:end] + b'"' + content[end:]


def edited(content: bytes, changes: list[tuple[str, float, bytes | int]]) -> bytes:
    for what, where, value in changes:
        start = int(where * len(content))
        before, after = content[:start], content[start:]
        content = {
            "enclose": lambda before=before, after=after, value=value: before + enclosed(after, value),
            "insert": lambda before=before, after=after, value=value: before + value + after,
            "replace": lambda before=before, after=after, value=value: before + value + after[len(value) :],
            "delete": lambda before=before, after=after, value=value: before + after[value:],
            "repeat": lambda before=before, after=after, value=value: before + after[:value] + after,
            "cut": lambda before=before: before,
        }[what]()
    return content


def load(path: Path) -> Splits:
    task = TASKS["wiki"]
    return task.load(str(path), parse(task.data_options(str(path)), {}, "data."))


def marks(text: str) -> set[str]:
    return set(re.findall(r"r\d+x", text))


def check(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    try:
        splits = load(folder / name)
    except UserError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message, "one paragraph"
    assert not marks(message), "no text is shown"
    if message:
        return
    table = readers.read_table(folder / name)
    texts = [text for own in (splits.train, splits.dev, splits.test) for text in own["text"]]
    assert len(texts) == len(table.frame)
    if name in TEXTS:
        raw, rows = file_kinds.read_text(folder / name), [marks(" ".join(row)) for row in table.frame.values]
        # Two rows of which a line break and all between was deleted are one row by any reading.
        spliced = [marks(line) for line in raw.splitlines()]
        assert all(len(row) <= 1 or row in spliced for row in rows), "a row swallowed another"
        assert set().union(*rows) == marks(raw), "a row is lost"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("edited")


def test_what_is_not_changed_is_read(folder):
    for name, content in FILES.items():
        check(folder, name, content)
        assert len(load(folder / name).train) == 20


@settings(derandomize=True, deadline=None, max_examples=50, database=None)
@example(name="plain.csv", changes=[("enclose", 0.3, 2)])
@given(name=some.sampled_from([*FILES]), changes=some.lists(edits, min_size=1, max_size=4))
def test_files_changed_at_random(folder, name, changes):
    check(folder, name, edited(FILES[name], changes))


@pytest.mark.long
@settings(derandomize=True, deadline=None, max_examples=2000, database=None)
@given(name=some.sampled_from([*FILES]), changes=some.lists(edits, min_size=1, max_size=6))
def test_many_files_changed_at_random(folder, name, changes):
    check(folder, name, edited(FILES[name], changes))
