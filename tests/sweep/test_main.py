"""The sweep as a user starts it: real Ray, real MLflow on SQLite, trials of a few steps."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from click.testing import Result
from typer.testing import CliRunner

from bias_transfer.console import application
from bias_transfer.errors import UserError
from bias_transfer.sweep import driver
from bias_transfer.sweep.__main__ import main
from bias_transfer.sweep.callbacks import DIED, RETRIES
from bias_transfer.tracking import lease, store, sweeps

CONFIG = """
defaults:
  task: wiki
  data: {name: synthetic, size: 200, pretraining_sentences: 300}
  model: {name: tiny, steps: 5, width: 16, layers: 1, vocabulary: 1200, threads: 1}
  epochs: 0.5
  max_tokens: 16
  seed: [0]
grid:
  - upstream: [none, {name: perturb, dose: 0.5}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "small.yaml").write_text(CONFIG)
    return folder


def environment(folder: Path) -> dict[str, str]:
    own = {"BIAS_TRANSFER_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0"}
    return {**{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}, **own}


def sweep(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bias_transfer.sweep", *words]
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600)


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """(words) -> the command in this process: for starts that run no trial, which need no process of their own."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("BIAS_TRANSFER_CACHE", str(folder / "cache"))
    return lambda *words: CliRunner().invoke(application(main), words)


def uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def measures(folder: Path, experiment: str = "small") -> pd.DataFrame:
    found = sweeps.measures(sweeps.read(experiment, uri=uri(folder)), uri(folder))
    return found.sort_values(list(found.columns)).reset_index(drop=True)


@pytest.fixture(scope="module")
def first(folder: Path) -> subprocess.CompletedProcess[str]:
    return sweep(folder, "small.yaml")


def test_dry_run_lists_the_trials_and_writes_nothing(
    here: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    shown = here("small.yaml", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert "2 to do" in shown.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_misspelt_primary_outcome_stops_a_sweep_before_its_first_trial(
    here: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(f"{CONFIG}analysis: {{primary: {{wiki: logit_gab}}}}\n")
    monkeypatch.chdir(tmp_path)
    stopped = here("small.yaml", "--dry-run")  # what it refuses, a start refuses
    assert stopped.exit_code == 2
    assert "unknown outcome in analysis.primary.wiki 'logit_gab'. Did you mean 'logit_gap'?" in stopped.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_dry_run_counts_trials_and_gpu_hours_where_the_hub_cannot_be_asked(
    here: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = Path(__file__).parents[2] / "tune_configs" / "paper.yaml"
    monkeypatch.chdir(tmp_path)
    shown = here(str(paper), "--dry-run", "--only", "task=bios", "--only", "seed=3")
    assert shown.exit_code == 0, shown.stderr
    assert "14 trials. Their ids, and which of them are done, cannot be known here" in shown.stdout
    assert "GPU-hours" in shown.stdout
    wrong = here(str(paper), "--dry-run", "--set", "upstream=pertub")
    assert wrong.exit_code == 2
    assert "Did you mean 'perturb'" in wrong.stderr
    assert not [*tmp_path.iterdir()]


def test_runs_every_trial_and_says_what_next(folder: Path, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 done, 0 running, 0 failed of 2" in first.stderr
    for words in ("roc", "Baseline", "bias-transfer analyse small", "mlflow.db"):
        assert words in first.stdout
    assert len(sweeps.read("small", uri=uri(folder)).runs) == 2


def test_a_sweep_that_goes_on_on_another_machine_says_so_and_stops(
    folder: Path,
    first: subprocess.CompletedProcess[str],
    here: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the grid's four trials, two are finished. Nothing is run here; each start is stopped or ends before Ray does."""
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("cache", "results"))
    (tmp_path / "small.yaml").write_text(CONFIG.replace("seed: [0]", "seed: [0, 1]"))
    copy = uri(tmp_path / "copy")
    client, recorded = store.connect(copy), sweeps.read("small", uri=copy)
    monkeypatch.setattr(driver, "run", lambda *given: 0)
    words = (str(tmp_path / "small.yaml"), "--tracking-uri", copy)
    same = here(*words)
    assert same.exit_code == 0, same.stderr
    client.set_tag(recorded.recorded[0].run_id, store.MACHINE, "cpu x86_64 AuthenticAMD 25/17 4567")
    stopped = here(*words)
    assert stopped.exit_code == 2
    assert (
        "of the 2 finished trials, 1 on another machine (cpu x86_64 AuthenticAMD 25/17 4567; now: cpu" in stopped.stderr
    )
    assert here(*words, "--accept-machine").exit_code == 0


