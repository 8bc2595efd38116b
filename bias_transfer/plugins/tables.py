"""The explicit tables of plugins: UPSTREAM, DOWNSTREAM, METRICS and TASKS of each, checked, and next to those of the package.

Importing a plugin registers nothing: `tables_of` reads the four names from its module, and `resolved.resolve` hands them to
the one trial that names the plugin. The package's own tables stay as they are.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from bias_transfer.config import modules
from bias_transfer.config.modules import Plugin
from bias_transfer.errors import UserError
from bias_transfer.interventions.registry import DOWNSTREAM, UPSTREAM, AnyTaskArm, DownstreamArm, UpstreamArm
from bias_transfer.metrics.options import BiosOptions
from bias_transfer.spec import HELDOUT_LOSSES, Options
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.base import Task
from bias_transfer.tasks.custom.schema import PRIMARIES
from bias_transfer.tasks.plugin_metrics import Metric, options_of
from bias_transfer.tasks.registry import TASKS
from bias_transfer.tasks.wiki.probe_sets import PhraseOptions

NAMES = ("UPSTREAM", "DOWNSTREAM", "METRICS", "TASKS")
"""The names that are read from a plugin's module; it has one or more of them."""

NAME = re.compile(r"[A-Za-z][\w-]{0,39}")
"""The form of an arm's and of a task's name: others would be misread in the names of trials."""

KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""The form of a measure's key."""

DownstreamEntry = AnyTaskArm | Mapping[str, DownstreamArm]


@dataclass(frozen=True)
class Tables:
    """What plugins add to the package's tables."""

    upstream: Mapping[str, UpstreamArm] = field(default_factory=dict)
    downstream: Mapping[str, DownstreamEntry] = field(default_factory=dict)
    """Name -> an arm of any task that has what it needs; or task -> arm, where a custom task has the name in its file."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names of downstream measures that a custom task may choose as its primary one."""
        of_sets = [key for key, metric in self.metrics.items() if metric.harmful_class]
        other = [key for key, metric in self.metrics.items() if metric.downstream]
        return (*of_sets, *(f"natural_{key}" for key in of_sets), *other)


def tables_of(plugins: Sequence[Plugin]) -> Tables:
    """Load the plugins and read their tables. Raises UserError for a plugin that cannot be imported or that exports nothing, an
    entry of the wrong type, and a name that the package or another plugin has already."""
    for plugin in plugins:
        _check_exports(plugin)
    merged: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
    owners: dict[tuple[str, str], str] = {}
    for plugin, module in zip(plugins, modules.load(plugins), strict=True):
        for table, entries in _exported(plugin, module).items():
            for name, entry in entries.items():
                _check_name(plugin, table, name, owners.get((table, name)))
                CHECKS[table](f"plugin {plugin.name}: {table}[{name!r}]", name, entry)
                owners[table, name] = plugin.name
            merged[table] |= entries
    tables = Tables(merged["UPSTREAM"], merged["DOWNSTREAM"], merged["METRICS"], merged["TASKS"])
    _check_options(tables)
    return tables


def _check_exports(plugin: Plugin) -> None:
    """Raises UserError for a module that assigns none of `NAMES`: before it is executed, since it may be anything."""
    source = plugin.sources[plugin.name]
    if not {*NAMES, "*"} & _assigned(source.content, str(source.path), plugin.name):
        raise UserError(_exports_nothing(plugin))


@functools.lru_cache(maxsize=64)  # the trials of a grid name the same plugins
def _assigned(content: bytes, path: str, entry: str) -> frozenset[str]:
    """Names that a module's source assigns or imports from elsewhere; `*` for an import of whatever there is."""
    nodes = [*ast.walk(modules.parse(content, path, entry))]
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    aliases = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    return frozenset({*stored, *(alias.asname or alias.name for alias in aliases)})


def _exports_nothing(plugin: Plugin) -> str:
    path = plugin.sources[plugin.name].path
    return (
        f"plugin {plugin.name} ({path}) exports nothing. It has to have one or more of the tables {', '.join(NAMES)}."
    )


def _exported(plugin: Plugin, module: ModuleType) -> dict[str, Mapping[str, Any]]:
    """Its tables that are not empty."""
    tables = {name: getattr(module, name) for name in NAMES if hasattr(module, name)}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise UserError(f"plugin {plugin.name}: {name} is a {type(table).__name__}. It has to be a dict.")
    if not any(tables.values()):
        raise UserError(_exports_nothing(plugin))
    return tables


