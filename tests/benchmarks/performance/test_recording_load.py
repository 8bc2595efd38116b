"""What the benchmark of many writers counts as lost, double and changed, and the page that it writes to."""

import dataclasses

import pytest

from benchmarks import docs_blocks
from benchmarks.performance.load_stores import EXPERIMENT
from benchmarks.performance.load_stores import record
from benchmarks.performance.load_stores import result
from benchmarks.performance.recording_load import compare
from bias_transfer.tracking import recorder
from bias_transfer.tracking import runs
from bias_transfer.tracking import store

ROWS = 60


def test_what_is_lost_double_or_changed_is_counted(tmp_path):
    uri = record(tmp_path, 3, ROWS)
    assert compare(uri, 3, ROWS) == (0, 0, 0)
    client, own = store.connect(uri), result(1, ROWS)
    other = dataclasses.replace(
        own, headline={**own.headline, "roc_auc": own.headline["roc_auc"] + 1}
    )  # MLflow shows the larger of two
    recorder.record(client, recorder.start(client, EXPERIMENT, own.trial), other)
    assert compare(uri, 3, ROWS) == (0, 1, 1)
    client.delete_run(runs.finished(client, EXPERIMENT)[result(2, 0).trial.id])
    assert compare(uri, 3, ROWS) == (1, 1, 1)


def test_a_part_of_a_page_is_replaced_and_a_missing_one_told(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\n<!-- end of one -->\nb\n")
    for text in ("first \\1", "second"):
        docs_blocks.put("one", text, page)
        assert docs_blocks.part("one", page) == f"{text}\n"
        assert page.read_text() == f"a\n<!-- one -->\n{text}\n<!-- end of one -->\nb\n"
    with pytest.raises(ValueError, match="no part 'two'"):
        docs_blocks.put("two", "", page)
    assert docs_blocks.RELIABILITY.is_file()