def test_a_complete_sweep_ends_with_its_report_and_makes_it_once(
    folder: Path, first: subprocess.CompletedProcess[str], here: Callable[..., Result]
) -> None:
    assert "Report: results/small/report.html" in first.stdout, first.stdout
    page = folder / "results" / "small" / "report.html"
    assert "Bias transfer: small" in page.read_text(encoding="utf-8")
    parent = sweeps.read("small", uri=uri(folder)).run_id
    assert "report.html" in sweeps.attached(store.connect(uri(folder)), parent, "report")
    written = page.stat().st_mtime_ns
    again = here("small.yaml")
    assert "Report: with the parent run in MLflow" in again.stdout
    assert page.stat().st_mtime_ns == written


def test_runs_compare_in_mlflow(folder: Path, first: subprocess.CompletedProcess[str]) -> None:
    found = sweeps.read("small", uri=uri(folder))
    client = store.connect(uri(folder))
    for trial in found.trials:
        run = client.get_run(found.runs[trial.id])
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == found.run_id
        assert run.data.params["seed"] == "0"
        assert run.data.tags["upstream"] == trial.upstream
        assert {"accuracy", "macro_f1", "roc_auc", "upstream_mean", "downstream_mean"} <= set(run.data.metrics)
        assert not any("second" in name for name in run.data.metrics)
        assert run.inputs.dataset_inputs[0].dataset.digest
        assert {file.path for file in client.list_artifacts(run.info.run_id)} == {store.MEASURES, store.RESULT}
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "training/loss")]
        assert steps
        assert len(steps) == len(set(steps))


@pytest.mark.long
def test_second_start_runs_nothing_and_a_deleted_run_is_run_again_bit_for_bit_though_a_driver_is_killed(
    folder: Path, first: subprocess.CompletedProcess[str], here: Callable[..., Result]
) -> None:
    before = measures(folder)
    second = here("small.yaml")
    assert second.exit_code == 0, second.stderr
    assert "nothing to run" in second.stdout
    client, found = store.connect(uri(folder)), sweeps.read("small", uri=uri(folder))
    client.delete_run(next(iter(found.runs.values())))
    with subprocess.Popen(
        [sys.executable, "-m", "bias_transfer.sweep", "small.yaml"], cwd=folder, env=environment(folder),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as driver:  # fmt: skip
        started = f"tags.`{store.KIND}` = 'trial' AND attributes.status = 'RUNNING'"
        while not client.search_runs([client.get_experiment_by_name("small").experiment_id], started):
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.1)
        driver.kill()
    assert len(sweeps.read("small", uri=uri(folder)).runs) == 1
    third = sweep(folder, "small.yaml")
    assert third.returncode == 0, third.stderr
    assert "1 of 2 trials to run" in third.stdout
    assert {run.info.status for run in client.search_runs([client.get_experiment_by_name("small").experiment_id])} == {
        "FINISHED"
    }
    pd.testing.assert_frame_equal(measures(folder), before, check_exact=True)
    assert sweeps.read("small", uri=uri(folder)).run_id == found.run_id


@pytest.mark.long
def test_trial_by_id_equals_the_sweep_bit_for_bit(folder: Path, first: subprocess.CompletedProcess[str]) -> None:
    found = sweeps.read("small", uri=uri(folder))
    wanted = found.trials[1].id
    command = [sys.executable, "-m", "bias_transfer.trial", "--id", wanted, "small.yaml", "--json", "one.json"]
    alone = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=600)
    assert alone.returncode == 0, alone.stderr
    own = pd.DataFrame(pd.read_json(folder / "one.json", typ="series", precise_float=True)["measures"])
    recorded = measures(folder).query("trial == @wanted")
    columns = ["stage", "metric", "group", "template"]
    pair = own.merge(recorded, on=columns, suffixes=("", "_recorded"), validate="1:1")
    assert len(pair) == len(own) == len(recorded)
    assert (pair.value.astype(float).eq(pair.value_recorded) | pair.value.isna() & pair.value_recorded.isna()).all()


@pytest.mark.long
def test_a_trial_that_fails_fails_alone(folder: Path, here: Callable[..., Result]) -> None:
    """One learning rate lets the loss diverge: that trial fails, the other goes on."""
    (folder / "failing.yaml").write_text(
        CONFIG.replace("upstream: [none, {name: perturb, dose: 0.5}]", "learning_rate: [1e30, 1e-3]")
    )
    failing = sweep(folder, "failing.yaml")
    assert failing.returncode == 1, failing.stdout + failing.stderr
    found = sweeps.read("failing", uri=uri(folder))
    assert len(found.runs) == 1
    (trial_id, error), *others = found.failed.items()
    assert not others
    assert "TrainingDiverged" in error
    assert trial_id in failing.stdout
    assert "bias-transfer trial" in failing.stdout
    again = here("failing.yaml")
    assert again.exit_code == 1
    assert "nothing to run" in again.stdout
    assert "1 to do" in here("failing.yaml", "--retry-failed", "--dry-run").stdout


