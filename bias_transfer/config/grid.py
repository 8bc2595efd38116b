"""Expand a YAML config into a list of trials. A list is an axis; the blocks of `grid` are concatenated; an arm may have axes
of its own. `plugins`, next to `grid`, holds for all trials."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bias_transfer.config.yaml import parse_yaml
from bias_transfer.errors import UserError, unknown
from bias_transfer.spec import AnalysisPlan, Trial, parse, parse_trial

NAMED = ("data", "model", "upstream", "downstream", "tuning")
"""Fields whose value may be a mapping {name: ..., dose: ..., OPTION: ...}. Setting a new name drops the old one's options."""

EMBEDDED = Path(__file__).with_name("quickstart.yaml")
"""The config of a sweep that names none. It needs no network and no GPU."""

SECTIONS = ("defaults", "grid", "analysis", "plugins")


@dataclass(frozen=True)
class Config:
    """The content of a config file."""

    trials: list[Trial]
    analysis: AnalysisPlan


def load(path: Path) -> Config:
    """Read a config file; its trials come in the file's order. Raises UserError, which names the file."""
    if not path.is_file():
        near = sorted(str(other) for other in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise UserError(unknown("config", str(path), near))
    if path.stem.startswith("."):
        raise UserError(
            f"config {str(path)!r}: its name becomes that of the experiment and of a folder, and may not begin with a dot"
        )
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
        trials = expand(content)
        return Config(trials, analysis_plan(content.get("analysis"), trials))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def expand(content: Any) -> list[Trial]:
    """The trials of a config's content. Raises UserError for an unknown key, a repeated value or trial, and an empty grid."""
    if not isinstance(content, Mapping):
        raise UserError(f"a config is a mapping with the keys {', '.join(SECTIONS)}")
    for key in content:
        if key not in SECTIONS:
            raise UserError(unknown("key", str(key), SECTIONS))
    defaults, blocks = content.get("defaults") or {}, content.get("grid", [{}])
    if not isinstance(defaults, Mapping) or not isinstance(blocks, Sequence) or isinstance(blocks, str):
        raise UserError("defaults is a mapping and grid a list of mappings")
    shared = {"plugins": content["plugins"]} if content.get("plugins") else {}
    trials = [trial for block in blocks for trial in _block(defaults, block, shared)]
    if not trials:
        raise UserError("the grid is empty: it needs at least one block, and every axis at least one value")
    if (place := _repeated(_keys(trials))) is not None:
        raise UserError(f"two blocks give the same trial: {trials[place].name}. Each trial may occur only once.")
    return trials


def analysis_plan(content: Any, trials: Sequence[Trial]) -> AnalysisPlan:
    """The section `analysis`. Raises UserError for an unknown key, for a task or a model that the grid does not have, and for a
    treated twin with an upstream arm."""
    if not isinstance(content or {}, Mapping):
        raise UserError(f"analysis is a mapping with the keys {', '.join(AnalysisPlan.model_fields)}")
    plan = parse(AnalysisPlan, content or {}, "analysis.")
    tasks, models = {trial.task for trial in trials}, {trial.model for trial in trials}
    for section, named in (("primary", plan.primary), ("margins", plan.margins)):
        for task in named:
            if task not in tasks:
                raise UserError(unknown(f"task in analysis.{section}", task, tasks))
    pairs = {f"twins.{name}": [*twins, *twins.values()] for name, twins in plan.twins.items()}
    declared = {f"pretraining_seeds.{name}": members for name, members in plan.pretraining_seeds.items()}
    for section, members in (declared | pairs).items():
        for model in members:
            if model not in models:
                raise UserError(unknown(f"model in analysis.{section}", model, models))
    for trial in trials:
        if trial.upstream != "none" and any(trial.model in twins for twins in plan.twins.values()):
            raise UserError(
                f"analysis.twins: {trial.model!r} is a treated twin, which is an upstream arm itself, and the grid gives it "
                f"the arm {trial.upstream}. Give the twin a block of its own with upstream: none."
            )
    return plan


def _keys(trials: Sequence[Trial]) -> list[str]:
    return [trial.model_dump_json() for trial in trials]


def _block(defaults: Mapping[str, Any], block: Any, shared: Mapping[str, Any]) -> Iterator[Trial]:
    """The trials of a block. shared: fields of every trial, which are no axes."""
    if not isinstance(block, Mapping):
        raise UserError(f"a block of the grid is a mapping of axes, not {block!r}")
    if "plugins" in defaults or "plugins" in block:
        raise UserError(
            "plugins hold for the whole config: write plugins: [MODULE, ...] next to defaults and grid, not in them"
        )
    axes = {key: _axis(key, value) for key, value in {**defaults, **block}.items()}
    for values in itertools.product(*axes.values()):
        yield parse_trial({**shared, **{key: value for fields in values for key, value in fields.items()}})


def _axis(key: str, value: Any) -> list[dict[str, Any]]:
    """The values of an axis, each as the fields that it sets. Raises UserError for an axis that is empty or repeats a value."""
    values = value if isinstance(value, list) else [value]
    fields = [field for item in values for field in _fields(str(key), item)]
    if not fields:
        raise UserError(f"the grid is empty: the axis {key!r} has no value")
    if (place := _repeated(tuple(_scalars(field.items())) for field in fields)) is not None:
        raise UserError(f"the axis {key!r} has the value {fields[place]} more than once")
    return fields


def _repeated(keys: Iterable[Hashable]) -> int | None:
    """Index of the first key that repeats an earlier one."""
    seen = set[Hashable]()
    for place, key in enumerate(keys):
        if key in seen:
            return place
        seen.add(key)
    return None


def _scalars(values: Iterable[Any]) -> Iterator[Hashable]:
    """Hashable values to compare. A list or mapping, which no field takes and which is refused later, is compared as text."""
    for value in values:
        try:
            hash(value)
        except TypeError:
            yield repr(value)
        else:
            yield value


def _fields(key: str, value: Any) -> list[dict[str, Any]]:
    """The fields that one value of an axis sets: several alternatives if it is a mapping with lists in it."""
    if not isinstance(value, Mapping):
        return [{key: value}]
    if key == "evaluate":
        return [_evaluation(value)]
    if key == "options":
        raise UserError("options are written next to their owner, as in upstream: {name: perturb, dose: 0.5, draw: 3}")
    if key not in (*NAMED, "metric") or (key in NAMED and "name" not in value):
        raise UserError(f"{key!r} takes no mapping here; {', '.join(NAMED)} take {{name: ..., OPTION: ...}}")
    names = {option: _field(key, option) for option in value}
    axes = [[{names[option]: item} for item in _plain(names[option], items)] for option, items in value.items()]
    return [{name: item for field in fields for name, item in field.items()} for fields in itertools.product(*axes)]


def _evaluation(sets: Mapping[Any, Any]) -> dict[str, Any]:
    """The options of evaluation sets, each the name of a file or a mapping {file: ..., OPTION: ...}. A list in it names columns
    and is no axis."""
    fields: dict[str, Any] = {}
    for name, given in sets.items():
        for option, value in (given if isinstance(given, Mapping) else {"file": given}).items():
            key = f"evaluate.{name}" if option == "file" else f"evaluate.{name}.{option}"
            fields[key] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return fields


def _field(owner: str, option: str) -> str:
    if option == "name":
        return owner
    return f"{owner}_dose" if option == "dose" and owner in ("upstream", "downstream") else f"{owner}.{option}"


def _plain(key: str, value: Any) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    if _repeated(_scalars(values)) is not None:
        raise UserError(f"the axis {key!r} has a value more than once")
    return values


def assignments(words: Sequence[str]) -> dict[str, Any]:
    """Fields from words KEY=VALUE, whose values are YAML 1.2. Raises UserError for another form and a repeated key."""
    fields: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is not of the form KEY=VALUE")
        if key in fields:
            raise UserError(f"{key} is given twice")
        fields[key] = _scalar(key, value)
    return fields


def _scalar(key: str, text: str) -> Any:
    # A name stays text: a folder may be called 010 or no.
    if key in (*NAMED, "task") or not text:
        return text
    return parse_yaml(text)


def override(trials: Sequence[Trial], words: Sequence[str]) -> list[Trial]:
    """Set fields of every trial (--set). A list is an axis, as in a config: the trials are run with each of its values.

    A new name drops the options of the old one; trials that become equal are merged.
    """
    given = assignments(words).items()
    axes = [[{key: item} for item in ([value] if key == "plugins" else _plain(key, value))] for key, value in given]
    combinations = [dict(itertools.chain(*map(dict.items, fields))) for fields in itertools.product(*axes)]
    changed = [
        parse_trial({**_without_owned(trial, changes), **changes}) for changes in combinations for trial in trials
    ]
    return list(dict(zip(_keys(changed), changed, strict=True)).values())


def _without_owned(trial: Trial, changes: Mapping[str, Any]) -> dict[str, Any]:
    fields = trial.model_dump(exclude_unset=True)
    renamed = [name for name in NAMED if name in changes and changes[name] != getattr(trial, name)]
    for name in renamed:
        fields.pop(f"{name}_dose", None)
    options = {key: value for key, value in trial.options.items() if key.partition(".")[0] not in renamed}
    return {**fields, "options": options}


def only(trials: Sequence[Trial], words: Sequence[str]) -> list[Trial]:
    """The trials that match (--only). A key given several times matches any of its values; all keys must match.

    Raises UserError for an unknown key, and if no trial matches.
    """
    wanted: dict[str, list[Any]] = {}
    for word in words:
        for key, value in assignments([word]).items():
            wanted.setdefault(key, []).append(value)
    allowed = [*Trial.model_fields, "id", *(key for trial in trials for key in trial.options)]
    for key in wanted:
        if key not in allowed:
            raise UserError(unknown("key", key, [name for name in allowed if not name.endswith("_digest")]))
    matching = [trial for trial in trials if all(_value(trial, key) in values for key, values in wanted.items())]
    if not matching:
        raise UserError(f"no trial matches --only {' --only '.join(words)}; without it there are {len(trials)}")
    return matching


def _value(trial: Trial, key: str) -> Any:
    if key == "id":
        return trial.id
    if key == "tuning":
        return trial.tuning or "full"
    return trial.options.get(key) if "." in key else getattr(trial, key)


def names(trials: Sequence[Trial]) -> list[str]:
    """A readable name per trial: `Trial.name` and, if several trials share it, the fields that differ (data.world=3)."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        alike.setdefault(trial.name, []).append(_settings(trial))
    varied = {name: _varied(settings) for name, settings in alike.items()}
    return [
        " ".join(
            [trial.name, *(f"{key}={_shown(fields[key])}" for key in varied[trial.name] if fields.get(key) is not None)]
        )
        for trial, fields in zip(trials, map(_settings, trials), strict=True)
    ]


def _settings(trial: Trial) -> dict[str, Any]:
    """Every field and option, without the digests, which follow from the fields that name files."""
    fields = {name: getattr(trial, name) for name in Trial.model_fields if name != "options"}
    return {key: value for key, value in (fields | trial.options).items() if not key.endswith("_digest")}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else _text(value)


def _varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys that differ. An option counts only if it differs between trials with the same owner, as data.size does between
    trials of the same data."""
    keys = dict.fromkeys(key for fields in settings for key in fields)
    return [key for key in keys if _differs(key, settings)]


def _differs(key: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    owner, _, option = key.partition(".")
    by_owner = dict[str, set[str]]()
    for fields in settings:
        by_owner.setdefault(repr(fields.get(owner)) if option else "", set()).add(repr(fields.get(key)))
    return any(len(values) > 1 for values in by_owner.values())


def command_line(trial: Trial) -> list[str]:
    """The words KEY=VALUE that reproduce a trial: task, data, model, seed, and everything that is not a default."""
    fields = {name: getattr(trial, name) for name in Trial.model_fields if not name.endswith("_digest")}
    defaults = {name: entry.default for name, entry in Trial.model_fields.items()}
    always = {"task", "data", "model", "seed"}
    words = {name: value for name, value in fields.items() if name in always or value != defaults[name]}
    words.pop("options", None)
    options = {key: value for key, value in trial.options.items() if not key.endswith("_digest")}
    return [f"{name}={_text(value)}" for name, value in {**words, **options}.items()]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
