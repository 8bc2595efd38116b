"""The biographies of the BIOS task: from the generator, a file, a folder or the hub, in the schema of `LabHC/bias_in_bios`."""

from __future__ import annotations

from typing import TypeAlias

import pandas as pd

from bias_transfer.models import hub
from bias_transfer.spec import Options
from bias_transfer.errors import UserError
from bias_transfer.tasks import readers
from bias_transfer.tasks.bios import gendered_words
from bias_transfer.tasks import loading
from bias_transfer.tasks.bios import synthetic
from bias_transfer.tasks.bios.occupations import OCCUPATIONS
from bias_transfer.tasks.loading import FileOptions
from bias_transfer.tasks.base import Splits

TEXT = ("hard_text", "bio", "text")
LABEL = ("profession", "occupation", "label")
PRONOUN = ("gender", "pronoun")
NAME = (gendered_words.NAME, "names")
"""Names of columns that are accepted. Only the last one may be missing."""

CODES = {str(label): label for label in range(len(OCCUPATIONS))} | {
    name: label for label, name in enumerate(OCCUPATIONS)
}
"""Occupations that are accepted: their number in alphabetical order, as on the hub, or their name."""

PRONOUNS = {"0": 0, "1": 1, "he": 0, "she": 1}
ALLOWED = (
    "Allowed: synthetic; a .csv, .tsv or .parquet file; a folder with train, dev and test as such files; a hub data set, "
    "OWNER/NAME, such as LabHC/bias_in_bios."
)

BiosOptions: TypeAlias = synthetic.SyntheticBiosOptions | FileOptions


def data_options(data: str) -> type[Options]:
    """The knobs that this source has."""
    return synthetic.SyntheticBiosOptions if data == "synthetic" else FileOptions


def identify(data: str) -> str:
    """Digest of what `load` reads, or a hub data set's commit; of `synthetic`, its name. Raises UserError."""
    if data == "synthetic":
        return data
    path = loading.locate(data, ALLOWED)
    return hub.revision(data, "dataset") if path is None else readers.content_digest(path)


def load(data: str, options: BiosOptions) -> Splits:
    """The biographies, in memory, with the columns pronoun and, where given, name. A single file is split by occupation, and
    by pronoun where it has enough of both. Raises UserError for what cannot be used, naming file, line and what is allowed.
    """
    loading.check_options(data, options, data_options(data))
    if isinstance(options, synthetic.SyntheticBiosOptions):
        return synthetic.generate(options)
    tables = loading.tables(data, loading.locate(data, ALLOWED))
    frames = {name: examples(table) for name, table in tables.items()}
    named = [split for split, frame in frames.items() if gendered_words.NAME in frame]
    if named and len(named) < len(frames):
        raise UserError(
            f"{data}: {' and '.join(named)} gives names of persons, and another split does not. Give all or none."
        )
    extra = ("pronoun", gendered_words.NAME) if named else ("pronoun",)
    return loading.splits(data, tables, frames, len(OCCUPATIONS), options, extra)


def examples(table: readers.Table) -> pd.DataFrame:
    """Columns text, label, given (`sources.own_ids`), pronoun ("she" or "he"), stratum and, where there is one, name."""
    text, label = readers.find_column(table, "text", TEXT), readers.find_column(table, "occupation", LABEL)
    pronouns = readers.check_labels(table, readers.find_column(table, "pronoun", PRONOUN), PRONOUNS)
    pronoun = ["she" if code else "he" for code in pronouns]
    frame = pd.DataFrame(
        {
            "text": readers.check_texts(table, text),
            "label": readers.check_labels(table, label, CODES),
            "given": loading.own_ids(table),
            "pronoun": pronoun,
            "stratum": pronoun,
        }
    )
    if any(name in table.frame for name in NAME):
        frame[gendered_words.NAME] = table.frame[readers.find_column(table, "name", NAME)].tolist()
    return frame
