"""python -m benchmarks.performance.sweep_walltime: the quickstart grid as a sweep, against one new process per trial."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks import docs_blocks
from benchmarks.performance.sides import STAGES, Side, sentences, table
from bias_transfer.config import grid
from bias_transfer.console import application, console, tell, user_errors
from bias_transfer.errors import UserError
from bias_transfer.memory import load_splits
from bias_transfer.pipeline import find_pretrained
from bias_transfer.resolved import Places, resolve
from bias_transfer.spec import Trial
from bias_transfer.tracking import results, store

STAGE_OF = {"model": "data", "finetune": "fine-tune"}
"""Stages that have another name in `TrialResult.seconds`."""


def main(
    config: Annotated[
        Path, typer.Argument(metavar="[CONFIG]", show_default="tune_configs/quickstart.yaml")
    ] = grid.EMBEDDED,
    only: Annotated[int | None, typer.Option(min=1, help="Run only the first N trials.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of all trials.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Precision of Trainer: bf16 or fp32.")] = "bf16",
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder in which the pre-trained model is cached between calls."),
    ] = None,
    keep: Annotated[bool, typer.Option("--write", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Time a grid with `python -m bias_transfer.sweep` and an empty cache, against the usual way: a new process per trial.

    Such a process tokenises, loads the model, measures upstream bias, trains with a tuned Hugging Face Trainer, and
    evaluates. Both find the pre-trained model on the disk and nothing else, and both run one trial per core at a time. The
    sweep records in MLflow; the usual way writes one file per trial.

    \b
    python -m benchmarks.performance.sweep_walltime --write
    python -m benchmarks.performance.sweep_walltime --only 2 --cache build/walltime                     # a quicker look
    python -m benchmarks.performance.sweep_walltime --only 2 --set model.steps=4 --set epochs=0.2        # a test run
    """
    with user_errors():
        if precision not in ("bf16", "fp32"):
            raise UserError(f"--precision {precision} is not possible. Allowed are bf16 and fp32.")
        trials = grid.override(grid.load(config).trials, set_ or [])[:only]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            made = pretrained(trials, cache or folder / "made")
            usual = usual_way(trials, made, folder / "usual", precision)
            sweep = as_sweep(config, trials, set_ or [], made, folder / "sweep")
    lines = [table(usual, sweep), "", *(f"- {line}" for line in sentences(usual, sweep))]
    console().print("\n".join(lines))
    if keep:
        head = (
            f"{len(trials)} trials of {config.name}, {usual.slots} at a time, on {os.cpu_count()} cores "
            f"({platform.machine()}); Trainer in {precision}. Seconds are summed over the trials that run at once; idle is "
            "the rest of the wall time. Written by `python -m benchmarks.performance.sweep_walltime --write`."
        )
        docs_blocks.put("walltime", "\n".join([head, "", *lines]), docs_blocks.PERFORMANCE)
        tell(f"Wrote the table into {docs_blocks.PERFORMANCE}.")


def pretrained(trials: Sequence[Trial], cache: Path) -> Path:
    """Pre-train the models of the trials, unless they are cached. Returns the folder that holds them."""
    for trial in {(trial.task, trial.data, trial.model): trial for trial in trials}.values():
        tell(f"{trial.setting}: pre-training the model, unless it is cached")
        resolved = resolve(trial)
        find_pretrained(resolved, load_splits(resolved), Places(cache=cache))
    return cache / "tiny"


def environment(made: Path, cache: Path, threads: int) -> dict[str, str]:
    """Environment variables of a new process whose cache holds only the pre-trained model."""
    if made.is_dir():
        shutil.copytree(made, cache / "tiny")
    removed = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "BIAS_TRANSFER_STORAGE")
    inherited = {name: value for name, value in os.environ.items() if name not in removed}
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return inherited | {
        "BIAS_TRANSFER_CACHE": str(cache), "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path,
    }  # fmt: skip


