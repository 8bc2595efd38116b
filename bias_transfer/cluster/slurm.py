"""`sweep --slurm`, the login node's side: write the batch script of a sweep, and submit it.

The script's last line starts `bias_transfer.cluster.allocation` on the first node of the job.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bias_transfer.console import redacted
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.storage import atomic

LEAD = 180
"""Seconds before the time limit at which SLURM sends the signal, on which the sweep is stopped. It sends it up to half a minute
early."""

SHORTEST = 10
"""Minutes of the shortest time limit that is accepted: a job that is stopped before its first trial has ended would be requeued
without end."""

_KEYS = """account acctg-freq batch bb bbf begin cluster-constraint clusters comment constraint container container-id
    contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency
    distribution exclude exclusive extra extra-node-info get-user-env gpu-bind gpu-freq gpus gpus-per-node
    gpus-per-socket gpus-per-task gres gres-flags hint hold licenses mail-type mail-user mcs-label mem mem-bind
    mem-per-cpu mem-per-gpu mincpus network nice no-kill nodefile nodelist nodes overcommit oversubscribe partition
    power prefer priority profile propagate qos reboot reservation sockets-per-node spread-job stepmgr switches
    thread-spec threads-per-core time time-min tmp tres-bind tres-per-task use-min-nodes wait-all-nodes wckey
    container-image container-mounts container-name container-workdir"""
KEYS = frozenset(_KEYS.split())
"""Options of sbatch that may be given, and those of pyxis; others may be those of a site's own plugins."""

_FLAGS = (
    "contiguous exclusive get-user-env hold no-kill overcommit oversubscribe reboot spread-job stepmgr use-min-nodes"
)
FLAGS = frozenset(_FLAGS.split())
"""Those of them that need no value."""

_KEPT = "the log is in the sweep's folder, and a job that goes on appends to it"
_ONE_TASK = (
    "Ray runs once per node, and shares the node among the trials. Say how many cores a node gives: cpus-per-task=N"
)
_STARTS = "the project submits one job, and starts it by itself"

PROTECTED = {
    "signal": f"by it the sweep is stopped {LEAD} s before the time limit",
    "requeue": "by it the sweep goes on after the time limit, and after a node is lost. To stop the sweep: scancel JOB",
    "no-requeue": "the sweep goes on by being requeued. Where a site forbids it, the job submits itself again",
    "open-mode": _KEPT, "output": _KEPT, "error": _KEPT,
    "job-name": "the job is named after the sweep, and waits for an earlier job of that name",
    "export": "the job needs the environment of the shell that submits it. Add to it: --setup 'export NAME=VALUE'",
    "export-file": "the job needs the environment of the shell that submits it. Add to it: --setup 'export NAME=VALUE'",
    "chdir": "the job runs in the folder in which you submit it, so that relative paths mean the same",
    "ntasks": _ONE_TASK, "ntasks-per-node": _ONE_TASK, "ntasks-per-core": _ONE_TASK, "ntasks-per-socket": _ONE_TASK,
    "ntasks-per-gpu": _ONE_TASK,
    "array": "a sweep is one job, which runs its trials on all nodes. Say how many: nodes=N",
    "test-only": "--dry-run prints the script and submits nothing",
    "wrap": _STARTS, "input": _STARTS, "wait": _STARTS, "parsable": _STARTS, "ignore-pbs": _STARTS, "quiet": _STARTS,
    "verbose": _STARTS, "uid": _STARTS, "gid": _STARTS, "kill-on-invalid-dep": _STARTS,
}  # fmt: skip
"""Option of sbatch -> why it cannot be given."""

CORES = ("cpus-per-task", "cpus-per-gpu", "exclusive", "mincpus", "tres-per-task")
"""Options that say how many cores a node gives."""

Options = Mapping[str, str]
"""Option of sbatch -> its value; empty for a flag."""


