"""TASKS: a new task is one file beside this one and one entry here."""

from bias_transfer.tasks.task import Task
from bias_transfer.tasks.wiki import WIKI

TASKS: dict[str, Task] = {"wiki": WIKI}
