"""A tiny sweep, its undisturbed outcome, and what a fault must leave of it: everything, once, to the bit."""

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
from bias_transfer.tracking import results
from bias_transfer.tracking import runs as tracking_runs
from bias_transfer.tracking import store as tracking_store
from bias_transfer.tracking import sweeps

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
"""A trial lasts a few seconds, most of them in training."""

TRIALS = 4
EXPERIMENT = "small"
MARK = "BIAS_TRANSFER_FAULT_TEST"
"""Variable of the environment by which a case's processes are known: nobody else's are ever signalled."""

NAME = r"(?:none|perturb=0.5) \+ none s\d wiki tiny"
LINE = re.compile(rf"^(started|done|failed|undone|process died)\b.*?({NAME}); \d+ done", re.MULTILINE)


@dataclass(eq=False)
class Driver:
    """A start of the sweep."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def events(self, kind: str) -> list[str]:
        """The names of the trials that it told to be started, done, failed, undone, or to have lost their process."""
        return [name for event, name in LINE.findall(self.text) if event == kind]

    def running(self) -> set[str]:
        """Started and not ended."""
        return {*self.events("started")} - {*self.events("done")} - {*self.events("failed")}

    def end(self, status: int | None = 0, timeout: float = 1500) -> str:
        """Wait for its end. Returns what it printed."""
        found = self.process.wait(timeout)
        assert status is None or found == status, f"exit status {found}:\n{self.text}"
        return self.text

    def kill(self) -> None:
        """SIGKILL, as by the machine's owner or its memory's."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)


