"""The plugin of examples/plugin: its arms and its measure act in whole trials, and its sweep is recorded and analysed where the
plugin is unknown."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.data.cells import cells
from analysis.data.runs import load
from bias_transfer.commands import status
from bias_transfer.commands import trial as command
from bias_transfer.config import grid
from bias_transfer.console import application
from bias_transfer.models.language_model import encoder_parameters
from bias_transfer.pipeline import run_trial
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import TrialResult, parse_trial
from bias_transfer.storage import formats
from bias_transfer.sweep.__main__ import main as sweep
from bias_transfer.tracking import recorder, sweeps
from bias_transfer.tracking import store as tracking_store

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "plugin"
SMALL = {
    "data": str(FOLDER.parent / "custom_task" / "comments.csv"), "model.steps": 2, "model.width": 16, "model.layers": 1,
    "model.vocabulary": 1000, "epochs": 0.3, "max_tokens": 16,
}  # fmt: skip
ARMS = [{}, {"upstream": "shrink"}, {"downstream": "mask_mentions"}]


@pytest.fixture(scope="module")
def forum(tmp_path_factory) -> Path:
    """An evaluation set."""
    path = tmp_path_factory.mktemp("forum") / "forum.csv"
    path.write_text("text,label\nA baker came.,keep\nThe baker left.,keep\nA nasty rower.,remove\n")
    return path


def fields(folder: Path, **changes: object) -> dict[str, object]:
    plugins = [f"{folder}/my_lab.arms", f"{folder}/my_lab.measures"]
    return {**SMALL, "task": str(folder / "board.yaml"), "plugins": plugins, **changes}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return Places(cache=tmp_path_factory.mktemp("places"), device="cpu")


@pytest.fixture(scope="module")
def results(places, forum) -> list[TrialResult]:
    """Of each of `ARMS`."""
    shared = {"evaluate.forum": str(forum)}
    return [run_trial(parse_trial(fields(FOLDER, **shared, **arm)), places) for arm in ARMS]


def rows(result: TrialResult, *stages: str) -> list[str]:
    return [repr(row) for row in result.measures if row.stage in stages]


def test_arms_act_at_their_stage_and_the_measure_is_taken(results):
    untouched, upstream, downstream = results
    assert rows(upstream, "upstream") != rows(untouched, "upstream")
    assert rows(upstream, "dataset") == rows(untouched, "dataset")
    assert rows(downstream, "upstream") == rows(untouched, "upstream")
    assert rows(downstream, "dataset") != rows(untouched, "dataset")
    task = resolve(untouched.trial).task
    for result in results:
        spread = {row.group: row for row in result.measures if row.metric == "margin_spread"}
        assert set(spread) == set(task.groups)
        assert all(row.n == 5 and row.value > 0 for row in spread.values())
        assert {"natural_margin_spread", "forum_margin_spread"} <= {row.metric for row in result.measures}
        assert {row.group: row.n for row in result.measures if row.metric == "forum_margin_spread"}["baker"] == 2
        assert result.headline["downstream_mean"] == pytest.approx(sum(row.value for row in spread.values()) / 12)
        assert {name for name in result.facts if name.startswith("plugin.")} == {
            "plugin.my_lab.arms", "plugin.my_lab.measures",
        }  # fmt: skip


def test_the_dose_is_what_is_taken_away(load):
    resolved = resolve(parse_trial(fields(FOLDER, upstream="shrink", upstream_dose=0.25)))
    model, treated = load(), load()
    resolved.upstream.apply(treated, None)
    before, after = encoder_parameters(model), encoder_parameters(treated)
    for name, weight in before.items():
        assert (after[name] == weight * (0.75 if weight.ndim > 1 else 1)).all()


def cached(places: Places) -> int:
    """Entries with upstream measures."""
    return len([path for path in (places.cache / formats.MEASURES.name).iterdir() if path.is_dir()])


def test_an_edited_plugin_is_another_trial_and_another_cache_entry(results, places, forum, tmp_path):
    shutil.copytree(FOLDER, tmp_path / "edited")
    given = fields(tmp_path / "edited", upstream="shrink", **{"evaluate.forum": str(forum)})
    before, moved = cached(places), resolve(parse_trial(given))
    assert moved.id == results[1].trial.id
    assert rows(run_trial(moved, places), "upstream") == rows(results[1], "upstream")
    assert cached(places) == before
    arms = tmp_path / "edited" / "my_lab" / "arms.py"
    arms.write_text(arms.read_text().replace("1 - dose", "1 - 2 * dose"))
    edited = resolve(parse_trial(given))
    assert edited.id != moved.id
    assert rows(run_trial(edited, places), "upstream") != rows(results[1], "upstream")
    assert cached(places) == before + 1


def test_a_trial_without_plugins_has_no_trace_of_them():
    plain = {**SMALL, "task": str(FOLDER.parent / "custom_task" / "board.yaml")}
    trial = resolve(parse_trial(plain)).trial
    assert (trial.plugins, trial.plugins_digest) == (None, None)
    assert "plugins" not in trial.model_dump(exclude_none=True)


def test_a_dry_run_names_each_plugin_with_its_file_and_digest(monkeypatch, new_store):
    monkeypatch.chdir(ROOT)
    words = ["examples/plugin/lab.yaml", "--dry-run", "--tracking-uri", new_store]
    shown = CliRunner().invoke(application(sweep), words)
    assert shown.exit_code == 0, shown.output
    text = "".join(shown.output.split())
    for plugin in resolve(grid.load(FOLDER / "lab.yaml").trials[0]).plugins:
        assert f"{plugin.name}:{plugin.sources[plugin.name].path}" in text
        assert f"digest{plugin.digest[:12]}" in text
    assert "(withmy_lab,my_lab.mentions)" in text


def test_status_and_analysis_need_no_plugin(results, new_store, tmp_path):
    """As on a machine that only reads what was recorded."""
    client = tracking_store.connect(new_store)
    # The same ids: names of modules do not enter them.
    gone = [result.trial.model_copy(update={"plugins": ("gone.arms", "gone.measures")}) for result in results]
    assert [trial.id for trial in gone] == [result.trial.id for result in results]
    primary = {gone[0].task: dict(resolve(results[0].trial).task.primary)}
    parent = sweeps.open_sweep(client, "lab", gone, primary)
    for trial, result in zip(gone, results, strict=True):
        run_id = recorder.start(client, "lab", trial, parent)
        recorder.record(client, run_id, dataclasses.replace(result, trial=trial))
    shown = CliRunner().invoke(application(status.main), ["lab", "--tracking-uri", new_store])
    assert shown.exit_code == 0, shown.output
    assert "3/3" in shown.output
    runs = load("lab", uri=new_store, cache=tmp_path / "cache")
    table = cells(runs.table, primary)
    assert set(table["arm"]) == {"none + none", "shrink=0.3 + none", "none + mask_mentions=1"}
    assert set(table["outcome"]) == {"margin_spread"}
    assert table["y"].notna().all()
    assert not [name for name in sys.modules if name.startswith("gone")]


WRONG = [
    (["plugins=[nowhere.arms]"], "plugin nowhere.arms: there is no module nowhere.arms"),
    ([f"plugins=[{FOLDER}/my_lab.arm]"], "Did you mean 'my_lab.arms'?"),
    ([f"plugins=[{FOLDER}/my_lab.mentions]"], "exports nothing"),
    ([f"plugins=[{FOLDER}/my_lab.arms]", "upstream=shrinc"], "Did you mean 'shrink'?"),
    (
        [f"plugins=[{FOLDER}/my_lab.arms]", "task=bios", "downstream=mask_mentions"],
        "needs groups and a class that harms",
    ),
    (
        [f"task={FOLDER}/board.yaml", f"data={SMALL['data']}"],
        "A measure of a plugin needs the plugin: plugins=[MODULE].",
    ),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_mistake_is_answered_with_one_paragraph_before_anything_starts(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(application(command.main), [*words, "--json", "out.json"])
    assert failed.exit_code == 2, failed.output
    assert failed.stderr.startswith("Error: ")
    assert " ".join(message.split()) in " ".join(failed.stderr.split())
    assert not list(tmp_path.iterdir())
