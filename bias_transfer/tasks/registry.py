"""TASKS: adding a task means one package next to this file and one entry here; users add custom tasks as YAML files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from bias_transfer.errors import UserError, look_up
from bias_transfer.tasks.base import Task
from bias_transfer.tasks.bios.task import BIOS
from bias_transfer.tasks.custom import schema
from bias_transfer.tasks.custom.task import custom_task
from bias_transfer.tasks.wiki.task import WIKI

TASKS: dict[str, Task] = {"bios": BIOS, "wiki": WIKI}


def find(name: str, tasks: Mapping[str, Task] = TASKS, outcomes: Collection[str] = ()) -> tuple[Task, str | None]:
    """The task of that name, or of the custom task's YAML file at that path, which is read once.

    tasks: `TASKS`, and those of plugins; outcomes: measures of plugins that a custom task may choose as its primary one.

    The second value is the file's digest, NAME@CONTENT; None for a task in `tasks`. Raises UserError: for an unknown name,
    with the nearest match; for a YAML file, with what is wrong in it.
    """
    if schema.is_custom(name):
        task_file = schema.read(Path(name), outcomes)
        return custom_task(task_file), task_file.digest
    try:
        return look_up(tasks, name, "task"), None
    except UserError as error:
        raise UserError(f"{error} A custom task is given by the path of its .yaml file.") from None
