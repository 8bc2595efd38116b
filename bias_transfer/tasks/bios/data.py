"""The biographies of the BIOS task: from the generator, a file, a folder or the hub, in the schema of `LabHC/bias_in_bios`."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from bias_transfer.tasks import column_checks, file_kinds, loading, readers
from bias_transfer.tasks.bios import gendered_words, synthetic
from bias_transfer.tasks.bios.occupations import OCCUPATIONS, names_any, names_itself

TEXT = ("hard_text", "bio", "text")
LABEL = ("profession", "occupation", "label")
PRONOUN = ("gender", "pronoun")
NAME = (gendered_words.NAME, "names")
"""Names of columns that are accepted. Only the column of names may be missing."""

CODES = {str(label): label for label in range(len(OCCUPATIONS))} | {
    name: label for label, name in enumerate(OCCUPATIONS)
}
"""Occupations that are accepted: their number in alphabetical order, as on the hub, or their name."""

PRONOUNS = {
    **{"0": 0, "1": 1, "he": 0, "she": 1, "m": 0, "f": 1, "male": 0, "female": 1, "man": 0, "woman": 1},
    **{"he/him": 0, "she/her": 1},
}
SWAPPED = {"0": 1, "1": 0}


class BiographyOptions(loading.CheckedFileOptions):
    """`data.NAME` for biographies that are read."""

    genders: Literal["swapped"] | None = None
    """`swapped`: the column of the pronoun has 0 for she and 1 for he. None: 0 for he and 1 for she, as on the hub."""
    subset: bool | None = None
    """Takes data in which some of the 28 occupations do not occur; each of the others must occur in train, dev and test."""


def examples(table: readers.Table, options: BiographyOptions) -> pd.DataFrame:
    """Columns text, label, given (`loading.given_ids`), pronoun (she or he), stratum (the pronoun) and, if given, name."""
    table = readers.spelled(table, (TEXT, LABEL, PRONOUN), (*loading.ID, NAME[0]))
    text = readers.find_column(table, "text", TEXT, loading.OTHER_COLUMNS)
    label = readers.find_column(table, "occupation", LABEL, loading.OTHER_COLUMNS)
    codes = SWAPPED if options.genders == "swapped" else PRONOUNS
    pronouns = readers.check_labels(table, readers.find_column(table, "pronoun", PRONOUN, loading.OTHER_COLUMNS), codes)
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


def _pronoun_agrees(text: str, pronoun: str) -> bool | None:
    """Whether the text has more words for this pronoun than for the other; None for as many of both, or none."""
    she, he = gendered_words.visible(text)
    return None if she == he else (she > he) == (pronoun == "she")


def _occupation_agrees(text: str, label: int) -> bool | None:
    """Whether the text names this occupation; None if it names none at all."""
    if names_itself(text, OCCUPATIONS[label]):
        return True
    return False if names_any(text) else None


CHECKS = {
    "pronoun": column_checks.ColumnCheck(
        column="pronoun",
        agrees=_pronoun_agrees,
        limit=0.2,
        informative="texts with more words for one pronoun than for the other",
        remedy="0 is read as he and 1 as she, with data.genders=swapped the other way round. If the column is right as it is "
        "read, set data.trust_columns=true.",
    ),
    "label": column_checks.ColumnCheck(
        column="occupation",
        agrees=_occupation_agrees,
        limit=0.5,
        informative="texts that name an occupation",
        remedy="Occupations are numbered in alphabetical order (0 is accountant, 27 is yoga_teacher): if the file numbers "
        "them otherwise, write them by name. If the column is right as it is read, set data.trust_columns=true.",
        name=OCCUPATIONS.__getitem__,
    ),
}
"""Limits are ours. In a sample of 280 real biographies, 0 of 275 informative texts contradict the pronoun, and 17 of 73 name
another occupation alone."""

SOURCE = loading.DataSource(
    classes=len(OCCUPATIONS),
    examples=examples,
    names=OCCUPATIONS,
    allowed=f"Allowed: synthetic; {file_kinds.ALLOWED}; a folder with train, dev and test as such files; a hub data set, "
    "OWNER/NAME, such as LabHC/bias_in_bios.",
    subset="If the data have only some of the 28 occupations, set data.subset=true.",
    file_options=BiographyOptions,
    checks=CHECKS,
    roles={"text": TEXT, "occupation": LABEL, "pronoun": PRONOUN, "name": NAME},
    generator=loading.Generator(synthetic.SyntheticBiosOptions, synthetic.generate),
)
"""Where the biographies come from. A single file is split by occupation, and by pronoun where it has enough of both."""
