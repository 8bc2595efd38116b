"""The file that carries finished trials from one MLflow store to another: Parquet, with a row per trial.

A row has what the run of the trial recorded (`SCHEMA`), the long table of its measures included; rows are sorted by trial id.
The file's metadata have a header (`Study` without its trials, as JSON) and a digest of all content. Nothing says when or from
which store the file was written, so the same trials give the same bytes with the same version of pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from bias_transfer.errors import UserError
from bias_transfer.hashing import digest, text_digest
from bias_transfer.spec import NUMERICS, Trial, parse_trial
from bias_transfer.storage import atomic
from bias_transfer.tracking.store import IMPORTED, KEPT, KIND, SWEEP, TRIAL

FORMAT, VERSION = "bias-transfer trials", 1
"""The format's name, and its version, which is raised when an older program could no longer read the file rightly."""

HEADER = b"bias_transfer"
"""Key of the header in the file's metadata."""

TEXTS = ("stage", "metric", "group", "template")
MEASURES = pa.schema([*((name, pa.string()) for name in TEXTS), ("value", pa.float64()), ("n", pa.int64())])
"""Columns of a trial's measures; a missing value is null."""

TIME, TIMES = pa.timestamp("ms", "UTC"), ("started", "ended")
SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("status", pa.string()),
        ("name", pa.string()),
        ("sweep", pa.string()),
        ("started", TIME),
        ("ended", TIME),
        ("fields", pa.string()),
        ("facts", pa.string()),
        ("parameters", pa.map_(pa.string(), pa.string())),
        ("tags", pa.map_(pa.string(), pa.string())),
        ("warnings", pa.list_(pa.string())),
        ("metrics", pa.list_(pa.struct([("metric", pa.string()), ("step", pa.int64()), ("value", pa.float64())]))),
        ("measures", pa.list_(pa.struct([*MEASURES]))),
    ]
)
"""Columns of the file. fields, facts: JSON, as the run's trial.json has them. metrics: the headline, at step 0, and the loss
curve."""

WARNING = "warning."
"""Prefix of the tags that are in the column `warnings`, in their order."""

FINISHED = "FINISHED"
"""The status of every trial in a file."""

STORES_OWN = (KIND, TRIAL, SWEEP, KEPT, IMPORTED)
"""Tags that are not carried: those that are written for every run, and the size of predictions, which stay where they are."""

Point = tuple[str, int, float]
"""Metric, step, value."""


@dataclass(frozen=True, eq=False)
class CarriedTrial:
    """The finished run of a trial, without what only its store gives a meaning: run ids, users, places of artifacts."""

    trial: str
    """The id under which it was recorded."""
    name: str
    """The run's name in MLflow's UI."""
    sweep: str
    """Id of the grid that ran it; empty if it is not known."""
    started: int
    """Milliseconds since 1970, like `ended`."""
    ended: int
    fields: dict[str, Any]
    """The trial, as `spec.parse_trial` takes it."""
    facts: dict[str, Any]
    parameters: dict[str, str]
    tags: dict[str, str]
    points: tuple[Point, ...]
    """Headline metrics and loss curve, sorted."""
    measures: pa.Table
    """With the columns `MEASURES`, in the order in which they were recorded."""

    @property
    def numbers(self) -> str:
        """Digest of its numbers, to the bit: measures, headline and loss curve. Times, names and places are no part of them."""
        return digest([[(name, step, value.hex()) for name, step, value in self.points], _digest_of(self.measures)])


@dataclass(frozen=True)
class CarriedSweep:
    """The parent run of a grid."""

    id: str
    """Hash of the ids of its trials."""
    name: str
    started: int
    ended: int
    """When it was last used."""
    grid: dict[str, Any]
    """Trials, primary metrics, analysis plan and labels, as the sweep recorded them at its first start."""


@dataclass(frozen=True, eq=False)
class Study:
    """The finished trials of an experiment, and its sweeps: the content of a file."""

    experiment: str
    package: str
    """The version of bias-transfer that exported it."""
    numerics: int
    """`spec.NUMERICS` there, which is part of the trials' ids."""
    sweeps: tuple[CarriedSweep, ...]
    trials: tuple[CarriedTrial, ...]
    """Sorted by id."""

    @property
    def header(self) -> dict[str, Any]:
        """All of it but the trials, and the format, as JSON."""
        names = ("experiment", "package", "numerics")
        sweeps = [asdict(sweep) for sweep in self.sweeps]
        return {"format": FORMAT, "version": VERSION, **{name: getattr(self, name) for name in names}, "sweeps": sweeps}

    @property
    def digest(self) -> str:
        """SHA-256 of all content, whatever pyarrow makes of it."""
        return digest([text_digest([_text(self.header)]), *(_digest_of_row(trial) for trial in self.trials)])


