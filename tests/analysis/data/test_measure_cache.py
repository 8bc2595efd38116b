"""The cache's file: what is read is what was written, or nothing."""

import io
import math

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.data import measure_cache


def recorded(trial, values):
    """A run's measures.parquet."""
    rows = [(trial, "downstream", "fpr", f"group {g}", "", value, 757) for g, value in enumerate(values)]
    buffer = io.BytesIO()
    pd.DataFrame(rows, columns=measure_cache.MEASURES.names).to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def two():
    runs = (("run a", "t1", [0.1, math.nan, 0.3]), ("run b", "t2", [0.5, 0.25, 1 / 3]))
    return measure_cache.join([measure_cache.parse(recorded(trial, values), run, 7) for run, trial, values in runs])


def test_it_comes_back_as_it_was(two, tmp_path):
    measure_cache.write(tmp_path / "deep" / "own.parquet", two)
    found = measure_cache.read(tmp_path / "deep" / "own.parquet")
    assert found.to_pydict()["value"][2:] == two.to_pydict()["value"][2:]
    assert found.drop_columns("value").equals(two.drop_columns("value"))
    assert measure_cache.runs_of(found) == [("run a", "t1", 7), ("run b", "t2", 7)]
    assert measure_cache.runs_of(measure_cache.empty()) == []


def test_runs_are_put_in_order_and_others_left_out(two):
    found = measure_cache.ordered(two, {"run b": 0, "run a": 1})
    assert found["trial"].to_pylist() == ["t2"] * 3 + ["t1"] * 3
    assert found["group"].to_pylist() == ["group 0", "group 1", "group 2"] * 2
    assert measure_cache.ordered(two, {"run b": 0})["trial"].to_pylist() == ["t2"] * 3
    assert measure_cache.keep(two, ["run a"])["trial"].to_pylist() == ["t1"] * 3
    assert len(measure_cache.ordered(measure_cache.empty(), {})) == 0


def test_no_flipped_bit_of_the_values_gives_another_number(tmp_path):
    """Without check sums a Parquet file with another number in it reads as well as any."""
    file = tmp_path / "own.parquet"
    whole = measure_cache.parse(recorded("t", [math.sin(g) for g in range(40)]), "run", 7)
    measure_cache.write(file, whole)
    content = file.read_bytes()
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(measure_cache.SCHEMA.names.index("value"))
    start, lost = chunk.dictionary_page_offset or chunk.data_page_offset, 0
    for place in range(start, start + chunk.total_compressed_size):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        found = measure_cache.read(file)
        lost += not len(found)
        assert not len(found) or found.equals(whole)
    assert lost > 100


def test_a_file_of_another_layout_is_not_taken(two, tmp_path):
    pq.write_table(two.drop_columns("ended"), tmp_path / "own.parquet")
    assert len(measure_cache.read(tmp_path / "own.parquet")) == 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all"])
def test_what_is_no_record_raises_what_fetch_catches(content):
    with pytest.raises((ValueError, KeyError, pa.ArrowException)):
        measure_cache.parse(content, "run", 7)


def test_a_record_without_a_column_raises():
    buffer = io.BytesIO()
    pd.DataFrame({"trial": ["t"], "value": [1.0]}).to_parquet(buffer)
    with pytest.raises((ValueError, KeyError, pa.ArrowException)):
        measure_cache.parse(buffer.getvalue(), "run", 7)


def test_the_files_name_hides_the_address_and_differs_by_store_and_experiment(tmp_path):
    names = {measure_cache.place(uri, name, tmp_path).name for uri in ("http://me:secret@a", "http://b") for name in ("x", "y")}
    assert len(names) == 4
    assert not any("secret" in name for name in names)
