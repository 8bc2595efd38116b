"""`sweep --cluster`, the laptop's side: what a config names goes to the head, where the sweep runs as a Ray job.

Only `ray rsync-up` and `ray exec` are used, so that what opens the cluster stands in its YAML alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from ruamel.yaml import YAML

from bias_transfer.config import grid
from bias_transfer.hashing import file_digest
from bias_transfer.cluster.job import BEGIN
from bias_transfer.cluster.job import END
from bias_transfer.cluster.job import INPUTS
from bias_transfer.cluster.job import PROJECT
from bias_transfer.errors import Exit
from bias_transfer.errors import UserError
from bias_transfer.hashing import digest
from bias_transfer.errors import unknown
from bias_transfer.config.yaml import parse_yaml

GIVEN = ("cluster", "config")
"""Parameters of the sweep that the head is not given as they are."""

OWN = {"address": "RAY_ADDRESS", "tracking_uri": "MLFLOW_TRACKING_URI"}
"""Parameters that the head's environment answers."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Named = Callable[[str, str], str]
"""(key, value of a config) -> the value for the head."""


def words(context: typer.Context) -> list[str]:
    """The options of a command that were given, as words of its command line. Raises UserError for what a cluster answers."""
    found: list[str] = []
    for option in context.command.params:
        name = str(option.name)
        source = context.get_parameter_source(name)
        if name in GIVEN or source is None or source.name != "COMMANDLINE":
            continue
        if name in OWN:
            raise UserError(f"{option.opts[0]} is not for --cluster: there it is {OWN[name]} of the head")
        value = context.params[name]
        if isinstance(value, bool):
            found.append(option.opts[0] if value else option.secondary_opts[0])
        else:
            values = value if isinstance(value, list | tuple) else [value]
            found += [word for one in values for word in (option.opts[0], str(one))]
    return found


def run(cluster: Path, config: Path, options: Sequence[str]) -> int:
    """Run the sweep on the cluster and follow it. Returns the job's exit status, or `STOPPED` or `LOST`. Raises UserError."""
    _read(cluster)
    grid.load(config)
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        command = ["python", "-m", "bias_transfer.head", *_stage(config, options, stage)]
        print(f"{cluster}: the code, {config} and what it names go to the head", flush=True)
        _ray(cluster, "rsync-up")
        _ray(cluster, "rsync-up", f"{stage}/", f"{INPUTS}/")
    return _follow(cluster, f"cd {PROJECT} && {shlex.join(command)}")


def _read(cluster: Path) -> dict[str, Any]:
    """A cluster config. Raises UserError."""
    if not cluster.is_file():
        raise UserError(unknown("cluster config", str(cluster), [str(path) for path in sorted(Path().glob("*.yaml"))]))
    content = YAML(typ="safe", pure=True).load(cluster.read_text(encoding="utf-8"))
    if not isinstance(content, Mapping) or not {"cluster_name", "provider"} <= set(content):
        raise UserError(f"{cluster} is no cluster config: it has no cluster_name and provider. Is it the sweep's?")
    return dict(content)


def _stage(config: Path, options: Sequence[str], stage: Path) -> list[str]:
    """Fill `stage` with the config and every file and folder that it or a --set names, each under its content's digest.
    Returns the words for the head: the config, then the options, with the names that things have there."""

    def named(key: str, value: str) -> str:
        return _put(Path(value), stage) if names_path(key, value) else value

    moved = list(options)
    for number, word in enumerate(options[:-1]):
        if word == "--set" and "=" in options[number + 1]:
            key, value = options[number + 1].split("=", 1)
            moved[number + 1] = f"{key}={named(key, value)}"
    content = _walk("", parse_yaml(config.read_text(encoding="utf-8")), named)
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / config.name
        own.write_text(json.dumps(content, indent=1), encoding="utf-8")  # JSON is YAML, and keeps the order
        return [_put(own, stage), *moved]


def names_path(key: str, value: str) -> bool:
    """Whether a config's value is a file or folder of this machine: it is there, and not a word that happens to be a name."""
    own = key.rsplit(".", 1)[-1] in ("data", "model") and value not in ("synthetic", "tiny")
    return (own or "/" in value or "." in value) and Path(value).exists()


def _walk(key: str, value: Any, named: Named) -> Any:
    """The value with every text in it, at any depth, as `named` has it; `name` stands for the key above it."""
    if isinstance(value, Mapping):
        return {name: _walk(key if name == "name" else str(name), one, named) for name, one in value.items()}
    if isinstance(value, list):
        return [_walk(key, one, named) for one in value]
    return named(key, value) if isinstance(value, str) else value