def _text(value: Any) -> str:
    """JSON in the order of the keys, which grids give a meaning; floats come back bit for bit, and NaN is allowed."""
    return json.dumps(value, separators=(",", ":"))


def _digest_of_row(trial: CarriedTrial) -> str:
    return text_digest([_text([*_plain(trial).values()]), trial.numbers])


def _digest_of(measures: pa.Table) -> str:
    parts = []
    for name in TEXTS:
        # Distinct strings in the order in which they first occur, and their numbers: hashing every string takes seconds.
        column = measures[name].combine_chunks().dictionary_encode()
        parts += [text_digest(column.dictionary.to_pylist()), _bytes(column.indices, "<i4")]
    return digest([*parts, _bytes(measures["value"].fill_null(np.nan), "<f8"), _bytes(measures["n"], "<i8")])


def _bytes(column: Any, kind: str) -> str:
    return text_digest([column.to_numpy().astype(kind).tobytes().hex()])


def _plain(trial: CarriedTrial) -> dict[str, Any]:
    """The columns of a trial but metrics and measures."""
    warnings = [text for _, text in sorted((int(key.removeprefix(WARNING)), text) for key, text in _warnings(trial))]
    tags = {key: text for key, text in trial.tags.items() if not key.startswith(WARNING)}
    return {
        "trial": trial.trial,
        "status": FINISHED,
        "name": trial.name,
        "sweep": trial.sweep,
        "started": trial.started,
        "ended": trial.ended,
        "fields": _text(dict(sorted(trial.fields.items()))),
        "facts": _text(dict(sorted(trial.facts.items()))),
        "parameters": sorted(trial.parameters.items()),
        "tags": sorted(tags.items()),
        "warnings": warnings,
    }


def _warnings(trial: CarriedTrial) -> Iterator[tuple[str, str]]:
    return ((key, text) for key, text in trial.tags.items() if key.startswith(WARNING))


def write(path: Path, study: Study) -> None:
    """Write the file, whole or not at all; a file that is there is replaced. Raises OSError."""
    rows = [_plain(trial) for trial in study.trials]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in [*SCHEMA][:-2]]
    points = [
        [{"metric": name, "step": step, "value": value} for name, step, value in trial.points] for trial in study.trials
    ]
    columns += [pa.array(points, SCHEMA.field("metrics").type), _nested([trial.measures for trial in study.trials])]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    with atomic.new_file(path) as new, pq.ParquetWriter(new, SCHEMA, **PARQUET) as writer:
        writer.write_table(table, row_group_size=max(len(rows), 1))
        writer.add_key_value_metadata({HEADER: _text({**study.header, "digest": study.digest})})


LARGE = 1 << 26
"""Bytes of a page of the file: many trials fit, so that what they have in common is stored once."""

PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 12,
    "data_page_size": LARGE,
    # One dictionary for all trials: those that share a model share most of their values.
    "dictionary_pagesize_limit": LARGE,
    "write_page_checksum": True,
    "write_statistics": False,
    "store_schema": False,
}
"""How the file is written: small, and with checksums that reveal flipped bits."""


