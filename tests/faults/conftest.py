"""A tiny sweep, its undisturbed result, and what must hold after a fault: every value is recorded once, bit for bit."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest
from filelock import FileLock

from benchmarks import docs_blocks
from bias_transfer.tracking import results, sweeps
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking import store as tracking_store

CONFIG = """
defaults:
  task: wiki
  data: {name: synthetic, size: 200, pretraining_sentences: 300}
  model: {name: tiny, steps: 5, width: 16, layers: 1, vocabulary: 1200}
  epochs: EPOCHS
  max_tokens: 16
grid:
  - upstream: [none, {name: perturb, dose: 0.5}]
    seed: [0, 1]
"""
EPOCHS = 100
"""So that a trial takes a few seconds, most of them in training."""

TRIALS = 4
EXPERIMENT = "small"
MARK = "BIAS_TRANSFER_FAULT_TEST"
"""Environment variable that marks a case's processes, so that no others are ever signalled."""

NAME = r"(?:none|perturb=0.5) \+ none s\d wiki tiny"
LINE = re.compile(rf"^(started|done|failed|not run|process died)\b.*?({NAME}); \d+ done", re.MULTILINE)


@dataclass(eq=False)
class Driver:
    """A start of the sweep."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace")

    def events(self, kind: str) -> list[str]:
        """The names of the trials that it reported as started, done, failed, not run, or process died (`kind`)."""
        return [name for event, name in LINE.findall(self.text) if event == kind]

    def running(self) -> set[str]:
        """The names of the trials that started and have not ended."""
        return {*self.events("started")} - {*self.events("done")} - {*self.events("failed")}

    def end(self, status: int | None = 0, timeout: float = 1500) -> str:
        """Wait for its end, with this exit status (None: with any). Returns its output."""
        ended = self.process.wait(timeout)
        assert status is None or ended == status, f"exit status {ended}:\n{self.text}"
        return self.text

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)


@dataclass
class Case:
    """A folder with a config, an MLflow, a warm cache and a Ray of its own."""

    folder: Path
    ray: Path
    """Ray's folder, with a short path: a socket's path has at most 107 characters."""
    uri: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    drivers: list[Driver] = field(default_factory=list)

    @property
    def store(self) -> str:
        """The tracking URI (default: a SQLite file in the folder)."""
        return self.uri or f"sqlite:///{self.folder / 'mlflow.db'}"

    def variables(self) -> dict[str, str]:
        """The environment of its processes."""
        variables = {
            MARK: str(self.folder),
            "BIAS_TRANSFER_CACHE": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "RAY_TMPDIR": str(self.ray),
            "RAY_worker_niceness": "0",
            "MLFLOW_TRACKING_URI": self.store,
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY_"))}
        return {**inherited, **variables, **self.environment}

    def start(self, *words: str) -> Driver:
        """Start the sweep, without its report."""
        log = self.folder / f"driver-{len(self.drivers)}.log"
        command = [sys.executable, "-m", "bias_transfer.sweep", f"{EXPERIMENT}.yaml", "--no-report", *words]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.variables(), stdout=file, stderr=subprocess.STDOUT
            )
        self.drivers.append(Driver(process, log))
        return self.drivers[-1]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the project to its end."""
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=self.folder, env=self.variables(), capture_output=True, text=True,
            timeout=900, check=False,
        )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """The processes with the case's mark, in their environment or an inherited one."""
        marked = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(MARK) == str(self.folder):
                    marked.append(process)
            except psutil.Error:
                continue
        return marked

    def workers(self) -> list[psutil.Process]:
        """The processes that are running a trial."""
        workers = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # it has ended since
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ImplicitFunc.train"):
                    workers.append(process)
        return workers

    def wait(self, until: Callable[[], object], seconds: float = 900, ended: bool = False) -> None:
        """Wait until a condition holds. ended: the driver may have ended by then. Raises AssertionError with its output."""
        begun = time.monotonic()
        while not until():
            assert time.monotonic() - begun < seconds, self.drivers[-1].text
            assert ended or self.drivers[-1].process.poll() is None or until(), self.drivers[-1].text
            time.sleep(0.2)

    def finished(self) -> dict[str, tracking_runs.Recorded]:
        """Trial id -> its finished run; empty while MLflow or the experiment does not exist."""
        try:
            return {run.trial: run for run in sweeps.read(EXPERIMENT, uri=self.store).recorded}
        except Exception:
            return {}

    def in_training(self) -> bool:
        """Whether a trial has been running for more than a second: its run begins when its process is warm."""
        try:
            client = tracking_store.connect(self.store)
            known = client.get_experiment_by_name(EXPERIMENT)
            query = f"tags.`{tracking_store.KIND}` = 'trial' AND attributes.status = 'RUNNING'"
            running = client.search_runs([known.experiment_id], query) if known else []
        except Exception:  # MLflow does not exist yet
            return False
        return any(time.time() - run.info.start_time / 1000 > 1 for run in running)

    def table(self) -> pd.DataFrame:
        """Every recorded measure, sorted."""
        measures = sweeps.measures(sweeps.read(EXPERIMENT, uri=self.store), self.store)
        return measures.sort_values(list(results.MEASURE_COLUMNS[:5])).reset_index(drop=True)

    def end_processes(self) -> None:
        """Send SIGKILL to the case's remaining processes."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.Error:
                continue

    def end(self) -> None:
        """End every process and remove Ray's folder."""
        self.end_processes()
        for driver in self.drivers:
            driver.process.wait(60)
        shutil.rmtree(self.ray, ignore_errors=True)


