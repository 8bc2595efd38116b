"""`sweep --cluster`, the laptop's side: send a config and the files that it names to the head, where the sweep runs as a Ray
job, and follow that.

Only `ray rsync-up` and `ray exec` are used, so that the cluster's YAML file alone says how the head is reached.
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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from ruamel.yaml import YAML

from bias_transfer.cluster.job import BEGIN, END, INPUTS, PROJECT
from bias_transfer.config import grid, modules
from bias_transfer.config.yaml import parse_yaml
from bias_transfer.errors import Exit, UserError, unknown
from bias_transfer.hashing import digest, file_digest

GIVEN = ("cluster", "config")
"""Parameters of the sweep command that are not handed on to the head unchanged."""

ON_HEAD = {"address": "RAY_ADDRESS", "tracking_uri": "MLFLOW_TRACKING_URI"}
"""Parameters that the head takes from its environment, and the variables."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""The terminal's colour codes, which `ray exec` may write in front of a line."""

Rename = Callable[[str, str], str]
"""(key, value of a config) -> the value on the head."""


def words(context: typer.Context, left_out: Collection[str] = GIVEN) -> list[str]:
    """The options that a command was given, as words of its command line. Raises UserError for an option of `ON_HEAD` that is
    not left out."""
    words: list[str] = []
    for option in context.command.params:
        name = str(option.name)
        source = context.get_parameter_source(name)
        if name in left_out or source is None or source.name != "COMMANDLINE":
            continue
        if name in ON_HEAD:
            raise UserError(
                f"{option.opts[0]} cannot be combined with --cluster: the head sets {ON_HEAD[name]} by itself. Leave it out."
            )
        value = context.params[name]
        if isinstance(value, bool):
            words.append(option.opts[0] if value else option.secondary_opts[0])
        else:
            values = value if isinstance(value, list | tuple) else [value]
            words += [word for item in values for word in (option.opts[0], str(item))]
    return words


def run(cluster: Path, config: Path, options: Sequence[str]) -> int:
    """Run the sweep on the cluster and follow it. Returns the job's exit status, or `STOPPED` after Ctrl-C, or `LOST` if the
    connection broke. Raises UserError for a config that is wrong, before anything is sent, and for a cluster that is not up."""
    _check(cluster)
    grid.load(config)
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        command = ["python", "-m", "bias_transfer.cluster.job", *_stage(config, options, stage)]
        print(f"{cluster}: sending the code, {config} and the files that it names to the head", flush=True)
        _ray(cluster, "rsync-up")
        _ray(cluster, "rsync-up", f"{stage}/", f"{INPUTS}/")
    return _follow(cluster, f"cd {PROJECT} && {shlex.join(command)}")


def _check(cluster: Path) -> None:
    """Raises UserError for a file that is missing, or that is not a cluster config."""
    if not cluster.is_file():
        raise UserError(unknown("cluster config", str(cluster), [str(path) for path in sorted(Path().glob("*.yaml"))]))
    content = YAML(typ="safe", pure=True).load(cluster.read_text(encoding="utf-8"))
    if not isinstance(content, Mapping) or not {"cluster_name", "provider"} <= set(content):
        raise UserError(
            f"{cluster} is not a cluster config: it lacks cluster_name or provider. Is it the sweep's config? That comes "
            f"without an option: --cluster CLUSTER.yaml CONFIG.yaml."
        )


def _stage(config: Path, options: Sequence[str], stage: Path) -> list[str]:
    """Fill `stage` with the config and every file and folder that it or a --set names, each under its content's digest.

    Returns the words of the command on the head: the config, then the options, with the paths that they have there.
    """

    def rename(key: str, value: str) -> str:
        if key == "plugins":
            return _put_plugin(value, stage)
        return _put(Path(value), stage) if names_path(key, value) else value

    moved = list(options)
    for number, word in enumerate(options[:-1]):
        if word == "--set" and "=" in options[number + 1]:
            key, value = options[number + 1].split("=", 1)
            value = _walk(key, parse_yaml(value), rename) if key == "plugins" else rename(key, value)
            moved[number + 1] = f"{key}={json.dumps(value) if isinstance(value, list) else value}"
    content = _walk("", parse_yaml(config.read_text(encoding="utf-8")), rename)
    with tempfile.TemporaryDirectory() as folder:
        renamed = Path(folder) / config.name
        # JSON is YAML, and keeps the order of the keys.
        renamed.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return [_put(renamed, stage), *moved]


def names_path(key: str, value: str) -> bool:
    """Whether a config's value names a file or folder of this machine, and is not a word that happens to be a folder's name."""
    takes_path = key.rsplit(".", 1)[-1] in ("data", "model") and value not in ("synthetic", "tiny")
    return (takes_path or "/" in value or "." in value) and Path(value).exists()


