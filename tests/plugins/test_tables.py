"""The tables of plugins: checked before a trial starts, next to those of the package, which stay as they are."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from bias_transfer.errors import UserError
from bias_transfer.interventions import registry
from bias_transfer.memory import memory_of
from bias_transfer.resolved import resolve
from bias_transfer.spec import Measure, parse_trial
from bias_transfer.tasks import shared_metrics
from bias_transfer.tasks.plugin_metrics import check_distinct
from bias_transfer.tasks.registry import TASKS

ARM = "UpstreamArm(lambda *_: None, lambda *_: None, Options, 1.0)"
DOWN = "DownstreamArm(lambda train, *_: train, Options, 1.0)"
ROW = "[Measure('downstream', {name}, 'gay', '', 1.0, 5)]"
HEAD = """
from bias_transfer.interventions.registry import AnyTaskArm, DownstreamArm, UpstreamArm
from bias_transfer.spec import Measure, Options
from bias_transfer.tasks.plugin_metrics import Metric
from bias_transfer.tasks.registry import TASKS as KNOWN
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """(content, name) -> FOLDER/MODULE of a plugin with this content below `HEAD`."""
    written = set[str]()

    def write(content: str, name: str = "own_plugin") -> str:
        (tmp_path / f"{name}.py").write_text(HEAD + content)
        written.add(name)
        return f"{tmp_path}/{name}"

    yield write
    for name in written:
        sys.modules.pop(name, None)


WRONG = [
    ("VALUE = 1", "exports nothing. It has to have one or more of the tables UPSTREAM, DOWNSTREAM, METRICS, TASKS"),
    ("raise SystemExit('it may be anything, and is not executed')", "exports nothing"),
    ("UPSTREAM = {}", "exports nothing"),
    ("UPSTREAM = [1]", "UPSTREAM is a list. It has to be a dict"),
    ("UPSTREAM = {'fix': 3}", r"UPSTREAM\['fix'\] is a int. It has to be a UpstreamArm"),
    ("DOWNSTREAM = {'fix': {}}", r"DOWNSTREAM\['fix'\] is empty"),
    (f"DOWNSTREAM = {{'fix': {DOWN}}}", "It has to be a AnyTaskArm"),
    ("DOWNSTREAM = {'fix': {'wiki': 3}}", r"DOWNSTREAM\['fix'\]\['wiki'\] is a int. It has to be a DownstreamArm"),
    ("METRICS = {'mine': len}", "It has to be a Metric of bias_transfer.tasks.plugin_metrics"),
    ("METRICS = {'mine': Metric()}", "measures nothing"),
    ("METRICS = {'mine': Metric(downstream=len, options=Options)}", "its options lack the field 'mine'"),
    ("TASKS = {'mine': 'wiki'}", "It has to be a Task"),
    (f"UPSTREAM = {{'perturb': {ARM}}}", "UPSTREAM has 'perturb', which the package has already"),
    ("METRICS = {'disco': Metric(downstream=len)}", "METRICS has 'disco', which the package has already"),
    ("METRICS = {'natural_logit_gap': Metric(downstream=len)}", "which the package has already"),
    ("METRICS = {'tpr_gap': Metric(downstream=len)}", "which the package has already"),
    ("METRICS = {'phrases_per_term': Metric(downstream=len)}", "which the package has already"),
    ("TASKS = {'wiki': KNOWN['wiki']}", "TASKS has 'wiki', which the package has already"),
    (f"UPSTREAM = {{'a b': {ARM}}}", "has the name 'a b'. A name has letters"),
    ("METRICS = {'Mine': Metric(downstream=len)}", "has the name 'Mine'. A name has lower-case letters"),
    (
        f"UPSTREAM = {{'fix': {ARM.replace('Options', 'dict')}}}",
        "They have to be a class that inherits from spec.Options",
    ),
]


@pytest.mark.parametrize(("content", "message"), WRONG, ids=[content[:45] for content, _ in WRONG])
def test_a_wrong_table_is_answered_with_one_sentence(plugin, content, message):
    with pytest.raises(UserError, match=message) as error:
        resolve(parse_trial({"plugins": [plugin(content)]}))
    assert "\n" not in str(error.value)
    assert "plugin own_plugin" in str(error.value)


def test_two_plugins_with_one_name_are_refused(plugin):
    both = [plugin(f"UPSTREAM = {{'fix': {ARM}}}", name) for name in ("own_plugin", "second_plugin")]
    with pytest.raises(UserError, match="plugins own_plugin and second_plugin both have 'fix' in UPSTREAM"):
        resolve(parse_trial({"plugins": both}))