@dataclass
class Case:
    """A folder with a config, a store, a warm cache and a Ray of its own."""

    folder: Path
    ray: Path
    """Short, since a socket's path has at most 107 characters."""
    uri: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    drivers: list[Driver] = field(default_factory=list)

    @property
    def store(self) -> str:
        """The tracking URI; a SQLite file in the folder unless told."""
        return self.uri or f"sqlite:///{self.folder / 'mlflow.db'}"

    def variables(self) -> dict[str, str]:
        """The environment of its processes."""
        own = {
            MARK: str(self.folder),
            "BIAS_TRANSFER_CACHE": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "RAY_TMPDIR": str(self.ray),
            "RAY_worker_niceness": "0",
            "MLFLOW_TRACKING_URI": self.store,
        }
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY_"))}
        return {**kept, **own, **self.environment}

    def start(self, *words: str) -> Driver:
        """A start of the sweep, without its report."""
        log = self.folder / f"driver-{len(self.drivers)}.log"
        command = [sys.executable, "-m", "bias_transfer.sweep", f"{EXPERIMENT}.yaml", "--no-report", *words]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.variables(), stdout=file, stderr=subprocess.STDOUT
            )
        self.drivers.append(Driver(process, log))
        return self.drivers[-1]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another command of the project, to its end."""
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=self.folder, env=self.variables(), capture_output=True, text=True,
            timeout=900, check=False,
        )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """Those that carry the case's mark, the servers that a test started included where they do."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(MARK) == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        """Processes that run a trial at this moment."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):  # it has ended since
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ImplicitFunc.train"):
                    found.append(process)
        return found

    def wait(self, until: Callable[[], object], seconds: float = 900, ended: bool = False) -> None:
        """Until it is true of the sweep. ended: whether its driver may have. Raises AssertionError with what it printed."""
        begun = time.monotonic()
        while not until():
            assert time.monotonic() - begun < seconds, self.drivers[-1].text
            assert ended or self.drivers[-1].process.poll() is None or until(), self.drivers[-1].text
            time.sleep(0.2)

    def finished(self) -> dict[str, tracking_runs.Recorded]:
        """Trial id -> its finished run; none where the store or the experiment is not there yet."""
        try:
            return {one.trial: one for one in sweeps.read(EXPERIMENT, uri=self.store).recorded}
        except Exception:
            return {}

    def in_training(self) -> bool:
        """Whether a trial has been running for a moment: its run begins when its process is warm."""
        try:
            client = tracking_store.connect(self.store)
            known = client.get_experiment_by_name(EXPERIMENT)
            query = f"tags.`{tracking_store.KIND}` = 'trial' AND attributes.status = 'RUNNING'"
            running = client.search_runs([known.experiment_id], query) if known else []
        except Exception:  # not there yet
            return False
        return any(time.time() - run.info.start_time / 1000 > 1 for run in running)

    def table(self) -> pd.DataFrame:
        """Every measure that the store has, in an order of its own."""
        found = sweeps.measures(sweeps.read(EXPERIMENT, uri=self.store), self.store)
        return found.sort_values(list(results.MEASURE_COLUMNS[:5])).reset_index(drop=True)

    def end_processes(self) -> None:
        """SIGKILL to what is left of the case's."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.Error:
                continue

    def end(self) -> None:
        """Leave nothing behind."""
        self.end_processes()
        for driver in self.drivers:
            driver.process.wait(60)
        shutil.rmtree(self.ray, ignore_errors=True)


def again(case: Case) -> dict[str, int]:
    """Trial name -> how often it was started over all starts, where that is more than once."""
    counts = Counter(name for driver in case.drivers for name in driver.events("started"))
    return {name: count for name, count in counts.items() if count > 1}


def check(case: Case, reference: pd.DataFrame, before: dict[str, tracking_runs.Recorded], cut: set[str]) -> str:
    """What must hold after every fault. before: the runs that had finished when it struck; cut: the trials that it may have
    cut off, and that may so have run twice. Returns what happened, in words."""
    found = sweeps.read(EXPERIMENT, uri=case.store)
    assert len(found.runs) == len(found.trials) == TRIALS
    assert not found.failed
    now = {one.trial: one for one in found.recorded}
    for trial, run in before.items():
        assert now[trial] == run, "a finished trial was lost, or recorded anew"
    assert {*again(case)} <= cut, f"run twice for nothing: {again(case)}, cut off were {cut}"
    client = tracking_store.connect(case.store)
    runs = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    counts = Counter(run.data.tags.get(tracking_store.TRIAL, run.data.tags[tracking_store.KIND]) for run in runs)
    assert set(counts.values()) == {1}, f"runs of a trial or parents: {counts}"
    for run in runs:
        assert run.info.status == "FINISHED", run.data.tags
        for name in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps)), f"{name} was recorded twice"
    pd.testing.assert_frame_equal(case.table(), reference, check_exact=True)
    more = sum(count - 1 for count in again(case).values())
    return (
        f"{len(before)} finished before, all kept; {more} of {len(cut)} cut off ran again; "
        f"{TRIALS} of {TRIALS} recorded once, {len(reference)} values equal bit for bit"
    )


def make(folder: Path, cache: Path | None = None) -> Case:
    """A case in this folder, with a copy of the cache."""
    folder.mkdir(exist_ok=True)
    (folder / f"{EXPERIMENT}.yaml").write_text(CONFIG.replace("EPOCHS", str(EPOCHS)))
    if cache:
        shutil.copytree(cache, folder / "cache")
    return Case(folder, Path(tempfile.mkdtemp(prefix="bt-")))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The cache of a sweep to which nothing happened, and its measures: made once for all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    kept = base / "undisturbed.parquet"
    with FileLock(base / "undisturbed.lock"):
        if not kept.exists():
            case = make(base / "undisturbed")
            try:
                case.start().end()
                case.table().to_parquet(kept)
            finally:
                case.end()
    return base / "undisturbed" / "cache", pd.read_parquet(kept)


@pytest.fixture
def reference(undisturbed: tuple[Path, pd.DataFrame]) -> pd.DataFrame:
    return undisturbed[1]


@pytest.fixture
def case(undisturbed: tuple[Path, pd.DataFrame], tmp_path: Path) -> Iterator[Case]:
    """A case that has not begun."""
    own = make(tmp_path / "case", undisturbed[0])
    try:
        yield own
    finally:
        own.end()


@pytest.fixture
def judge(reference: pd.DataFrame, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """(case, fault, injected, before, cut): checks, and keeps a row of the table of faults."""

    def own(case: Case, fault: str, injected: str, before: dict, cut: set[str], more: str = "") -> None:
        record_property("fault", fault)
        record_property("injected", injected)
        record_property("happened", check(case, reference, before, cut) + (f"; {more}" if more else ""))

    return own


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", action="store_true", help="Write the table of faults to docs/reliability.md.")


HEAD = "| fault | injected by | what happened | seen by | s | outcome |\n| --- | --- | --- | --- | --: | --- |"


class Rows:
    """The table of faults, a row a test; rows of tests that did not run stay as they are."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = dict(report.user_properties)
        if "faults" not in report.nodeid or not (report.when == "call" or report.failed):
            return
        name = report.nodeid.rsplit("::", 1)[-1].removeprefix("test_")
        fault = told.get("fault", name.replace("_", " "))
        cells = [fault, told.get("injected", ""), told.get("happened", ""), f"`{name}`", f"{report.duration:.0f}"]
        self.rows[name] = "| " + " | ".join(map(str, [*cells, report.outcome])) + " |"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not session.config.getoption("--fault-table", default=False):
            return
        old = {line.split("`")[1]: line for line in docs_blocks.part("faults").splitlines() if "`" in line}
        docs_blocks.put("faults", "\n".join([HEAD, *(old | self.rows).values()]))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Rows(), "fault rows")
