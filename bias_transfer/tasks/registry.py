"""TASKS: a new task is one file beside this one and one entry here, or a YAML file of the user's (`own`)."""

from bias_transfer.errors import UserError
from bias_transfer.errors import look_up
from bias_transfer.tasks.bios.task import BIOS
from bias_transfer.tasks.custom.task import identify
from bias_transfer.tasks.custom.task import is_own
from bias_transfer.tasks.custom.task import own_task
from bias_transfer.tasks.base import Task
from bias_transfer.tasks.wiki.task import WIKI

TASKS: dict[str, Task] = {"bios": BIOS, "wiki": WIKI}


def task_of(name: str, data: str) -> Task:
    """The task of that name, or of that YAML file, on that data. Raises UserError with the nearest match."""
    if is_own(name):
        return own_task(name)
    try:
        return look_up(TASKS, name, "task")
    except UserError as error:
        raise UserError(f"{error} Or an own task: a .yaml file.") from None


def task_digest(name: str) -> str | None:
    """Name and content of an own task; None for a task in `TASKS`. Raises UserError."""
    return identify(name) if is_own(name) else None