def test_an_arm_that_is_no_plugins_is_unknown_and_the_packages_tables_stay(plugin):
    tables = (registry.UPSTREAM, registry.DOWNSTREAM, TASKS, shared_metrics.UPSTREAM)
    before = [dict(table) for table in tables]
    fields = {"upstream": "fix", "downstream": "mask"}
    content = f"UPSTREAM = {{'fix': {ARM}}}\nDOWNSTREAM = {{'mask': {{'wiki': {DOWN}}}}}"
    resolved = resolve(parse_trial({**fields, "plugins": [plugin(content)]}))
    assert resolved.upstream.name == "fix=1"
    assert [dict(table) for table in tables] == before
    with pytest.raises(UserError, match="unknown upstream arm 'fix'"):
        resolve(parse_trial({"upstream": "fix"}))
    with pytest.raises(UserError, match="Did you mean 'fix'"):
        resolve(parse_trial({"upstream": "fixx", "plugins": [plugin(content)]}))
    with pytest.raises(UserError, match="mask is defined for the tasks wiki, and not for bios"):
        resolve(parse_trial({"task": "bios", "downstream": "mask", "plugins": [plugin(content)]}))


def test_a_plugin_is_a_part_of_the_id_and_of_every_key(plugin, tmp_path):
    content = f"UPSTREAM = {{'fix': {ARM}}}"
    plain, first = resolve(parse_trial({})), resolve(parse_trial({"plugins": [plugin(content)]}))
    second = resolve(parse_trial({"plugins": [plugin(content + "\n# edited")]}))
    assert len({entry.id for entry in (plain, first, second)}) == 3
    assert len({repr(entry.keys.upstream) for entry in (plain, first, second)}) == 3
    assert "plugins" not in first.keys.upstream, "its content alone"
    keys = [memory_of(entry, "", tmp_path, "cpu").model for entry in (plain, first, second)]
    assert len({repr(key) for key in keys}) == 3, "an arm may remember anything"
    with pytest.raises(UserError, match="own_plugin: changed since the trial was resolved"):
        resolve(first.trial)


NEEDS = [
    ("groups", "bios", "needs groups and a class that harms them"),
    ("groups", "wiki", ""),
    ("mentions", "wiki", ""),
    ("mentions", "column", "needs groups that the text itself mentions"),
    ("groups", "column", ""),
]
COLUMN = """{name: two, text: note, label: verdict, classes: [a, b], harmful: b, group: club, groups: [x, y],
 templates: {'The {group} is {mask}.': 'The person is {mask}.'}"""


def column_task(folder: Path, more: str = "") -> dict[str, str]:
    rows = "\n".join(f"text {row},{'ab'[row % 2]},{'x' if row % 3 else 'y'}" for row in range(60))
    (folder / "d.csv").write_text(f"note,verdict,club\n{rows}\n")
    (folder / "own.yaml").write_text(f"{COLUMN}{more}}}")
    return {"task": str(folder / "own.yaml"), "data": str(folder / "d.csv")}


@pytest.mark.parametrize(("need", "task", "message"), NEEDS)
def test_an_arm_of_any_task_is_refused_where_the_task_lacks_what_it_needs(plugin, tmp_path, need, task, message):
    fields = column_task(tmp_path) if task == "column" else {"task": task}
    fields |= {"plugins": [plugin(f"DOWNSTREAM = {{'mask': AnyTaskArm(lambda task: {DOWN}, ('{need}',))}}")]}
    if not message:
        assert resolve(parse_trial({**fields, "downstream": "mask"})).downstream.name == "mask=1"
        return
    with pytest.raises(UserError, match=message):
        resolve(parse_trial({**fields, "downstream": "mask"}))


def test_a_custom_task_has_the_name_of_its_file_for_an_arm(plugin, tmp_path):
    fields = column_task(tmp_path) | {"plugins": [plugin(f"DOWNSTREAM = {{'mask': {{'two': {DOWN}}}}}")]}
    assert resolve(parse_trial({**fields, "downstream": "mask"})).downstream.changes


def test_a_task_of_a_plugin_is_a_task(plugin):
    resolved = resolve(parse_trial({"task": "third", "plugins": [plugin("TASKS = {'third': KNOWN['wiki']}")]}))
    assert resolved.task.groups == TASKS["wiki"].groups
    assert resolve(parse_trial({"task": "third", "plugins": list(resolved.trial.plugins)})).id == resolved.id


def test_a_measure_is_off_until_it_is_named_and_its_options_need_it(plugin):
    measure = plugin(
        "class Own(Options):\n    mine: bool | None = None\n    mine_top: int | None = None\n"
        f"METRICS = {{'mine': Metric(downstream=lambda *_: {ROW.format(name=repr('mine'))}, options=Own)}}"
    )

    def rows(**options):
        resolved = resolve(parse_trial({"plugins": [measure], **options}))
        return resolved.task.downstream[-1]({}, resolved.options.metric)

    assert rows() == []
    assert [row.metric for row in rows(**{"metric.mine": True, "metric.mine_top": 3})] == ["mine"]
    with pytest.raises(UserError, match="metric.mine_top has no effect without metric.mine"):
        rows(**{"metric.mine_top": 3})
    with pytest.raises(UserError, match="unknown option 'metric.mime'.*Did you mean 'metric.mine'"):
        rows(**{"metric.mime": True})


