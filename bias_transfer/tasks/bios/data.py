"""The biographies of the BIOS task: from the generator, a file, a folder or the hub, in the schema of `LabHC/bias_in_bios`."""

from __future__ import annotations

import pandas as pd

from bias_transfer.tasks import loading, readers
from bias_transfer.tasks.bios import gendered_words, synthetic
from bias_transfer.tasks.bios.occupations import OCCUPATIONS

TEXT = ("hard_text", "bio", "text")
LABEL = ("profession", "occupation", "label")
PRONOUN = ("gender", "pronoun")
NAME = (gendered_words.NAME, "names")
"""Names of columns that are accepted. Only the column of names may be missing."""

CODES = {str(label): label for label in range(len(OCCUPATIONS))} | {
    name: label for label, name in enumerate(OCCUPATIONS)
}
"""Occupations that are accepted: their number in alphabetical order, as on the hub, or their name."""

PRONOUNS = {"0": 0, "1": 1, "he": 0, "she": 1}


def examples(table: readers.Table) -> pd.DataFrame:
    """Columns text, label, given (`loading.given_ids`), pronoun (she or he), stratum (the pronoun) and, if given, name."""
    text, label = readers.find_column(table, "text", TEXT), readers.find_column(table, "occupation", LABEL)
    pronouns = readers.check_labels(table, readers.find_column(table, "pronoun", PRONOUN), PRONOUNS)
    pronoun = ["she" if code else "he" for code in pronouns]
    frame = pd.DataFrame(
        {
            "text": readers.check_texts(table, text),
            "label": readers.check_labels(table, label, CODES),
            "given": loading.given_ids(table),
            "pronoun": pronoun,
            "stratum": pronoun,
        }
    )
    if any(name in table.frame for name in NAME):
        frame[gendered_words.NAME] = table.frame[readers.find_column(table, "name", NAME)].tolist()
    return frame


SOURCE = loading.DataSource(
    classes=len(OCCUPATIONS),
    examples=examples,
    allowed="Allowed: synthetic; a .csv, .tsv or .parquet file; a folder with train, dev and test as such files; a hub data "
    "set, OWNER/NAME, such as LabHC/bias_in_bios.",
    generator=loading.Generator(synthetic.SyntheticBiosOptions, synthetic.generate),
)
"""Where the biographies come from. A single file is split by occupation, and by pronoun where it has enough of both."""
