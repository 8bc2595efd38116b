"""`bias-transfer inspect`: what the platform makes of data, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from bias_transfer.config import grid
from bias_transfer.console import console, tell, user_errors
from bias_transfer.errors import UserError
from bias_transfer.spec import LEAST_MENTIONS, Trial, parse, parse_trial
from bias_transfer.storage import atomic

if TYPE_CHECKING:  # they load torch and pandas, which --help does not wait for
    import pandas as pd

    from bias_transfer.tasks.base import Splits, Task
    from bias_transfer.tasks.custom.draft import Draft
    from bias_transfer.tasks.data_checks import GroupCounts

SPLITS = ("train", "dev", "test")

WIDTH = 80
"""Of tables, where the output is no terminal."""


def main(
    words: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE", help="task, data, and if they are set model, max_tokens and data.NAME."),
    ],
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Write a custom task for these data to this file, to start from."),
    ] = None,
) -> None:
    """Show what a task makes of data: splits, columns, labels, groups, duplicates, languages, and a config to start from.

    Nothing is trained, and no model is loaded: texts that max_tokens cuts are counted by the tokenizer of model= if it is a
    folder or in the local hub cache, and estimated otherwise. For data that the task refuses it shows what a custom task would
    make of them.

    \b
    bias-transfer inspect task=wiki data=comments.csv
    bias-transfer inspect task=wiki data=cases.csv --write task.yaml
    bias-transfer inspect task=task.yaml data=cases.csv model=FOLDER max_tokens=64
    """
    # Imported late: --help need not wait for torch.
    from bias_transfer.tasks import registry
    from bias_transfer.tasks.custom import schema

    with user_errors():
        trial = parse_trial(grid.assignments(words))
        if write and (write.exists() or write.suffix not in schema.SUFFIXES):
            fault = (
                "exists already" if write.exists() else f"is no name of a custom task ({' or '.join(schema.SUFFIXES)})"
            )
            raise UserError(f"--write {write}: it {fault}. Choose another name.")
        task, _ = registry.find(trial.task)
        options = parse(task.data_options(trial.data), trial.options_of("data"), "data.")
        task.identify(trial.data)  # data that are not there are no reason for a custom task
        try:
            splits = task.load(trial.data, options)
        except UserError as error:
            if schema.is_custom(trial.task):
                raise
            tell(f"The task {trial.task} does not read these data. {error}")
            _custom(trial, write)
        else:
            _show(task, splits, trial)
            if write:
                _custom(trial, write)


def _show(task: Task, splits: Splits, trial: Trial) -> None:
    from bias_transfer.tasks import data_checks

    counts = data_checks.of_groups(task, splits)
    cut, how = _cut(splits, trial)
    for line in _origin(task, splits, trial):
        tell(line)
    _print(_splits_table(splits, cut), _labels_table(task, splits), _groups_table(task, counts))
    for line in (how, *_findings(task, splits, counts)):
        tell(line)
    for warning in (*splits.warnings, *data_checks.warnings(task, splits), *_cautions(task, splits, trial)):
        tell(f"Warning: {warning}")
    tell(
        f"\nA config to start from; save it as NAME.yaml, then: bias-transfer sweep NAME.yaml --dry-run\n{_config(trial)}"
    )


def _origin(task: Task, splits: Splits, trial: Trial) -> Iterator[str]:
    """What was read from where."""
    yield from splits.notes
    if columns := task.columns(trial.data):
        read = ", ".join(f"{column} ({role})" for role, column in columns.read.items())
        others = ", ".join(name or "(without a name)" for name in columns.others)
        yield f"Columns: {read}. Not read: {others or 'none'}."


def _findings(task: Task, splits: Splits, counts: Sequence[GroupCounts]) -> Iterator[str]:
    """What the tables do not say of groups and texts."""
    from bias_transfer.tasks import data_checks

    if task.harm_groups and task.harm_groups.decided:
        yield f"Groups: {task.harm_groups.decided}"
    yield from data_checks.thin(counts)
    yield from data_checks.few_pronouns(task, splits)
    yield from data_checks.attached(task, splits, counts)
    yield f"Texts of train that do not look like English: {data_checks.shown(data_checks.look(splits.train))}."
    yield _contradicting(splits)


def _cautions(task: Task, splits: Splits, trial: Trial) -> tuple[str, ...]:
    """What the task has to say of the metric options on these data; what it would refuse is a warning here."""
    options = parse(task.metric_options, trial.options_of("metric"), "metric.").resolved()
    try:
        return task.cautions(splits, options)
    except UserError as error:
        return (f"a trial would be refused. {error}",)


def _print(*tables: Table) -> None:
    terminal = console()
    for table in tables:
        terminal.print(table, width=None if terminal.is_terminal else WIDTH)


def _splits_table(splits: Splits, cut: dict[str, int]) -> Table:
    from bias_transfer.tasks import duplicates

    texts = _frames(splits)
    repeated = duplicates.count(texts)
    table = Table(title="Splits")
    table.add_column("split")
    for name in ("rows", "repeat a text", "text also in train", "cut"):
        table.add_column(name, justify="right")
    for name in SPLITS:
        also = repeated.get(f"{name}_in_train")
        rows = len(texts[name])
        table.add_row(name, str(rows), str(repeated[name]), "" if also is None else str(also), _share(cut[name], rows))
    return table


def _labels_table(task: Task, splits: Splits) -> Table:
    table = Table(title="Labels: rows (share of the split)")
    table.add_column("label")
    harmful = task.harm_groups.harmful if task.harm_groups else None
    for name in SPLITS:
        table.add_column(name, justify="right")
    labels = {name: getattr(splits, name)["label"][:] for name in SPLITS}
    for number, label in enumerate(task.labels):
        cells = (_share(labels[name].count(number), len(labels[name])) for name in SPLITS)
        table.add_row(f"{label} (harmful)" if number == harmful else label, *cells)
    return table


def _groups_table(task: Task, counts: Sequence[GroupCounts]) -> Table:
    table = Table(title="Groups")
    table.add_column("group", overflow="fold")
    for name in ("train", f"{task.primary['dataset'].replace('_', ' ')} (95 % interval)", "test", ""):
        table.add_column(name, justify="right")
    for group in counts:
        mark = "never" if not group.train else f"under {LEAST_MENTIONS}" if group.thin else ""
        table.add_row(group.name, str(group.train), _interval(group.share, group.train), str(group.test), mark)
    return table


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.0%})" if of else "0"


def _interval(share: float, n: int) -> str:
    """A share with its 95 % interval (Wilson 1927)."""
    if not n:
        return "missing"
    from statsmodels.stats.proportion import proportion_confint  # late: with SciPy it takes a second

    low, high = proportion_confint(share * n, n, method="wilson")
    return f"{share:.2f} ({low:.2f} to {high:.2f})"


def _contradicting(splits: Splits) -> str:
    from bias_transfer.tasks import duplicates

    labels = duplicates.labels_by_text(_frames(splits))
    contradicting = sum(len(several) > 1 for several in labels.values())
    return f"Different texts: {len(labels)}; {contradicting} of them have rows with different labels."


def _frames(splits: Splits) -> dict[str, pd.DataFrame]:
    """Split -> its texts and labels."""
    return {name: getattr(splits, name).select_columns(["text", "label"]).to_pandas() for name in SPLITS}


def _cut(splits: Splits, trial: Trial) -> tuple[dict[str, int], str]:
    """(split -> texts that `max_tokens` cuts, how they were counted)."""
    from bias_transfer.models.batching import encode
    from bias_transfer.models.language_model import tokenizer_at_hand
    from bias_transfer.tasks.matching import pieces

    tokenizer = tokenizer_at_hand(trial.model)
    if tokenizer is None:
        counted = {
            name: sum(pieces(text) > trial.max_tokens for text in getattr(splits, name)["text"][:]) for name in SPLITS
        }
        why = "it is pre-trained on the data" if trial.model == "tiny" else "it is not at hand"
        return counted, (
            f"Cut: texts of more than max_tokens={trial.max_tokens} words and marks, an estimate without the tokenizer of "
            f"{trial.model} ({why}); in tokens there are more."
        )
    rows = {name: encode(tokenizer, getattr(splits, name)["text"][:], trial.max_tokens + 1) for name in SPLITS}
    cut = {name: sum(len(row) > trial.max_tokens for row in of_split) for name, of_split in rows.items()}
    return cut, f"Cut: texts of more than max_tokens={trial.max_tokens} tokens of {trial.model}."


def _config(trial: Trial) -> str:
    """The YAML of a small sweep, whose values are JSON, which YAML reads as it is."""
    options = trial.options_of("data")
    data = {"name": trial.data, **options} if options else trial.data
    fields = {"task": trial.task, "data": data, "model": trial.model, "max_tokens": trial.max_tokens, "seed": [0, 1, 2]}
    lines = (f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())
    return "\n".join(["", "defaults:", *lines, "grid:", "  - downstream: [none, scrub, rebalance]"])


def _custom(trial: Trial, write: Path | None) -> None:
    """What a custom task would make of the data, and its file."""
    from bias_transfer.tasks.custom import draft

    guess = draft.draft(_table(trial.data))
    tell("A custom task could read them so (guessed from names and values of the columns):")
    for line in _described(guess):
        tell(f"  {line}")
    content = draft.write(guess, Path(trial.data).stem)
    if write is None:
        tell("Write its file, to start from, with --write task.yaml.")
        return
    with atomic.new_file(write) as new:
        new.write_text(content, encoding="utf-8")
    left = f" Fill in {' and '.join(guess.missing)}, and check" if guess.missing else " Check"
    tell(f"Written: {write}.{left} every line of it. Next: bias-transfer inspect task={write} data={trial.data}")


def _described(guess: Draft) -> Iterator[str]:
    yield f"text: {guess.text}"
    listed = ", ".join(f"{name} ({count} rows)" for name, count in guess.classes.items())
    yield f"label: {guess.label}, with the classes {listed}; harmful: {guess.harmful}"
    groups = ", ".join(f"{name} ({count})" for name, count in guess.groups.items())
    if guess.group:
        yield f"groups: those of the column {guess.group}: {groups}"
    else:
        yield f"groups: identity terms in the texts: {groups}" if groups else "groups: none found; write terms by hand"
    if not guess.english:
        yield "templates: to be written by hand, since the texts do not look like English"


def _table(data: str) -> Any:
    """The first table that the data have. Raises UserError for a hub id."""
    from bias_transfer.tasks import readers, split_files

    path = Path(data)
    if path.is_dir():
        files = split_files.choose(path).files
        if not files:
            raise UserError(f"{path}: no train, dev or test file in it, so there is nothing to guess from.")
        path = next(iter(files.values()))[0]
    if not path.is_file():
        raise UserError(f"{data}: a custom task is only drafted for files. Download the data set and name its file.")
    return readers.read_table(path)
