"""A local cache of fetched measures: one Parquet file per experiment, which can be deleted at any time.

A cache table has the columns of `SCHEMA`; the rows of one run are adjacent and in the order in which the run recorded them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bias_transfer.hashing import digest
from bias_transfer.storage import atomic
from bias_transfer.storage.cache import default_folder

TEXTS = ("trial", "stage", "metric", "group", "template")
"""Columns with few distinct strings. They are dictionary-encoded, which takes a tenth of the memory."""

CODES = pa.dictionary(pa.int32(), pa.string())
MEASURES = pa.schema([*((name, CODES) for name in TEXTS), ("value", pa.float64()), ("n", pa.int64())])
SCHEMA = pa.schema([("run", CODES), ("ended", pa.int64()), *MEASURES])
"""Columns of a cache table: the MLflow run and when it ended, next to the columns of the measures."""


def place(uri: str, experiment: str, folder: Path | None = None) -> Path:
    """The cache file of an experiment in the MLflow store at `uri`.

    folder: the cache (default: the project's). The file's name is a hash, so that it does not reveal the store's address.
    """
    return (folder or default_folder()) / "measures" / f"{digest([uri, experiment])[:16]}.parquet"


def empty() -> pa.Table:
    """A cache table without rows."""
    return SCHEMA.empty_table()


def read(path: Path) -> pa.Table:
    """Read a cache table. A missing or damaged file gives an empty table, so that its measures are fetched again.

    Page checksums reveal flipped bits as well as truncated files.
    """
    try:
        table = pq.read_table(path, read_dictionary=["run", *TEXTS], page_checksum_verification=True)
        return table if table.schema.equals(SCHEMA) else empty()
    except (OSError, ValueError, pa.ArrowException):  # a missing file, not a Parquet file, a wrong checksum
        return empty()


def write(path: Path, table: pa.Table) -> None:
    """Write a cache table atomically.

    If two processes write at once, the last one wins; what the other had fetched is fetched again. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(path) as new:
        pq.write_table(table, new, compression="zstd", write_page_checksum=True)


def parse(content: bytes, run: str, ended: int) -> pa.Table:
    """The cache table of one run, from the bytes of the Parquet file that it recorded.

    Raises ValueError, KeyError or ArrowException if they are not such a file.
    """
    table = pq.read_table(BytesIO(content), read_dictionary=[*TEXTS]).select(MEASURES.names).cast(MEASURES)
    runs = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(table), np.int32)), pa.array([run]))
    return pa.table([runs, pa.array(np.full(len(table), ended)), *table.columns], schema=SCHEMA)


def join(tables: Collection[pa.Table]) -> pa.Table:
    """Concatenate cache tables, with one dictionary per column."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def runs_of(table: pa.Table) -> list[tuple[str, str, int]]:
    """(run id, trial id, end time) of each run in the table."""
    if not len(table):
        return []
    codes = column(table, "run").indices.to_numpy()
    first_rows = np.flatnonzero(np.diff(codes, prepend=-1))
    rows = table.select(["run", "trial", "ended"]).take(pa.array(first_rows)).to_pydict()
    return list(zip(rows["run"], rows["trial"], rows["ended"], strict=True))


def keep(table: pa.Table, runs: Collection[str]) -> pa.Table:
    """Only the rows of these runs."""
    return table.filter(pc.is_in(table["run"].cast(pa.string()), pa.array(runs, pa.string())))


def ordered(table: pa.Table, runs: Mapping[str, int]) -> pa.Table:
    """Only the rows of these runs, sorted by each run's position. runs: run id -> position."""
    run_column = column(table, "run")
    position_of_code = np.array([runs.get(run, -1) for run in run_column.dictionary.to_pylist()], np.int64)
    positions = position_of_code[run_column.indices.to_numpy()] if len(table) else np.array([], np.int64)
    order = np.argsort(positions, kind="stable")
    order = order[np.searchsorted(positions[order], 0) :]
    # Copying a large table takes as long as reading it, so a table already in order is returned as it is.
    return table if np.array_equal(order, np.arange(len(table))) else table.take(pa.array(order))


def column(table: pa.Table, name: str) -> pa.DictionaryArray:
    """A dictionary-encoded column as a single array."""
    chunks = table[name].unify_dictionaries().combine_chunks()
    return chunks if isinstance(chunks, pa.DictionaryArray) else chunks.chunk(0)
