"""`--keep-predictions`: what a trial's classifier said of each example, as one Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset

from bias_transfer.hashing import derive_seed
from bias_transfer.metrics.thresholds import margin
from bias_transfer.tasks.base import Predicted, Task
from bias_transfer.tasks.evaluation.reading import FUNCTIONALITY, GROUPS

PART = (FUNCTIONALITY, "family")
"""Columns of the examples that say which part of its set an example is; the first one that they have is read."""

SCHEMA = pyarrow.schema(
    [
        ("set", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("id", pyarrow.string()),
        ("groups", pyarrow.list_(pyarrow.string())),
        ("part", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("label", pyarrow.int32()),
        ("prediction", pyarrow.int32()),
        ("score", pyarrow.float32()),
    ]
)
"""One row per example.

set: dev, test, one of the task's probe sets, or an evaluation set; id: unique within its set.
groups: none, one or several. BIOS: the pronoun, by which recall is compared within an occupation.
part: the functionality, or the family of phrases; else "".
label, prediction, score: in a task with a harmful class, 1 = harmful and 0 = harmless, and the logit of the harmful class minus
the largest other, which is above 0 exactly where the prediction is 1. In other tasks, numbers of classes, and the logit of the
right class minus the largest other: the prediction is right where it is above 0.
"""


def parquet(task: Task, predicted: Mapping[str, Predicted]) -> bytes:
    """The file's content, the same bytes for the same predictions. It holds ids and no text."""
    tables = [_table(task, name, each) for name, each in predicted.items()]
    classes = {"classes": "harmless, harmful" if task.harm_groups else ", ".join(task.labels)}
    table = pyarrow.concat_tables(tables).unify_dictionaries().replace_schema_metadata(classes)
    file = BytesIO()
    pyarrow.parquet.write_table(table, file, compression="zstd", use_dictionary=["set", "part", "groups.list.element"])
    return file.getvalue()


def size(task: Task, sets: Mapping[str, Dataset]) -> int:
    """Bytes of the file for these sets: `parquet` with random logits, which compress as badly as a classifier's."""
    draw = np.random.default_rng(derive_seed(0, "predictions"))
    logits = {
        name: draw.normal(size=(len(examples), len(task.labels))).astype(np.float32) for name, examples in sets.items()
    }
    return len(parquet(task, {name: Predicted(examples, logits[name]) for name, examples in sets.items()}))


def _table(task: Task, name: str, predicted: Predicted) -> pyarrow.Table:
    examples, count = predicted.examples, len(predicted.examples)
    labels, predictions, scores = _decided(task, predicted)
    part = next((column for column in PART if column in examples.column_names), None)
    columns = [
        pyarrow.array([name] * count, pyarrow.string()).dictionary_encode(),
        examples["id"][:],
        _groups(task, examples),
        pyarrow.array(examples[part][:] if part else [""] * count, pyarrow.string()).dictionary_encode(),
        labels.astype(np.int32),
        predictions.astype(np.int32),
        scores.astype(np.float32),
    ]
    return pyarrow.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)


def _decided(task: Task, predicted: Predicted) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """label, prediction and score of each example."""
    labels, logits = np.array(predicted.examples["label"][:]), predicted.logits
    if task.harm_groups:
        scores = margin(logits, task.harm_groups.harmful)
        return labels == task.harm_groups.harmful, scores > 0, scores
    scores = np.empty(len(labels))
    for label in range(len(task.labels)):
        scores[labels == label] = margin(logits, label)[labels == label]
    return labels, logits.argmax(axis=1), scores


def _groups(task: Task, examples: Dataset) -> list[list[str]]:
    if GROUPS in examples.column_names:
        return [list(names) for names in examples[GROUPS][:]]
    of = task.members or (task.harm_groups.of if task.harm_groups else lambda each: [()] * len(each))
    return [list(names) for names in of(examples)]