@pytest.mark.long
def test_a_trial_whose_process_always_dies_is_recorded_by_the_driver(
    folder: Path, first: subprocess.CompletedProcess[str]
) -> None:
    (folder / "killed.yaml").write_text(CONFIG.replace("epochs: 0.5", "epochs: 500"))
    command = [sys.executable, "-m", "bias_transfer.sweep", "killed.yaml", "--limit", "1"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        killed = set[int]()
        while len(killed) <= RETRIES:
            killed.add(worker := _worker_of_a_started_trial(folder, other_than=killed))
            os.kill(worker, signal.SIGKILL)
        output, _ = driver.communicate(timeout=400)
    assert driver.returncode == 1, output
    assert output.count("process died, starts again") == RETRIES
    found = sweeps.read("killed", uri=uri(folder))
    assert list(found.failed.values()) == [DIED]


def test_a_second_driver_is_refused_and_touches_nothing(
    folder: Path, first: subprocess.CompletedProcess[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    client, parent = store.connect(uri(folder)), sweeps.read("small", uri=uri(folder)).run_id
    with lease.held(client, parent):
        refused = CliRunner().invoke(application(main), ["small.yaml", "--tracking-uri", uri(folder)])
    assert refused.exit_code == 3, refused.output
    assert f"is being run by process {os.getpid()}" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.long
def test_ctrl_c_ends_the_runs_and_says_how_to_go_on(
    folder: Path, first: subprocess.CompletedProcess[str], here: Callable[..., Result]
) -> None:
    (folder / "stopped.yaml").write_text(CONFIG.replace("epochs: 0.5", "epochs: 500"))
    command = [sys.executable, "-m", "bias_transfer.sweep", "stopped.yaml"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        worker = _worker_of_a_started_trial(folder, "stopped")
        driver.send_signal(signal.SIGINT)
        output, _ = driver.communicate(timeout=400)
    assert driver.returncode == 130, output
    assert "start the sweep again" in output
    assert "Traceback" not in output
    assert not psutil.pid_exists(worker)
    found = sweeps.read("stopped", uri=uri(folder))
    assert not found.failed
    assert not found.runs
    client = store.connect(uri(folder))
    runs = client.search_runs([client.get_experiment_by_name("stopped").experiment_id])
    assert "RUNNING" not in {run.info.status for run in runs}
    assert "KILLED" in {run.info.status for run in runs}
    assert "2 to do" in here("stopped.yaml", "--dry-run").stdout


def _worker_of_a_started_trial(folder: Path, experiment: str = "killed", other_than: Collection[int] = ()) -> int:
    client = store.connect(uri(folder))
    for _ in range(600):
        known = client.get_experiment_by_name(experiment)
        query = f"tags.`{store.KIND}` = 'trial'"
        if known and client.search_runs([known.experiment_id], query):
            names = {process.pid: process.info["cmdline"] for process in psutil.process_iter(["cmdline"])}
            mine = [pid for pid, words in names.items() if words and words[0].startswith("ray::ImplicitFunc.train")]
            for pid in mine:
                with suppress(psutil.Error):
                    own = psutil.Process(pid).environ().get("BIAS_TRANSFER_CACHE") == str(folder / "cache")
                    if own and pid not in other_than:
                        return pid
        time.sleep(0.2)
    raise AssertionError("no trial started")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.yaml"], "unknown config"),
        (["small.yaml", "--set", "task=wikki"], "Did you mean 'wiki'"),
        (["small.yaml", "--set", "upstream=pertub"], "Did you mean 'perturb'"),
        (["small.yaml", "--set", "data=nowhere/here.csv"], "neither a file nor a folder"),
        (["small.yaml", "--set", "model=./nowhere"], "does not exist"),
        (["small.yaml", "--set", "epohcs=3"], "Did you mean 'epochs'"),
        (["small.yaml", "--only", "upstream=sent_debias"], "no trial matches"),
        (["small.yaml", "--set", "upstream=reinitialise", "--set", "upstream_dose=0.3"], "Allowed: 0.5, 1"),
        (["small.yaml", "--tracking-uri", "http://127.0.0.1:9"], "is unreachable"),
        (["small.yaml", "--tracking-uri", "sqlite:////proc/nowhere/all.db"], "is unreachable"),
    ],
)
def test_bad_input_is_one_clear_paragraph_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    failed = CliRunner().invoke(application(main), words)
    assert failed.exit_code == 2, failed.output
    assert told in failed.stderr
    assert failed.stderr.startswith("Error: ")
    lines = failed.stdout.splitlines()
    assert not lines or (
        lines[0] == "Reading the data and the models ..." and all(line.startswith("Of 50") for line in lines[1:])
    )
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_unknown_experiment_names_the_nearest(folder: Path, first: subprocess.CompletedProcess[str]) -> None:
    with pytest.raises(UserError, match="Did you mean 'small'"):
        sweeps.read("smal", uri=uri(folder))