@pytest.mark.parametrize("task", ["wiki", "bios", "column"])
def test_a_measure_is_given_the_words_of_the_task(plugin, tmp_path, task):
    fields = column_task(tmp_path) if task == "column" else {"task": task}
    measure = plugin(
        "def groups(words, *rest):\n"
        "    stage = rest[3] if len(rest) > 3 else 'upstream'\n"
        "    return [Measure(stage, 'mine', name, '', 1.0, 1) for name in words.names('masked')]\n"
        "METRICS = {'mine': Metric(upstream=groups, encoder=groups)}"
    )
    resolved = resolve(parse_trial({**fields, "plugins": [measure], "metric.mine": True}))
    rows = resolved.task.upstream[-1](None, None, resolved.options.metric)
    assert [row.group for row in rows] == [*resolved.task.groups]
    for stage in ("upstream", "downstream"):
        rows = resolved.task.encoder[-1](None, None, resolved.options.metric, stage)
        assert {row.stage for row in rows} == {stage}


BAD_ROWS = [
    ("[Measure('downstream', 'fpr', '', '', 1.0, 5)]", "has a row named 'fpr'. Name it 'mine'"),
    ("[Measure('upstream', 'mine', '', '', 1.0, 5)]", "has a row of the stage 'upstream'"),
    ("[Measure('downstream', 'mine', '', '', float('nan'), 5)]", "a missing value is NaN with n = 0"),
    ("[3]", "returns int in place of"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_rows_that_would_be_taken_for_another_measures_are_refused(plugin, rows, message):
    fields = {"plugins": [plugin(f"METRICS = {{'mine': Metric(downstream=lambda *_: {rows})}}")], "metric.mine": True}
    resolved = resolve(parse_trial(fields))
    with pytest.raises(UserError, match=message):
        resolved.task.downstream[-1]({}, resolved.options.metric)


def test_two_rows_about_the_same_thing_are_refused():
    row = Measure("downstream", "margin_gap", "gay", "", 1.0, 5)
    check_distinct([row, dataclasses.replace(row, group="deaf"), dataclasses.replace(row, stage="upstream")])
    with pytest.raises(UserError, match=r"2 rows of the result have the same name \(downstream margin_gap gay\)"):
        check_distinct([row, row])


def test_a_measure_that_compares_groups_is_refused_where_no_class_harms(plugin):
    measure = plugin("METRICS = {'mine': Metric(harmful_class=lambda *_: [])}")
    assert resolve(parse_trial({"task": "bios", "plugins": [measure]}))
    with pytest.raises(
        UserError, match="metric.mine compares groups by a class that harms them, and the task bios has none"
    ):
        resolve(parse_trial({"task": "bios", "plugins": [measure], "metric.mine": True}))


MEASURES = [
    (", measures: [mine, disco]", {}, {"metric.mine": True, "metric.disco": True}),
    (", measures: {seat: mean}", {}, {"metric.seat": "mean"}),
    (", measures: {seat: mean}", {"metric.seat": "last"}, {"metric.seat": "last"}),
    (", measures: [mine], primary: natural_mine", {}, {"metric.mine": True}),
]


@pytest.mark.parametrize(("more", "options", "expected"), MEASURES)
def test_a_custom_task_names_measures_by_key(plugin, tmp_path, more, options, expected):
    fields = column_task(tmp_path, more) | {
        "plugins": [plugin("METRICS = {'mine': Metric(harmful_class=lambda *_: [])}")]
    }
    first = resolve(parse_trial({**fields, **options}))
    again = resolve(first.trial)
    assert again.trial == first.trial
    optional = {
        key: value for key, value in again.trial.options.items() if key.partition(".")[2] in ("mine", "disco", "seat")
    }
    assert optional == expected


UNKNOWN = [
    (", measures: [dico]", "measures: unknown measure 'dico'. Did you mean 'disco'"),
    (", measures: [separation]", "measures: unknown measure 'separation'"),
    (", measures: [theirs]", "measures: unknown measure 'theirs'"),
    (", primary: natural_mine", "natural_mine is off by default. Turn it on here: measures: .mine."),
    (", measures: [disco, probe]", "metric.probe=false: .*names it under measures"),
    (", primary: minne", "primary: unknown measure with a value per group 'minne'. Did you mean 'mine'"),
]


@pytest.mark.parametrize(("more", "message"), UNKNOWN)
def test_what_a_custom_task_cannot_name_is_refused(plugin, tmp_path, more, message):
    fields = column_task(tmp_path, more) | {
        "plugins": [plugin("METRICS = {'mine': Metric(harmful_class=lambda *_: [])}")]
    }
    with pytest.raises(UserError, match=message):
        resolve(parse_trial({**fields, "metric.probe": False}))
