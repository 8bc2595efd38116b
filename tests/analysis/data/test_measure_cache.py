"""The cache file: reading it returns exactly what was written, or an empty table."""

import io
import math

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.data import measure_cache


def recorded(trial, values):
    """The bytes of a run's measures.parquet."""
    rows = [(trial, "downstream", "fpr", f"group {g}", "", value, 757) for g, value in enumerate(values)]
    buffer = io.BytesIO()
    pd.DataFrame(rows, columns=measure_cache.MEASURES.names).to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def two_runs():
    runs = (("run a", "t1", [0.1, math.nan, 0.3]), ("run b", "t2", [0.5, 0.25, 1 / 3]))
    return measure_cache.join([measure_cache.parse(recorded(trial, values), run, 7) for run, trial, values in runs])


def test_a_table_that_is_written_and_read_is_unchanged(two_runs, tmp_path):
    measure_cache.write(tmp_path / "deep" / "one.parquet", two_runs)
    read = measure_cache.read(tmp_path / "deep" / "one.parquet")
    assert read.to_pydict()["value"][2:] == two_runs.to_pydict()["value"][2:]
    assert read.drop_columns("value").equals(two_runs.drop_columns("value"))
    assert measure_cache.runs_of(read) == [("run a", "t1", 7), ("run b", "t2", 7)]
    assert measure_cache.runs_of(measure_cache.empty()) == []


def test_runs_are_sorted_and_other_runs_left_out(two_runs):
    in_order = measure_cache.ordered(two_runs, {"run b": 0, "run a": 1})
    assert in_order["trial"].to_pylist() == ["t2"] * 3 + ["t1"] * 3
    assert in_order["group"].to_pylist() == ["group 0", "group 1", "group 2"] * 2
    assert measure_cache.ordered(two_runs, {"run b": 0})["trial"].to_pylist() == ["t2"] * 3
    assert measure_cache.keep(two_runs, ["run a"])["trial"].to_pylist() == ["t1"] * 3
    assert len(measure_cache.ordered(measure_cache.empty(), {})) == 0


def test_no_flipped_bit_changes_a_value_unnoticed(tmp_path):
    """Without checksums, a Parquet file with a changed number would be read like any other."""
    file = tmp_path / "one.parquet"
    written = measure_cache.parse(recorded("t", [math.sin(g) for g in range(40)]), "run", 7)
    measure_cache.write(file, written)
    content = file.read_bytes()
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(measure_cache.SCHEMA.names.index("value"))
    start, lost = chunk.dictionary_page_offset or chunk.data_page_offset, 0
    for place in range(start, start + chunk.total_compressed_size):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        read = measure_cache.read(file)
        lost += not len(read)
        assert not len(read) or read.equals(written)
    assert lost > 100


def test_a_file_with_other_columns_is_ignored(two_runs, tmp_path):
    pq.write_table(two_runs.drop_columns("ended"), tmp_path / "one.parquet")
    assert len(measure_cache.read(tmp_path / "one.parquet")) == 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a Parquet file"])
def test_parsing_other_bytes_raises_an_error_that_fetch_catches(content):
    with pytest.raises((ValueError, KeyError, pa.ArrowException)):
        measure_cache.parse(content, "run", 7)


def test_parsing_a_file_without_a_column_raises():
    buffer = io.BytesIO()
    pd.DataFrame({"trial": ["t"], "value": [1.0]}).to_parquet(buffer)
    with pytest.raises((ValueError, KeyError, pa.ArrowException)):
        measure_cache.parse(buffer.getvalue(), "run", 7)


def test_the_file_name_hides_the_address_and_differs_by_store_and_experiment(tmp_path):
    names = {
        measure_cache.place(uri, name, tmp_path).name
        for uri in ("http://me:secret@a", "http://b")
        for name in ("x", "y")
    }
    assert len(names) == 4
    assert not any("secret" in name for name in names)