def slots(trials: Sequence[Trial]) -> int:
    """Trials at a time, such that each of their threads has a core."""
    return max(1, len(os.sched_getaffinity(0)) // max(trial.threads for trial in trials))


def usual_way(trials: Sequence[Trial], made: Path, folder: Path, precision: str) -> Side:
    """Run each trial in a new process. Raises UserError if one fails."""
    folder.mkdir()
    variables = environment(made, folder / "cache", trials[0].threads)
    files = [folder / f"{number}.json" for number in range(len(trials))]
    started = time.time()

    def run_one(number: int) -> tuple[dict[str, Any], float]:
        trial_file = folder / f"trial{number}.json"
        trial_file.write_text(trials[number].model_dump_json(exclude_unset=True))
        command = [
            sys.executable,
            "-m",
            "benchmarks.performance.usual_trial",
            str(time.time()),
            str(trial_file),
            str(files[number]),
            precision,
        ]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{trials[number].name}, run the usual way, failed: {done.stderr[-1000:]}")
        tell(f"usual way: trial {number + 1} of {len(trials)} done, {time.time() - started:.0f} s")
        return json.loads(files[number].read_text()), time.time()

    with ThreadPoolExecutor(slots(trials)) as pool:
        contents = list(pool.map(run_one, range(len(trials))))
    measures = {
        (content["id"], row["stage"], row["metric"], row["group"], row["template"]): float(row["value"])
        for content, _ in contents
        for row in content["measures"]
    }
    ended = max(at for _, at in contents)
    spent = summed([content["seconds"] for content, _ in contents])
    return Side(time.time() - started, slots(trials), spent, ended - started, measures)


def summed(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Stage -> seconds, summed over trials. Raises ValueError for a stage that is not in `STAGES`."""
    totals = dict[str, float]()
    for of_trial in seconds:
        for name, value in of_trial.items():
            stage = STAGE_OF.get(name, name)
            totals[stage] = totals.get(stage, 0.0) + value
    if unknown := totals.keys() - {*STAGES}:
        raise ValueError(f"stages without a row: {', '.join(unknown)}")
    return totals


def as_sweep(config: Path, trials: Sequence[Trial], overrides: Sequence[str], made: Path, folder: Path) -> Side:
    """Run the grid with the sweep command. Raises UserError if it fails."""
    folder.mkdir()
    uri = f"{store.SQLITE}{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "bias_transfer.sweep", str(config), "--tracking-uri", uri, "--no-report"]
    command += ["--limit", str(len(trials)), *(word for text in overrides for word in ("--set", text))]
    variables = environment(made, folder / "cache", trials[0].threads)
    begun = time.time()
    done = subprocess.run(command, env=variables, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    wall = time.time() - begun
    if done.returncode:
        raise UserError(f"the sweep exited with status {done.returncode}: {done.stdout[-1000:]}")
    return recorded(uri, config.stem, len(trials), begun, wall, slots(trials))


def recorded(uri: str, experiment: str, count: int, begun: float, wall: float, at_once: int) -> Side:
    """Read times and measures of a sweep from MLflow. Raises UserError unless it has `count` finished trials."""
    client = store.connect(uri)
    ids = [store.open_experiment(client, experiment)]
    runs = [run for run in client.search_runs(ids) if store.TRIAL in run.data.tags and run.info.status == "FINISHED"]
    if len(runs) != count:
        raise UserError(f"{len(runs)} of {count} trials of the sweep are finished")
    prefix = "seconds."
    tags = [
        {name.removeprefix(prefix): float(value) for name, value in run.data.tags.items() if name.startswith(prefix)}
        for run in runs
    ]
    starts, ends = (
        sorted(getattr(run.info, name) / 1000 - begun for run in runs) for name in ("start_time", "end_time")
    )
    spent = summed(tags)
    spent["record"] = math.fsum(ends) - math.fsum(starts) - math.fsum(spent.values())
    spent["start-up"] = math.fsum(starts[:at_once])
    frames = [
        pd.read_parquet(BytesIO(results.artifact(client, run.info.run_id, run.info.artifact_uri, store.MEASURES)))
        for run in runs
    ]
    table_ = pd.concat(frames)
    names = ["trial", "stage", "metric", "group", "template"]
    measures = dict(zip(table_[names].itertuples(index=False, name=None), table_["value"], strict=True))
    return Side(wall, at_once, spent, ends[-1] - starts[0], measures)


if __name__ == "__main__":
    application(main)()