def _check_name(plugin: Plugin, table: str, name: Any, owner: str | None) -> None:
    pattern = KEY if table == "METRICS" else NAME
    if not isinstance(name, str) or not pattern.fullmatch(name):
        form = "lower-case letters, digits and _" if table == "METRICS" else "letters, digits, _ and -"
        raise UserError(
            f"plugin {plugin.name}: {table} has the name {name!r}. A name has {form}, and begins with a letter."
        )
    if name in _own(table):
        raise UserError(
            f"plugin {plugin.name}: {table} has {name!r}, which the package has already. Choose another name."
        )
    if owner is not None:
        raise UserError(
            f"plugins {owner} and {plugin.name} both have {name!r} in {table}. Leave one of them out, or rename it."
        )


def _own(table: str) -> Collection[str]:
    """The names of the package's own table."""
    shared = (shared_metrics.UPSTREAM, shared_metrics.ENCODER, shared_metrics.DOWNSTREAM, shared_metrics.HARMFUL_CLASS)
    own: dict[str, Collection[str]] = {
        "UPSTREAM": UPSTREAM,
        "DOWNSTREAM": DOWNSTREAM,
        "METRICS": {*(name for entries in shared for name in entries), *_own_options(), *_own_rows()},
        "TASKS": TASKS,
    }
    return own[table]


def _own_options() -> set[str]:
    return {*PhraseOptions.model_fields, *BiosOptions.model_fields}


def _own_rows() -> set[str]:
    """Names of rows that a result has without any plugin: those that are read most. All others are compared when the result is
    complete (`plugin_metrics.check_distinct`)."""
    primary = {metric for task in TASKS.values() for metric in task.primary.values()}
    others = {
        "word_score",
        "harmful_share",
        "log_tpr_ratio",
        "separation_gap",
        "sufficiency_gap",
        "eer",
        "fped",
        "fned",
    }
    return {*PRIMARIES, *primary, *others, *HELDOUT_LOSSES, "accuracy", "macro_f1", "roc_auc"}


def _require(place: str, entry: Any, kind: type) -> None:
    if not isinstance(entry, kind):
        raise UserError(f"{place} is a {type(entry).__name__}. It has to be a {kind.__name__} of {kind.__module__}.")


def _check_arm(place: str, arm: Any) -> None:
    options = arm.options
    if not (isinstance(options, type) and issubclass(options, Options)):
        raise UserError(
            f"{place}: its options are {options!r}. They have to be a class that inherits from spec.Options."
        )


def _check_upstream(place: str, name: str, entry: Any) -> None:
    _require(place, entry, UpstreamArm)
    _check_arm(place, entry)


def _check_downstream(place: str, name: str, entry: Any) -> None:
    if not isinstance(entry, Mapping):
        _require(place, entry, AnyTaskArm)
        return
    if not entry:
        raise UserError(f"{place} is empty. It has to be an AnyTaskArm, or a dict from the names of tasks to arms.")
    for task, arm in entry.items():
        _require(f"{place}[{task!r}]", arm, DownstreamArm)
        _check_arm(f"{place}[{task!r}]", arm)


def _check_metric(place: str, name: str, entry: Any) -> None:
    _require(place, entry, Metric)
    if not entry.functions:
        raise UserError(f"{place} measures nothing: it needs one of upstream, encoder, downstream and harmful_class.")
    if entry.options is None:
        return
    _check_arm(place, entry)
    fields = entry.options.model_fields
    if name not in fields:
        raise UserError(f"{place}: its options lack the field {name!r}, which turns it on.")
    for option, description in fields.items():
        if option != name and not option.startswith(f"{name}_"):
            raise UserError(f"{place}: its option {option!r} has to begin with {name + '_'!r}.")
        if description.default is not None:
            raise UserError(
                f"{place}: its option {option!r} has to be None by default, which means that it is not set."
            )


def _check_task(place: str, name: str, entry: Any) -> None:
    _require(place, entry, Task)


CHECKS = {
    "UPSTREAM": _check_upstream,
    "DOWNSTREAM": _check_downstream,
    "METRICS": _check_metric,
    "TASKS": _check_task,
}
"""Table -> raises UserError for an entry of the wrong type: (its place, its name, the entry)."""


def _check_options(tables: Tables) -> None:
    """Raises UserError for two measures with the same option, and for one that a plugin's task has too."""
    owners = dict[str, str]()
    for key, metric in tables.metrics.items():
        for option in options_of(key, metric).model_fields:
            if option in owners:
                raise UserError(f"plugins: the measures {owners[option]} and {key} both have the option {option!r}.")
            owners[option] = key
    for name, task in tables.tasks.items():
        if both := owners.keys() & task.metric_options.model_fields.keys():
            raise UserError(f"plugins: the task {name} and a measure both have the option {min(both)!r}.")