@dataclass(frozen=True)
class Batch:
    """A sweep as a job."""

    experiment: str
    folder: Path
    """Of script, config and logs: on the file system that all nodes share."""
    directory: Path
    """In which the job runs."""
    options: tuple[tuple[str, str], ...]
    """What the user asks of SLURM."""
    setup: tuple[str, ...]
    """Lines of shell, before Python starts."""
    words: tuple[str, ...]
    """CONFIG and options of the sweep in the job."""
    command: str
    """What the user types to start the sweep again."""
    uri: str
    """The MLflow tracking URI."""

    @property
    def script(self) -> Path:
        """The file of the batch script."""
        return self.folder / "job.sh"


def parse(given: Sequence[str], cores: int) -> tuple[tuple[str, str], ...]:
    """The options of sbatch, with the defaults of those that are not given, in the order of their keys.

    given: KEY=VALUE, or KEY for a flag; a key may have underscores. cores: that a trial uses. By default, a node gives one
    trial as many, and as many for each of its GPUs. Raises UserError for a key that is misspelt, protected or repeated, and
    for a value that is missing or too small.
    """
    options: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().lstrip("-").replace("_", "-")
        _check(text, key, value if equals else None)
        if key in options:
            raise UserError(f"--sbatch {key} is given twice: {key}={options[key]} and {text}")
        options[key] = value
    options = {"nodes": "1", **options}
    if not any(name in options for name in CORES):
        options["cpus-per-task"] = str(cores * max(1, _gpus(options)))
    return tuple(sorted(options.items()))


def _check(text: str, key: str, value: str | None) -> None:
    if key in PROTECTED:
        raise UserError(f"--sbatch {text}: {key} cannot be set: {PROTECTED[key]}.")
    near = difflib.get_close_matches(key, [*KEYS, *PROTECTED], n=1, cutoff=0.8)
    if key not in KEYS and near:
        raise UserError(f"--sbatch {text}: sbatch has no option {key!r}. Did you mean {near[0]!r}?")
    if not re.fullmatch("[a-z][a-z0-9-]+", key):
        raise UserError(
            f"--sbatch {text}: {key!r} is not the name of an option of sbatch. Allowed: KEY=VALUE with a long name, such as "
            f"partition=gpu, gpus-per-node=4, time=12:00:00, or KEY alone for a flag such as exclusive."
        )
    if value == "" or (value is None and key in KEYS - FLAGS):
        raise UserError(f"--sbatch {text}: {key} needs a value: --sbatch {key}=VALUE")
    if value and not value.isprintable():
        raise UserError(f"--sbatch {text!r}: the value has a line break or another control character")
    if key == "time" and (length := minutes(str(value))) is not None and length < SHORTEST:
        raise UserError(
            f"--sbatch {text}: {length:g} minutes are too short. The sweep needs a minute to start, and is stopped {LEAD} s "
            f"before the limit. Allowed: {SHORTEST} minutes or more."
        )


TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


def minutes(time: str) -> float | None:
    """A time limit as sbatch takes it: MINUTES, MINUTES:SECONDS, H:M:S, D-H, D-H:M or D-H:M:S. None for another, such as
    `infinite`, which sbatch itself judges."""
    if not (match := TIME.fullmatch(time)):
        return None
    days, *parts = (None if text is None else int(text) for text in match.groups())
    first, second, third = (part or 0 for part in parts)
    if days is not None or parts[2] is not None:
        return (days or 0) * 1440 + first * 60 + second + third / 60
    return first + second / 60


def _gpus(options: Options) -> int:
    """GPUs per node that the options ask for, such as 4, a100:4, or gpu:a100:4."""
    text = options.get("gpus-per-node") or options.get("gpus-per-task") or ""
    text = text or next((part for part in options.get("gres", "").split(",") if part.startswith("gpu")), "")
    count = text.partition("(")[0].rpartition(":")[2]
    return int(count) if count.isdigit() else int(bool(text))