def _walk(key: str, value: Any, rename: Rename) -> Any:
    """The value with every string in it, at any depth, renamed. The key `name` counts as the key above it."""
    if isinstance(value, Mapping):
        return {name: _walk(key if name == "name" else str(name), item, rename) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(key, item, rename) for item in value]
    return rename(key, value) if isinstance(value, str) else value


def _put(path: Path, stage: Path) -> str:
    """Put a file or folder into `stage`, by hard links where the file system has them. Returns its path on the head."""
    path = path.resolve()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    key = digest([[str(file.relative_to(path.parent)), file_digest(file)] for file in files])[:16]
    for file in files:
        target = stage / key / file.relative_to(path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _link(file, target)
    return f"{INPUTS}/{key}/{path.name}"


def _put_plugin(entry: str, stage: Path) -> str:
    """Put a plugin's modules into `stage`, as a tree of its own. Returns FOLDER/MODULE, as the plugin is named on the head."""
    (plugin,) = modules.find_all([entry])
    key = plugin.digest[:16]
    for source in plugin.sources.values():
        parts = source.name.split(".")
        target = stage / key / Path(*parts, "__init__.py") if source.package else stage / key / f"{Path(*parts)}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.content)
    return f"{INPUTS}/{key}/{plugin.name}"


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)


def ray_command() -> str:
    """The `ray` command of this environment. Raises UserError if it is not installed."""
    installed = Path(sys.executable).parent / "ray"
    command = str(installed) if installed.exists() else shutil.which("ray")
    if not command:
        raise UserError(
            "the command `ray` is missing. Install it: pip install --constraint constraints.txt '.[cluster]'"
        )
    return command


def _ray(cluster: Path, verb: str, *arguments: str) -> None:
    """Run a command of Ray on the cluster, in the folder of its config, to which its file_mounts are relative."""
    command = [ray_command(), verb, cluster.name, *arguments]
    done = subprocess.run(command, cwd=_folder(cluster), capture_output=True, text=True, stdin=subprocess.DEVNULL)  # noqa: S603
    if done.returncode:
        raise UserError(_why(cluster, verb, done.stdout + done.stderr))


def _folder(cluster: Path) -> Path:
    return cluster.resolve().parent


def _why(cluster: Path, verb: str, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return (
        f"`ray {verb} {cluster}` failed: {' '.join(lines[-2:]) or 'no message'}. If the cluster is not up, start it: "
        f"ray up {cluster}"
    )


def _follow(cluster: Path, command: str) -> int:
    """Run the command on the head, print its output from BEGIN on, and return the exit status that stands after END."""
    words = [ray_command(), "exec", cluster.name, command]
    # In a session of its own, so that Ctrl-C reaches this process alone.
    process = subprocess.Popen(  # noqa: S603
        words, cwd=_folder(cluster), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    job, status, before = "", None, list[str]()
    try:
        for line in _lines(process):
            if line.startswith(BEGIN):
                job = line.removeprefix(BEGIN).strip()
                _print_job(cluster, job)
            elif line.startswith(END):
                status = int(line.removeprefix(END))
            elif job and status is None:
                print(line, flush=True)
            else:
                before.append(line)
    except KeyboardInterrupt:
        print(f"\nNo longer following; the job {job or 'of this config'} goes on.")
        _print_next(cluster, job)
        return Exit.STOPPED
    finally:
        _end(process)
    if not job:
        raise UserError(_why(cluster, "exec", "\n".join(before)))
    if status is None:
        print(f"The connection was lost; the job {job} goes on.")
        _print_next(cluster, job)
        return Exit.LOST
    _print_tunnel(cluster)
    return status


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout  # noqa: S101 - a pipe was asked for
    for line in process.stdout:
        yield COLOUR.sub("", line.rstrip("\r\n"))


def _end(process: subprocess.Popen[str]) -> None:
    """End the command and the ssh process that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _print_job(cluster: Path, job: str) -> None:
    print(f"Job {job}. Ctrl-C stops following the job, not the job itself. MLflow: {_tunnel(cluster)}", flush=True)


def _print_next(cluster: Path, job: str) -> None:
    print("To follow it again, run the same command.")
    if job:
        print(f"To stop it: ray exec {cluster} 'ray job stop {job}'")
    _print_tunnel(cluster)


def _print_tunnel(cluster: Path) -> None:
    print(f"MLflow: {_tunnel(cluster)}")


def _tunnel(cluster: Path) -> str:
    return f"ray attach {cluster} -p 5000, and open http://127.0.0.1:5000 while it runs"
