"""python -m benchmarks.sweep_walltime: the quickstart grid as a sweep, against a fresh script for each trial."""

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
from benchmarks.performance.sides import STAGES
from benchmarks.performance.sides import Side
from benchmarks.performance.sides import sentences
from benchmarks.performance.sides import table
from bias_transfer.config import grid
from bias_transfer.tracking import results
from bias_transfer.tracking import store
from bias_transfer.console import console
from bias_transfer.console import tell
from bias_transfer.console import user_errors
from bias_transfer.spec import Trial
from bias_transfer.errors import UserError
from bias_transfer.sweep.__main__ import QUICKSTART
from bias_transfer.pipeline import Places
from bias_transfer.pipeline import load_model
from bias_transfer.pipeline import load_splits
from bias_transfer.pipeline import resolve

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

STAGE_OF = {"model": "data", "finetune": "fine-tune"}
"""What `TrialResult.seconds` calls differently."""


@app.command(context_settings={"max_content_width": 110})
def main(
    config: Annotated[
        Path, typer.Argument(metavar="[CONFIG]", show_default="tune_configs/quickstart.yaml")
    ] = QUICKSTART,
    only: Annotated[int | None, typer.Option(min=1, help="Only the first so many trials.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of every trial.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Trainer's: bf16 or fp32.")] = "bf16",
    cache: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keeps the pre-trained model from one call to the next.")
    ] = None,
    keep: Annotated[bool, typer.Option("--write", help="Put the table into docs/performance.md.")] = False,
) -> None:
    """A grid by `python -m bias_transfer.sweep`, cold, against the usual way: a fresh process for each trial, which tokenises,
    loads, measures upstream bias, trains with Hugging Face Trainer at its best, and evaluates.

    Both find the pre-trained model on the disk and nothing else; both run one trial a core at a time. The sweep records in
    MLflow; the usual way writes one file a trial.

    \b
    python -m benchmarks.sweep_walltime --write
    python -m benchmarks.sweep_walltime --only 2 --cache build/walltime                     # a quicker look
    python -m benchmarks.sweep_walltime --only 2 --set model.steps=4 --set epochs=0.2        # does it run?
    """
    with user_errors():
        if precision not in ("bf16", "fp32"):
            raise UserError(f"--precision {precision}: allowed are bf16 and fp32")
        trials = grid.override(grid.load(config).trials, set_ or [])[:only]
        with tempfile.TemporaryDirectory() as given:
            folder = Path(given)
            made = pretrained(trials, cache or folder / "made")
            usual = usual_way(trials, made, folder / "usual", precision)
            sweep = as_sweep(config, trials, set_ or [], made, folder / "sweep")
    lines = [table(usual, sweep), "", *(f"- {line}" for line in sentences(usual, sweep))]
    console().print("\n".join(lines))
    if keep:
        head = (
            f"{len(trials)} trials of {config.name}, {usual.slots} at a time, on {os.cpu_count()} cores "
            f"({platform.machine()}); Trainer in {precision}. Seconds are summed over the trials that run at once; idle is "
            "what is left of the wall time. Written by `python -m benchmarks.sweep_walltime --write`."
        )
        docs_blocks.put("walltime", "\n".join([head, "", *lines]), docs_blocks.PERFORMANCE)
        tell(f"Written: {docs_blocks.PERFORMANCE}")


def pretrained(trials: Sequence[Trial], cache: Path) -> Path:
    """A cache that holds the models the trials begin with, and nothing else of theirs."""
    for trial in {(trial.task, trial.data, trial.model): trial for trial in trials}.values():
        tell(f"{trial.setting}: pre-trained, unless it is there")
        own = resolve(trial)
        load_model(own, load_splits(own), Places(cache=cache))
    return cache / "tiny"


def environment(made: Path, cache: Path, threads: int) -> dict[str, str]:
    """Of a fresh process, with a cold cache but for the pre-trained model."""
    if made.is_dir():
        shutil.copytree(made, cache / "tiny")
    unset = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "BIAS_TRANSFER_STORAGE")
    given = {name: value for name, value in os.environ.items() if name not in unset}
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return given | {
        "BIAS_TRANSFER_CACHE": str(cache), "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path,
    }  # fmt: skip


def slots(trials: Sequence[Trial]) -> int:
    """Trials at a time: as many as have a core for each of their threads."""
    return max(1, len(os.sched_getaffinity(0)) // max(trial.threads for trial in trials))


def usual_way(trials: Sequence[Trial], made: Path, folder: Path, precision: str) -> Side:
    """Each trial as a fresh process. Raises UserError for one that fails."""
    folder.mkdir()
    variables = environment(made, folder / "cache", trials[0].threads)
    files = [folder / f"{number}.json" for number in range(len(trials))]
    begun = time.time()

    def one(number: int) -> tuple[dict[str, Any], float]:
        given = folder / f"trial{number}.json"
        given.write_text(trials[number].model_dump_json(exclude_unset=True))
        command = [
            sys.executable,
            "-m",
            "benchmarks.usual_trial",
            str(time.time()),
            str(given),
            str(files[number]),
            precision,
        ]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{trials[number].name}, the usual way, ended with an error: {done.stderr[-1000:]}")
        tell(f"usual way: trial {number + 1} of {len(trials)} done, {time.time() - begun:.0f} s")
        return json.loads(files[number].read_text()), time.time()

    with ThreadPoolExecutor(slots(trials)) as pool:
        told = list(pool.map(one, range(len(trials))))
    measures = {
        (content["id"], row["stage"], row["metric"], row["group"], row["template"]): float(row["value"])
        for content, _ in told
        for row in content["measures"]
    }
    ended = max(at for _, at in told)
    spent = summed([content["seconds"] for content, _ in told])
    return Side(time.time() - begun, slots(trials), spent, ended - begun, measures)


def summed(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Stage of `STAGES` -> seconds of all trials. Raises ValueError for a stage that is none."""
    found = dict[str, float]()
    for one in seconds:
        for name, value in one.items():
            stage = STAGE_OF.get(name, name)
            found[stage] = found.get(stage, 0.0) + value
    if unknown := found.keys() - {*STAGES}:
        raise ValueError(f"stages without a row: {', '.join(unknown)}")
    return found


def as_sweep(config: Path, trials: Sequence[Trial], overrides: Sequence[str], made: Path, folder: Path) -> Side:
    """The grid by the command. Raises UserError where it fails."""
    folder.mkdir()
    uri = f"{store.SQLITE}{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "bias_transfer.sweep", str(config), "--tracking-uri", uri, "--no-report"]
    command += ["--limit", str(len(trials)), *(word for text in overrides for word in ("--set", text))]
    variables = environment(made, folder / "cache", trials[0].threads)
    begun = time.time()
    done = subprocess.run(command, env=variables, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    wall = time.time() - begun
    if done.returncode:
        raise UserError(f"the sweep ended with status {done.returncode}: {done.stdout[-1000:]}")
    return recorded(uri, config.stem, len(trials), begun, wall, slots(trials))


def recorded(uri: str, experiment: str, count: int, begun: float, wall: float, at_once: int) -> Side:
    """What the store says of a sweep that has ended. Raises UserError where it has not `count` trials."""
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
    app()
