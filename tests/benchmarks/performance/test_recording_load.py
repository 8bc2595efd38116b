"""What the benchmark of concurrent recording counts as lost, duplicated or changed, and the page that it writes to."""

import dataclasses

import pytest

from benchmarks import docs_blocks
from benchmarks.performance.load_stores import EXPERIMENT, record, result
from benchmarks.performance.recording_load import compare
from bias_transfer.tracking import recorder, runs, store

ROWS = 60


def test_lost_duplicated_and_changed_records_are_counted(tmp_path):
    uri = record(tmp_path, 3, ROWS)
    assert compare(uri, 3, ROWS) == (0, 0, 0)
    client, recorded = store.connect(uri), result(1, ROWS)
    # MLflow shows the larger of two values at the same step.
    changed = dataclasses.replace(recorded, headline={**recorded.headline, "roc_auc": recorded.headline["roc_auc"] + 1})
    recorder.record(client, recorder.start(client, EXPERIMENT, recorded.trial), changed)
    assert compare(uri, 3, ROWS) == (0, 1, 1)
    client.delete_run(runs.finished(client, EXPERIMENT)[result(2, 0).trial.id])
    assert compare(uri, 3, ROWS) == (1, 1, 1)


def test_a_block_of_a_page_is_replaced_and_a_missing_block_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\n<!-- end of one -->\nb\n")
    for text in ("first \\1", "second"):
        docs_blocks.put("one", text, page)
        assert docs_blocks.part("one", page) == f"{text}\n"
        assert page.read_text() == f"a\n<!-- one -->\n{text}\n<!-- end of one -->\nb\n"
    with pytest.raises(ValueError, match="no block 'two'"):
        docs_blocks.put("two", "", page)
    assert docs_blocks.FAULT_TOLERANCE.is_file()
