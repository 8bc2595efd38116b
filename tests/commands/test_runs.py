"""Finished trials move between stores in one file: bit for bit, wholly or not at all, and once."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from analysis.data import runs as analysis_runs
from bias_transfer import spec
from bias_transfer.commands import runs as command
from bias_transfer.errors import UserError
from bias_transfer.spec import AnalysisPlan, Label, Measure, Step, Trial, TrialResult
from bias_transfer.tracking import carried, exchange, lease, recorder, results, runs, store, sweeps

PRIMARY = {"wiki": {"upstream": "negative_sentiment", "dataset": "toxic_share", "downstream": "fpr"}}
PLAN = AnalysisPlan(margins={"wiki": {"fpr": {"slope_sd": 0.2}}})
COMMIT = "mlflow.source.git.commit"


def trials() -> list[Trial]:
    return [
        Trial(upstream=arm, upstream_dose=dose, seed=seed, data="some/where", data_digest="d", model_digest="m")
        for arm, dose in (("none", None), ("perturb", 0.5))
        for seed in range(2)
    ]


def result(trial: Trial, rate: float = 0.1 + 0.2) -> TrialResult:
    rows = (
        Measure("upstream", "negative_sentiment", "deaf", "The {group}.", -1 / 3 - trial.seed, 30),
        Measure("upstream", "negative_sentiment", "=1+1", "", math.nan, 0),
        Measure("downstream", "fpr", "deaf", "", rate, 757),
        Measure("downstream", "smallest", "", "", 5e-324, 1),
    )
    facts = {"digest.train": "abc", "examples.train": 300, "weights.max": 1 / 7, "machine": f"cpu {trial.upstream}"}
    facts |= {"machine.parts": '{"flags": "avx"}', "version.torch": "2.9.1", "drawn": True}
    warnings = tuple(f"warning {number}" for number in range(11))
    curve = (Step(10, 1 / 3, 1e-3), Step(20, 0.6, 5e-4))
    return TrialResult(
        trial, rows, curve, {"roc_auc": 0.1 + 0.7, "missing": math.nan}, facts, warnings, {"finetune": 1.234}
    )


def fill(uri: str, finished: int = 4, experiment: str = "one") -> str:
    """The parent run of a sweep of which this number of trials have finished, and the next one failed."""
    client, grid = store.connect(uri), trials()
    labels = {trial.id: Label(f"short {trial.seed} {trial.upstream}", trial.upstream, "wiki") for trial in grid}
    parent = sweeps.open_sweep(client, experiment, grid, PRIMARY, PLAN, labels)
    for trial in grid[:finished]:
        run_id = recorder.start(client, experiment, trial, parent, labels[trial.id].name, labels[trial.id].arm)
        client.set_tag(run_id, COMMIT, "c0ffee")
        client.set_tag(run_id, "mlflow.user", "somebody")
        recorder.record(client, run_id, result(trial))
    for trial in grid[finished : finished + 1]:
        recorder.fail(client, recorder.start(client, experiment, trial, parent), "ValueError: no")
    sweeps.close_sweep(client, parent, finished == len(grid))
    return parent


@pytest.fixture
def stores(empty_store, tmp_path, monkeypatch) -> tuple[str, str]:
    """URIs of two empty stores."""
    monkeypatch.setattr(lease, "SETTLE", 0.0)
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", str(tmp_path / "cache"))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        shutil.copy(empty_store, tmp_path / name / "mlflow.db")
    here, there = (f"sqlite:///{tmp_path / name / 'mlflow.db'}" for name in ("here", "there"))
    return here, there


def call(*words: object, status: int = 0) -> str:
    ended = CliRunner().invoke(command.app, [str(word) for word in words])
    assert ended.exit_code == status, (ended.output, ended.exception)
    return ended.stdout if status == 0 else ended.stderr


def exported(uri: str, file: Path) -> Path:
    call("export", "one", "--out", file, "--tracking-uri", uri)
    return file


def active(uri: str, experiment: str = "one") -> list:
    """All runs of the experiment that are not deleted; none if there is no such experiment."""
    client = store.connect(uri)
    known = client.get_experiment_by_name(experiment)
    return store.search(client, known.experiment_id, "") if known else []


def test_a_study_is_the_same_in_the_other_store_and_so_is_its_file(stores, tmp_path):
    here, there = stores
    fill(here)
    file = exported(here, tmp_path / "one.parquet")
    assert exported(here, tmp_path / "twice.parquet").read_bytes() == file.read_bytes()
    assert "4 trials imported, 0 were there already" in call("import", file, "--tracking-uri", there)
    shown = call("import", file, "--tracking-uri", there)
    assert "0 trials imported, 4 were there already" in shown
    assert "bias-transfer analyse one --tracking-uri" in shown
    assert exported(there, tmp_path / "back.parquet").read_bytes() == file.read_bytes()
    assert len(active(there)) == 5

    # What analysis reads.
    one, other = (analysis_runs.load("one", uri=uri) for uri in stores)
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    assert (one.labels, one.primary, one.sweep.plan, one.missing) == (other.labels, other.primary, PLAN, ())
    clients = [store.connect(uri) for uri in stores]
    headlines = [results.headlines(client, "one", trials(), one.labels) for client in clients]
    pd.testing.assert_frame_equal(*headlines, check_exact=True)
    assert len(headlines[0]["warnings"][0]) == 11
    ran, imported = (runs.conditions(client, "one") for client in clients)
    digest = carried.read(file).digest
    assert imported == {key: dataclasses.replace(was, imported=digest) for key, was in ran.items()}

    # What the runs are.
    for first in one.sweep.recorded:
        second = runs.of_trial(clients[1], first.trial)
        for name in (store.MEASURES, store.RESULT):
            contents = [
                results.artifact(client, run.run_id, run.artifacts, name)
                for client, run in zip(clients, (first, second), strict=True)
            ]
            assert contents[0] == contents[1]
        both = [client.get_run(run.run_id) for client, run in zip(clients, (first, second), strict=True)]
        assert both[0].data.params == both[1].data.params
        assert both[0].data.metrics == both[1].data.metrics
        assert both[0].inputs.to_dictionary() == both[1].inputs.to_dictionary()
        assert [run.info.end_time - run.info.start_time for run in both] == [first.ended - both[0].info.start_time] * 2
        assert (both[1].info.run_name, both[1].data.tags[COMMIT]) == (both[0].info.run_name, "c0ffee")
        assert both[1].data.tags.get("mlflow.user") != "somebody"
        curves = [
            client.get_metric_history(run.info.run_id, "training/loss")
            for client, run in zip(clients, both, strict=True)
        ]
        assert [(point.step, point.value) for point in curves[0]] == [(point.step, point.value) for point in curves[1]]
    assert [run.info.status for run in active(there)] == ["FINISHED"] * 5


def test_an_unfinished_sweep_goes_on_where_it_was_imported(stores, tmp_path):
    here, there = stores
    fill(here, 2)
    shown = call("export", "one", "--out", tmp_path / "one.parquet", "--tracking-uri", here)
    assert "Left out, since they have not finished: 1 failed" in shown
    call("import", tmp_path / "one.parquet", "--tracking-uri", there)
    client, grid = store.connect(there), trials()
    assert runs.finished(client, "one").keys() == {trial.id for trial in grid[:2]}
    parent = sweeps.read("one", uri=there).run_id
    assert client.get_run(parent).info.status == "FAILED"
    # The sweep's own way: the same grid has the same parent run, finished trials do not begin again, and others do.
    assert sweeps.open_sweep(client, "one", list(reversed(grid)), PRIMARY) == parent
    begun = [recorder.begin(client, "one", trial, parent) for trial in grid]
    assert begun[:2] == [None, None]
    for trial, run_id in zip(grid[2:], begun[2:], strict=True):
        recorder.record(client, run_id, result(trial))
    conditions = runs.conditions(client, "one")
    assert [bool(conditions[trial.id].imported) for trial in grid] == [True, True, False, False]
    assert analysis_runs.load("one", uri=there).sweep.plan == PLAN


def test_an_import_that_is_cut_off_is_completed_by_another(stores, tmp_path, monkeypatch):
    here, there = stores
    fill(here)
    file, finish, done = exported(here, tmp_path / "one.parquet"), recorder._finish, []

    def dies(*given, **named):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(finish(*given, **named))

    monkeypatch.setattr(recorder, "_finish", dies)
    assert CliRunner().invoke(command.app, ["import", str(file), "--tracking-uri", there]).exit_code != 0
    monkeypatch.undo()
    monkeypatch.setattr(lease, "SETTLE", 0.0)
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", str(tmp_path / "cache"))
    assert (
        sorted(run.info.status for run in active(there)) == ["FINISHED"] * 2 + ["RUNNING"] * 2
    )  # a trial and the sweep
    assert "2 trials imported, 2 were there already" in call("import", file, "--tracking-uri", there)
    assert [run.info.status for run in active(there)] == ["FINISHED"] * 5
    assert exported(there, tmp_path / "back.parquet").read_bytes() == file.read_bytes()


def test_a_trial_with_other_numbers_stops_the_import_before_anything_is_written(stores, tmp_path):
    here, there = stores
    fill(here)
    file, client, trial = exported(here, tmp_path / "one.parquet"), store.connect(there), trials()[2]
    recorder.record(client, recorder.start(client, "one", trial), result(trial, rate=math.nextafter(0.1 + 0.2, 1)))
    said = call("import", file, "--tracking-uri", there, status=2)
    assert f"one has 1 of the 4 trials with other numbers than the file: {trial.id} (short 0 perturb)" in said
    assert len(active(there)) == 1
    assert "4 trials imported" in call("import", file, "--experiment", "published", "--tracking-uri", there)
    assert len(active(there, "published")) == 5


def test_a_trial_with_the_same_numbers_stays_as_it_is(stores, tmp_path):
    """It ran on this machine as well: the run says so, whatever the file says of the other one."""
    here, there = stores
    fill(here)
    file, client, trial = exported(here, tmp_path / "one.parquet"), store.connect(there), trials()[2]
    same = dataclasses.replace(result(trial), seconds={"finetune": 9.9}, warnings=())
    run_id = recorder.start(client, "one", trial)
    recorder.record(client, run_id, same)
    assert "3 trials imported, 1 were there already" in call("import", file, "--tracking-uri", there)
    assert runs.finished(client, "one")[trial.id] == run_id
    assert runs.conditions(client, "one")[trial.id].imported == ""


def test_a_sweep_that_is_there_keeps_its_own_plan(stores, tmp_path):
    here, there = stores
    fill(here)
    sweeps.open_sweep(store.connect(there), "one", trials(), PRIMARY)
    said = call("import", exported(here, tmp_path / "one.parquet"), "--tracking-uri", there)
    assert "The sweep one (4 trials) was there already with another plan or other labels, and keeps its own." in said
    assert sweeps.read("one", uri=there).plan == AnalysisPlan()


def test_a_sweep_that_runs_is_left_alone(stores, tmp_path):
    here, there = stores
    fill(here)
    file, client = exported(here, tmp_path / "one.parquet"), store.connect(there)
    parent = sweeps.open_sweep(client, "one", trials()[:1], PRIMARY)  # another grid of the same experiment
    with lease.held(client, parent):
        said = call("import", file, "--tracking-uri", there, status=3)
    assert "Import the file again when that driver has ended" in said
    assert len(active(there)) == 1


def changed(file: Path) -> None:
    """One measure changed by a bit, as a person might with another program: its checksums are right."""
    with pq.ParquetFile(file) as content:
        table, header = content.read(), content.metadata.metadata[carried.HEADER]
    rows = table["measures"].to_pylist()
    rows[0][2]["value"] = math.nextafter(rows[0][2]["value"], 1)
    index = table.column_names.index("measures")
    table = table.set_column(index, "measures", pa.array(rows, carried.SCHEMA.field("measures").type))
    rewrite(file, table, header)


def rewrite(file: Path, table: pa.Table, header: bytes) -> None:
    with pq.ParquetWriter(file, table.schema, **carried.PARQUET) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({carried.HEADER: header})


def of_version(file: Path, version: int) -> None:
    with pq.ParquetFile(file) as content:
        header = json.loads(content.metadata.metadata[carried.HEADER]) | {"version": version, "package": "9.9"}
        rewrite(file, content.read(), json.dumps(header).encode())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), "is damaged"),
        (lambda file: file.write_bytes(b""), "is damaged"),
        (lambda file: file.write_text("trial,value\n1,2\n"), "is damaged"),
        (changed, "does not have the digest that it was written with"),
        (lambda file: pd.DataFrame({"trial": ["a"]}).to_parquet(file), "`bias-transfer runs export` did not write"),
        (lambda file: of_version(file, 2), "is in version 2 of the format, written by bias-transfer 9.9"),
        (lambda file: of_version(file, 0), "is in version 0 of the format"),
        (lambda file: file.unlink(), "there is no file"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_in_one_sentence(stores, tmp_path, spoil, said):
    here, there = stores
    fill(here, 1)
    file = exported(here, tmp_path / "one.parquet")
    spoil(file)
    words = call("import", file, "--tracking-uri", there, status=2)
    assert said in words
    assert words.startswith("Error: ")
    assert words.count("\n") == 1
    assert active(there) == []


def test_a_flipped_bit_or_a_missing_end_is_found_wherever_it_matters(stores, tmp_path):
    here, _ = stores
    fill(here, 1)
    file = exported(here, tmp_path / "one.parquet")
    whole, content = carried.read(file).digest, file.read_bytes()
    for place in range(0, len(content), len(content) // 60):
        for spoilt in (content[:place], bytes([*content[:place], content[place] ^ 4, *content[place + 1 :]])):
            file.write_bytes(spoilt)
            found = digest_or_error(file)
            # A bit may say nothing, as in the name of the program that wrote the file.
            assert "nothing was imported" in found or (found == whole and len(spoilt) == len(content))


def digest_or_error(file: Path) -> str:
    try:
        return carried.read(file).digest
    except UserError as error:
        return str(error)


def test_trials_of_other_numerics_are_imported_and_do_not_count(stores, tmp_path, monkeypatch):
    here, there = stores
    with monkeypatch.context() as patch:
        patch.setattr(spec, "NUMERICS", spec.NUMERICS - 1)
        patch.setattr(exchange, "NUMERICS", spec.NUMERICS)
        fill(here)
        file = exported(here, tmp_path / "one.parquet")
    said = call("import", file, "--tracking-uri", there)
    assert "4 trials imported" in said
    assert f"The file has numerics {spec.NUMERICS - 1}, and this bias-transfer has {spec.NUMERICS}" in said
    assert "do not count as done" in said
    assert not {trial.id for trial in trials()} & runs.finished(store.connect(there), "one").keys()
    assert "4 were there already" in call("import", file, "--tracking-uri", there)
    said = call("export", "one", "--out", tmp_path / "two.parquet", "--tracking-uri", there, status=2)
    assert "no finished trial to export (4 of other numerics" in said


def test_an_experiment_without_results_has_nothing_to_export(stores, tmp_path):
    here, _ = stores
    fill(here, 0)
    assert "no finished trial" in call("export", "one", "--out", tmp_path / "a", "--tracking-uri", here, status=2)
    assert "Did you mean 'one'" in call("export", "onn", "--out", tmp_path / "a", "--tracking-uri", here, status=2)
    words = ("export", "one", "--out", tmp_path / "no" / "a", "--tracking-uri", here)
    assert "there is no folder" in call(*words, status=2)
    with pytest.raises(UserError, match="there is no file"):
        carried.read(tmp_path / "a")


@pytest.mark.parametrize("tag", ["mlflow.parentRunId", store.TRIAL, "mlflow.user"])
def test_a_file_sets_no_tag_that_is_the_stores_own(stores, tmp_path, tag):
    here, _ = stores
    fill(here, 1)
    study = exchange.collect(store.connect(here), "one").study
    first = dataclasses.replace(study.trials[0], tags={tag: "x"})
    carried.write(tmp_path / "a.parquet", dataclasses.replace(study, trials=(first,)))
    with pytest.raises(UserError, match="tags that no export writes"):
        carried.read(tmp_path / "a.parquet")


def test_names_with_terminal_codes_are_refused(stores, tmp_path):
    here, _ = stores
    fill(here, 1)
    study, file = exchange.collect(store.connect(here), "one").study, tmp_path / "a.parquet"
    for spoilt in (
        dataclasses.replace(study, experiment="one\x1b[2J"),
        dataclasses.replace(study, sweeps=(dataclasses.replace(study.sweeps[0], name="\x1b[2J"),)),
        dataclasses.replace(study, trials=(dataclasses.replace(study.trials[0], name="\x1b[2J"),)),
    ):
        carried.write(file, spoilt)
        with pytest.raises(UserError, match="control characters"):
            carried.read(file)