def _put(path: Path, stage: Path) -> str:
    """Lay a file or folder under `stage`, by hard links where that can be. Returns its name on the head."""
    path = path.resolve()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    key = digest([[str(file.relative_to(path.parent)), file_digest(file)] for file in files])[:16]
    for file in files:
        target = stage / key / file.relative_to(path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _link(file, target)
    return f"{INPUTS}/{key}/{path.name}"


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)


def ray_command() -> str:
    """The `ray` of this environment. Raises UserError where there is none."""
    beside = Path(sys.executable).parent / "ray"
    found = str(beside) if beside.exists() else shutil.which("ray")
    if not found:
        raise UserError("there is no command `ray` here: pip install --constraint constraints.txt '.[cluster]'")
    return found


def _ray(cluster: Path, verb: str, *arguments: str) -> None:
    """A command of ray on the cluster, from the folder of its config, since its file_mounts are relative."""
    command = [ray_command(), verb, cluster.name, *arguments]
    done = subprocess.run(command, cwd=_folder(cluster), capture_output=True, text=True, stdin=subprocess.DEVNULL)  # noqa: S603
    if done.returncode:
        raise UserError(_why(cluster, verb, done.stdout + done.stderr))


def _folder(cluster: Path) -> Path:
    return cluster.resolve().parent


def _why(cluster: Path, verb: str, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"`ray {verb} {cluster}` failed: {' '.join(lines[-2:]) or 'no message'}. If the cluster is not up: ray up {cluster}"


def _follow(cluster: Path, command: str) -> int:
    """Run the command on the head, show what it prints from BEGIN on, and return the exit status after END."""
    words = [ray_command(), "exec", cluster.name, command]
    process = subprocess.Popen(  # noqa: S603 - a session of its own: Ctrl-C is for us
        words, cwd=_folder(cluster), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    job, status, before = "", None, list[str]()
    try:
        for line in _lines(process):
            if line.startswith(BEGIN):
                job = line.removeprefix(BEGIN).strip()
                _tell_job(cluster, job)
            elif line.startswith(END):
                status = int(line.removeprefix(END))
            elif job and status is None:
                print(line, flush=True)
            else:
                before.append(line)
    except KeyboardInterrupt:
        print(f"\nNo longer followed; the job {job or 'of this config'} goes on.")
        _tell_again(cluster, job)
        return Exit.STOPPED
    finally:
        _end(process)
    if not job:
        raise UserError(_why(cluster, "exec", "\n".join(before)))
    if status is None:
        print(f"The connection was lost; the job {job} goes on.")
        _tell_again(cluster, job)
        return Exit.LOST
    _tell_results(cluster)
    return status


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout  # noqa: S101 - a pipe was asked for
    for line in process.stdout:
        yield COLOUR.sub("", line.rstrip("\r\n"))


def _end(process: subprocess.Popen[str]) -> None:
    """End the command and the ssh that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _tell_job(cluster: Path, job: str) -> None:
    print(f"Job {job}. Ctrl-C stops following it, not the job. MLflow: {_tunnel(cluster)}", flush=True)


def _tell_again(cluster: Path, job: str) -> None:
    print("Follow it again: the same command.")
    if job:
        print(f"Stop it: ray exec {cluster} 'ray job stop {job}'")
    _tell_results(cluster)


def _tell_results(cluster: Path) -> None:
    print(f"MLflow: {_tunnel(cluster)}")


def _tunnel(cluster: Path) -> str:
    return f"ray attach {cluster} -p 5000, and while it is open http://127.0.0.1:5000"


def hint(config: Path, address: str | None) -> str:
    """The line that runs the sweep on a cluster that was brought up from here; empty where none is known, or one is
    joined."""
    if address or "RAY_ADDRESS" in os.environ:
        return ""
    for cluster in (Path("cluster.yaml"), Path("cluster_local.yaml")):
        if cluster.is_file() and is_up(_read(cluster)):
            command = f"python -m bias_transfer.sweep --cluster {cluster} {config}"
            return f"{cluster} was brought up from here; to run this there: {command}"
    return ""


def is_up(content: Mapping[str, Any]) -> bool:
    """Whether `ray up` has left its traces of the cluster here. With machines of one's own they tell when it is down again."""
    name, temporary = content["cluster_name"], Path(tempfile.gettempdir())
    state = temporary / "ray" / f"cluster-{name}.state"
    if content["provider"].get("type") == "local":
        nodes = json.loads(state.read_text() or "{}") if state.is_file() else {}
        return bool(nodes.get(content["provider"].get("head_ip"), {}).get("state") == "running")
    caches = (json.loads(file.read_text() or "{}") for file in temporary.glob("ray-config-*"))
    return any(cache.get("config", {}).get("cluster_name") == name for cache in caches)
