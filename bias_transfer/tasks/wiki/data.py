"""The comments of the WIKI task: from the generator, a file, a folder, the figshare pair or the hub.

Public forms: the pair of files of Wulczyn et al. 2017 on figshare, the Kaggle form, and its mirrors on the hub
(docs/science.md, "The two tasks"). Columns are found by their names; a form is never guessed from the content.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import field_validator

from bias_transfer.errors import UserError
from bias_transfer.tasks import file_kinds, label_cells, loading, readers
from bias_transfer.tasks.wiki import synthetic

TEXT = ("comment", "comment_text", "text")
LABEL = ("toxic", "is_toxic", "label")
"""Names of columns that are accepted."""

CODES = {
    **{"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1},
    **label_cells.binary(("0", "1")),
    **{"toxic": 1, "non-toxic": 0, "not toxic": 0, "nontoxic": 0},
}
"""Labels that are accepted, in any case; 1 is toxic."""

THRESHOLD = "Set the number from which on a comment is toxic, as in data.threshold=0.5."

COMMENTS, ANNOTATIONS = "toxicity_annotated_comments.tsv", "toxicity_annotations.tsv"


class CommentOptions(loading.FileOptions):
    """`data.NAME` for comments that are read."""

    newline: Literal["space", "break"] | None = None
    """What is read for NEWLINE_TOKEN and TAB_TOKEN, which stand for a line break and a tab in the published comments. None,
    like `space`: a space for either, as in Dixon et al.'s code; `break`: the line break and the tab."""

    threshold: float | None = None
    """For a column of numbers, such as shares of annotators: the least number of a toxic comment."""

    @field_validator("newline")
    @classmethod
    def _space_is_not_set(cls, value: str | None) -> str | None:
        return None if value == "space" else value  # so that `space` has the id of a trial that says nothing


def examples(table: readers.Table, options: CommentOptions) -> pd.DataFrame:
    """Columns text, label and given (`loading.given_ids`). Raises UserError, naming the line."""
    table = readers.spelled(table, (TEXT, LABEL), loading.ID)
    text = readers.find_column(table, "text", TEXT, loading.OTHER_COLUMNS)
    label = readers.find_column(table, "label", LABEL, loading.OTHER_COLUMNS)
    if options.threshold is None:
        labels = readers.check_labels(table, label, CODES, THRESHOLD)
    else:
        labels = readers.labels_from(table, label, options.threshold)
    newline, tab = ("\n", "\t") if options.newline == "break" else (" ", " ")
    plain = table.frame[text].str.replace("NEWLINE_TOKEN", newline).str.replace("TAB_TOKEN", tab)
    table = replace(table, frame=table.frame.assign(**{text: plain}))
    return pd.DataFrame({"text": readers.check_texts(table, text), "label": labels, "given": loading.given_ids(table)})


def _read_figshare(folder: Path) -> dict[str, readers.Table]:
    """The pair of files as one table per split. toxic: the mean over the annotators' votes is above 0.5."""
    table, annotations = readers.read_table(folder / COMMENTS), readers.read_table(folder / ANNOTATIONS)
    votes = readers.check_labels(annotations, readers.find_column(annotations, "label", ("toxicity",)), CODES)
    key = readers.find_column(annotations, "comment's id", ("rev_id",))
    means = pd.Series(votes).groupby(_without_fraction(annotations.frame[key]).to_numpy()).mean()
    frame = table.frame
    mean = _without_fraction(frame[readers.find_column(table, "comment's id", ("rev_id",))]).map(means)
    if mean.isna().any():
        lacking = table.at(frame.index[mean.isna()])
        raise UserError(f"{lacking}: no annotation in {ANNOTATIONS}. Every comment needs one.")
    split = frame[readers.find_column(table, "split", ("split",))]
    if unknown := list(frame.index[~split.isin(readers.SPLITS)]):
        raise UserError(f"{table.at(unknown)}: unknown split. Allowed: {', '.join(readers.SPLITS)}.")
    frame = frame.assign(toxic=(mean > 0.5).astype(int).astype(str))
    return {name: readers.Table(table.source, frame[split == name]) for name in readers.SPLITS}


def _without_fraction(ids: pd.Series[str]) -> pd.Series[str]:
    """The published files write ids as 2232.0."""
    return ids.str.removesuffix(".0")


SOURCE = loading.DataSource(
    classes=2,
    examples=examples,
    names=("not toxic", "toxic"),
    allowed=f"Allowed: synthetic; {file_kinds.ALLOWED}; a folder with train, dev and test as such files, or with the "
    f"figshare pair {COMMENTS} and {ANNOTATIONS}; a hub data set, OWNER/NAME.",
    generator=loading.Generator(synthetic.SyntheticOptions, synthetic.generate),
    file_options=CommentOptions,
    folder_form=loading.FolderForm((COMMENTS, ANNOTATIONS), _read_figshare),
    roles={"text": TEXT, "label": LABEL},
)
"""Where the comments come from."""