def all_options(batch: Batch) -> dict[str, str]:
    """What the job asks of SLURM: the user's options, and those that they cannot change."""
    fixed = {
        "job-name": f"bias-transfer-{batch.experiment}",
        "chdir": str(batch.directory),
        "output": f"{str(batch.folder).replace('%', '%%')}/%j.log",
        "open-mode": "append",
        "ntasks-per-node": "1",
        "signal": f"B:USR1@{LEAD}",
        "requeue": "",
    }
    # A second submission of the same sweep waits for the first, which would refuse it otherwise.
    return {"dependency": "singleton", **dict(batch.options), **fixed}


def flags(options: Options) -> list[str]:
    """The options as words of sbatch."""
    return [f"--{key}={value}" if value else f"--{key}" for key, value in options.items()]


def text(batch: Batch) -> str:
    """The batch script. No secret is in it: the tracking URI of a server with a password comes from the environment."""
    lines = ["#!/bin/bash", *(f"#SBATCH {shlex.quote(word)}" for word in flags(all_options(batch)))]
    lines += ["# Written by bias-transfer sweep --slurm.", "trap '' USR1  # until Python handles it"]
    for line in batch.setup:
        failed = shlex.quote(f"Error: --setup failed: {line}")
        lines += ["{", line, "} || { echo " + failed + " >&2; exit 1; }"]
    if redacted(batch.uri) == batch.uri:
        lines.append(f"export MLFLOW_TRACKING_URI={shlex.quote(batch.uri)}")
    module = shlex.join([sys.executable, "-m", "bias_transfer.cluster.allocation"])
    lines.append(f'exec {module} "$0" {shlex.join([batch.command, *batch.words])}')
    return "\n".join([*lines, ""])


def folder_of(config: Path, directory: Path) -> Path:
    """The folder of a sweep's script, config and logs. An edited config has another one: a job that waits, or goes on, has the
    config with which it was submitted."""
    return directory / "slurm" / f"{config.stem}-{digest(config.read_text(encoding='utf-8'))[:8]}"


def write(batch: Batch, config: Path) -> None:
    """Write the script, and a copy of the config."""
    batch.folder.mkdir(parents=True, exist_ok=True)
    for target, content in (
        (batch.folder / config.name, config.read_text(encoding="utf-8")),
        (batch.script, text(batch)),
    ):
        with atomic.new_file(target) as new:
            new.write_text(content, encoding="utf-8")


def check_command() -> None:
    """Raises UserError where SLURM is not installed."""
    if not shutil.which("sbatch"):
        raise UserError(
            "the command `sbatch` is missing: --slurm submits the sweep on a login node of a SLURM cluster. Log in there, or "
            "see the script first: --dry-run"
        )


def submit(batch: Batch) -> str:
    """Submit the written script. Returns the job's id. Raises UserError with the reason if SLURM refuses it."""
    return send(batch.script, all_options(batch), {"MLFLOW_TRACKING_URI": batch.uri})


def send(script: Path, options: Options, variables: Mapping[str, str] | None = None) -> str:
    """Submit a script. Returns the job's id.

    The options are words of the command too: variables such as SBATCH_TIMELIMIT would override the script's lines.
    """
    words = ["sbatch", "--parsable", "--export=ALL", *flags(options), str(script)]
    return output(*words, variables={**plain_environment(), **(variables or {})}).strip().partition(";")[0]


def options_of(script: str) -> dict[str, str]:
    """The options in the lines of a script that `text` wrote."""
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    pairs = (shlex.split(line)[0].removeprefix("--").partition("=") for line in lines)
    return {key: value for key, _, value in pairs}


def plain_environment() -> dict[str, str]:
    """The environment without what SLURM says of the job that this shell may be in: it would be taken for the new job's."""
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM") or name in kept}


def output(*words: str, variables: Mapping[str, str] | None = None) -> str:
    """What a command of SLURM prints. Raises UserError if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - our words
            words, env=variables, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise UserError(f"`{words[0]}` cannot be run: {error.strerror}") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise UserError(f"`{words[0]}` failed: {' '.join(lines[-2:]) or 'no message'}")
    return done.stdout