def _nested(tables: Sequence[pa.Table]) -> pa.Array:
    """The measures of all trials as one list per trial."""
    whole = pa.concat_tables([MEASURES.empty_table(), *tables]).combine_chunks()
    arrays = [column.combine_chunks() for column in whole.columns]
    arrays = [array.chunk(0) if isinstance(array, pa.ChunkedArray) else array for array in arrays]
    offsets = np.cumsum([0, *(len(table) for table in tables)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(arrays, fields=[*MEASURES]))


def read(path: Path) -> Study:
    """Read a file, and check its digest and every row. Raises UserError, in one sentence, for any other file."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            header = _header(path, file.metadata.metadata or {})
            table = file.read()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}.") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, str(error)) from None
    try:
        study = _study(header, table)
        if study.digest != header["digest"]:
            raise ValueError("its content does not have the digest that it was written with")
        _check(study)
    except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowException, UserError) as error:
        raise _damaged(path, str(error)) from None
    return study


def _damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is damaged, or was never a file of `bias-transfer runs export` ({why.strip().splitlines()[0][:200]}): get or "
        f"export it again; nothing was imported."
    )


def _header(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The header of a file in this format. Raises UserError for another one."""
    try:
        header = json.loads(metadata.get(HEADER, b"null"))
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(
            f"{path} is a Parquet file that `bias-transfer runs export` did not write; nothing was imported."
        )
    # Whoever made the file chose the names in it, and messages show them on a terminal.
    if not _shown(header).isprintable():
        raise _damaged(path, "names in it have control characters")
    if header.get("version") != VERSION:
        raise UserError(
            f"{path} is in version {header.get('version')} of the format, written by bias-transfer {header.get('package')}, "
            f"and this program reads version {VERSION}: export it again with the bias-transfer that imports it, or import it "
            f"with the one that exported it; nothing was imported."
        )
    return header


def _shown(header: Mapping[str, Any]) -> str:
    """What messages show of a header."""
    sweeps = header.get("sweeps")
    names = [str(sweep.get("name")) for sweep in sweeps if isinstance(sweep, dict)] if isinstance(sweeps, list) else []
    return " ".join([*(str(header.get(name)) for name in ("experiment", "package", "version", "numerics")), *names])


def _study(header: Mapping[str, Any], table: pa.Table) -> Study:
    if not table.schema.equals(SCHEMA, check_metadata=False):
        raise ValueError("its columns are not those of this format")
    sweeps = tuple(CarriedSweep(**fields) for fields in header["sweeps"])
    return Study(header["experiment"], header["package"], header["numerics"], sweeps, tuple(_trials(table)))


def _trials(table: pa.Table) -> Iterator[CarriedTrial]:
    measures = table["measures"].combine_chunks()
    for name in TIMES:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.int64()))
    for row, array in zip(table.drop_columns("measures").to_pylist(), measures, strict=True):
        if row.pop("status") != FINISHED:
            raise ValueError(f"trial {row['trial']!r} is not finished")
        warnings = {f"{WARNING}{number}": text for number, text in enumerate(row.pop("warnings"))}
        points = tuple((point["metric"], point["step"], point["value"]) for point in row.pop("metrics"))
        values = pa.Table.from_arrays(array.values.flatten(), schema=MEASURES)
        texts = {name: json.loads(row[name]) for name in ("fields", "facts")}
        tags = dict(row["tags"]) | warnings
        more = {"parameters": dict(row["parameters"]), "tags": tags, "points": points, "measures": values}
        yield CarriedTrial(**{**row, **texts, **more})


def _check(study: Study) -> None:
    """Raises ValueError or UserError for a row or a sweep that could not be recorded, or not be found again."""
    ids = [trial.trial for trial in study.trials]
    if ids != sorted(set(ids)):
        raise ValueError("its trials are not in order, or not each there once")
    for trial in study.trials:
        if not (trial.trial + trial.name).isprintable():
            raise ValueError("names in it have control characters")
        if not all(map(is_carried, trial.tags)):
            raise ValueError(f"trial {trial.trial} has tags that no export writes")
        if not id_holds(trial.trial, trial.fields, study.numerics) or "digest.train" not in trial.facts:
            raise ValueError(f"trial {trial.trial} does not have the fields or facts of its id")
    for sweep in study.sweeps:
        if not grid_holds(sweep, study.numerics):
            raise ValueError(f"the sweep {sweep.name} does not have the trials of its id")


def is_carried(tag: str) -> bool:
    """Whether a tag says something of the trial: of MLflow's own only the commit does; others name users and folders."""
    return tag == MLFLOW_GIT_COMMIT or not (tag.startswith("mlflow.") or tag in STORES_OWN)


def id_holds(trial_id: str, fields: Mapping[str, Any], numerics: int = NUMERICS) -> bool:
    """Whether a trial has the id under which it was recorded. Raises UserError for fields that are no trial's.

    numerics: those of the id; if they are not today's, only the fields can be checked.
    """
    return parse_trial(fields).id == trial_id or numerics != NUMERICS


def grid_holds(sweep: CarriedSweep, numerics: int = NUMERICS) -> bool:
    """The same of the id of a grid."""
    return grid_id(trials_of(sweep)) == sweep.id or numerics != NUMERICS


def trials_of(sweep: CarriedSweep) -> tuple[Trial, ...]:
    """The grid. Raises UserError as `parse_trial` does."""
    return tuple(parse_trial(fields) for fields in cast("list[dict[str, Any]]", sweep.grid["trials"]))


def grid_id(trials: Sequence[Trial]) -> str:
    """The id of a grid: the same in whatever order its axes are written."""
    return digest(sorted(trial.id for trial in trials))[:12]