def again(case: Case) -> dict[str, int]:
    """Trial name -> how often it was started in all sweeps of the case, if more than once."""
    counts = Counter(name for driver in case.drivers for name in driver.events("started"))
    return {name: count for name, count in counts.items() if count > 1}


def check(case: Case, reference: pd.DataFrame, before: dict[str, tracking_runs.Recorded], cut: set[str]) -> str:
    """Assert what must hold after every fault. before: the runs that had finished when it struck; cut: the names of the
    trials that it may have interrupted, and that may have run twice. Returns what happened, in words."""
    sweep = sweeps.read(EXPERIMENT, uri=case.store)
    assert len(sweep.runs) == len(sweep.trials) == TRIALS
    assert not sweep.failed
    after = {run.trial: run for run in sweep.recorded}
    for trial, run in before.items():
        assert after[trial] == run, "a finished trial was lost, or recorded again"
    assert {*again(case)} <= cut, f"run twice without need: {again(case)}; interrupted were {cut}"
    client = tracking_store.connect(case.store)
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    counts = Counter(run.data.tags.get(tracking_store.TRIAL, run.data.tags[tracking_store.KIND]) for run in runs)
    assert set(counts.values()) == {1}, f"runs per trial, and parent runs: {counts}"
    for run in runs:
        assert run.info.status == "FINISHED", run.data.tags
        for name in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps)), f"{name} was recorded twice"
    pd.testing.assert_frame_equal(case.table(), reference, check_exact=True)
    more = sum(count - 1 for count in again(case).values())
    return (
        f"{len(before)} finished before, all still there; {more} of {len(cut)} interrupted ran again; "
        f"{TRIALS} of {TRIALS} recorded once, {len(reference)} values equal bit for bit"
    )


def make(folder: Path, cache: Path | None = None) -> Case:
    """Create a case in this folder, with a copy of the cache."""
    folder.mkdir(exist_ok=True)
    (folder / f"{EXPERIMENT}.yaml").write_text(CONFIG.replace("EPOCHS", str(EPOCHS)))
    if cache:
        shutil.copytree(cache, folder / "cache")
    return Case(folder, Path(tempfile.mkdtemp(prefix="bt-")))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The cache and the measures of a sweep without a fault, run once for all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    file = base / "undisturbed.parquet"
    with FileLock(base / "undisturbed.lock"):
        if not file.exists():
            case = make(base / "undisturbed")
            try:
                case.start().end()
                case.table().to_parquet(file)
            finally:
                case.end()
    return base / "undisturbed" / "cache", pd.read_parquet(file)


@pytest.fixture
def reference(undisturbed: tuple[Path, pd.DataFrame]) -> pd.DataFrame:
    return undisturbed[1]


@pytest.fixture
def case(undisturbed: tuple[Path, pd.DataFrame], tmp_path: Path) -> Iterator[Case]:
    """A case whose sweep has not been started."""
    new = make(tmp_path / "case", undisturbed[0])
    try:
        yield new
    finally:
        new.end()


@pytest.fixture
def judge(reference: pd.DataFrame, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """A function (case, fault, injected, before, cut) that checks a case and records a row of the table of faults."""

    def judge_case(case: Case, fault: str, injected: str, before: dict, cut: set[str], more: str = "") -> None:
        record_property("fault", fault)
        record_property("injected", injected)
        record_property("happened", check(case, reference, before, cut) + (f"; {more}" if more else ""))

    return judge_case


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", action="store_true", help="Write the table of faults to docs/fault_tolerance.md.")


HEAD = "| fault | injected by | what happened | seen by | s | outcome |\n| --- | --- | --- | --- | --: | --- |"


class Rows:
    """The table of faults, with a row per test; rows of tests that did not run stay as they are."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        recorded = dict(report.user_properties)
        if "faults" not in report.nodeid or not (report.when == "call" or report.failed):
            return
        name = report.nodeid.rsplit("::", 1)[-1].removeprefix("test_")
        fault = recorded.get("fault", name.replace("_", " "))
        cells = [
            fault,
            recorded.get("injected", ""),
            recorded.get("happened", ""),
            f"`{name}`",
            f"{report.duration:.0f}",
        ]
        self.rows[name] = "| " + " | ".join(map(str, [*cells, report.outcome])) + " |"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not session.config.getoption("--fault-table", default=False):
            return
        old = {line.split("`")[1]: line for line in docs_blocks.part("faults").splitlines() if "`" in line}
        docs_blocks.put("faults", "\n".join([HEAD, *(old | self.rows).values()]))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Rows(), "fault rows")
