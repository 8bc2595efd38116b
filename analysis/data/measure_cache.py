"""Measures that were fetched once, in one Parquet file an experiment. It can be deleted at any time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bias_transfer.storage.cache import default_folder
from bias_transfer.hashing import digest

TEXTS = ("trial", "stage", "metric", "group", "template")
"""Columns of few different words: kept as codes, which is a tenth of the memory."""

CODES = pa.dictionary(pa.int32(), pa.string())
MEASURES = pa.schema([*((name, CODES) for name in TEXTS), ("value", pa.float64()), ("n", pa.int64())])
SCHEMA = pa.schema([("run", CODES), ("ended", pa.int64()), *MEASURES])
"""The rows of a run are neighbours, in the order in which it recorded them."""


def place(uri: str, experiment: str, folder: Path | None = None) -> Path:
    """The file of an experiment of a store, in `folder` (default: the project's cache). Its name hides the address."""
    return (folder or default_folder()) / "measures" / f"{digest([uri, experiment])[:16]}.parquet"


def empty() -> pa.Table:
    """A pack of no run."""
    return SCHEMA.empty_table()


def read(path: Path) -> pa.Table:
    """The pack as it was written; an empty one where there is none, or where it is damaged: it is then fetched again.

    Pages carry check sums, so that a flipped bit is seen as well as a cut file.
    """
    try:
        table = pq.read_table(path, read_dictionary=["run", *TEXTS], page_checksum_verification=True)
        return table if table.schema.equals(SCHEMA) else empty()
    except (OSError, ValueError, pa.ArrowException):  # no file; no Parquet; a wrong check sum
        return empty()


def write(path: Path, table: pa.Table) -> None:
    """Whole or not at all, written aside and renamed: of two processes the last one wins, and what the other had fetched is
    fetched again. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    os.close(handle)
    try:
        pq.write_table(table, aside, compression="zstd", write_page_checksum=True)
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


def parse(content: bytes, run: str, ended: int) -> pa.Table:
    """A pack of one run, from the Parquet file that it recorded. Raises ValueError, KeyError or ArrowException for others."""
    table = pq.read_table(BytesIO(content), read_dictionary=[*TEXTS]).select(MEASURES.names).cast(MEASURES)
    runs = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(table), np.int32)), pa.array([run]))
    return pa.table([runs, pa.array(np.full(len(table), ended)), *table.columns], schema=SCHEMA)


def join(tables: Collection[pa.Table]) -> pa.Table:
    """One pack of several, with one list of words a column."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def runs_of(table: pa.Table) -> list[tuple[str, str, int]]:
    """(run id, trial, end) of each run in the pack."""
    if not len(table):
        return []
    codes = column(table, "run").indices.to_numpy()
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    rows = table.select(["run", "trial", "ended"]).take(pa.array(first)).to_pydict()
    return list(zip(rows["run"], rows["trial"], rows["ended"], strict=True))


def keep(table: pa.Table, runs: Collection[str]) -> pa.Table:
    """The rows of these runs alone."""
    return table.filter(pc.is_in(table["run"].cast(pa.string()), pa.array(runs, pa.string())))


def ordered(table: pa.Table, runs: Mapping[str, int]) -> pa.Table:
    """The rows of these runs alone, in the order of run -> place."""
    words = column(table, "run")
    places = np.array([runs.get(run, -1) for run in words.dictionary.to_pylist()], np.int64)
    rows = places[words.indices.to_numpy()] if len(table) else np.array([], np.int64)
    order = np.argsort(rows, kind="stable")
    order = order[np.searchsorted(rows[order], 0) :]
    return table if np.array_equal(order, np.arange(len(table))) else table.take(pa.array(order))


def column(table: pa.Table, name: str) -> pa.DictionaryArray:
    """A column of words as one array of codes and its words."""
    chunks = table[name].unify_dictionaries().combine_chunks()
    return chunks if isinstance(chunks, pa.DictionaryArray) else chunks.chunk(0)
