"""The laptop's side of `sweep --cluster`, with a stand-in for the command `ray` that records its arguments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bias_transfer.cluster import submit
from bias_transfer.cluster.job import INPUTS
from bias_transfer.config import modules
from bias_transfer.config.yaml import parse_yaml
from bias_transfer.console import application
from bias_transfer.errors import Exit, UserError
from bias_transfer.sweep.__main__ import main as sweep

ROOT = Path(__file__).parents[2]
CLUSTER = "cluster_name: c\nprovider: {type: local, head_ip: h, worker_ips: []}\n"
CONFIG = "defaults: {task: wiki, data: texts, model: tiny, seed: [0]}\ngrid: [{upstream: none}]\n"

RAY = """#!{python}
import json, os, shutil, sys
from pathlib import Path
with open("asked.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "rsync-up" and len(sys.argv) > 3:
    shutil.copytree(sys.argv[3], "head", dirs_exist_ok=True)
if sys.argv[1] == "exec":
    print({output!r}, flush=True)
    if {wait}:
        import time
        time.sleep(60)
sys.exit({status} if sys.argv[1] == "exec" else 0)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "c.yaml").write_text(CLUSTER)
    (tmp_path / "texts").mkdir()
    for name in ("train", "dev", "test"):
        (tmp_path / "texts" / f"{name}.csv").write_text(f"comment,label\n{name},1\n")
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def ray(folder: Path, monkeypatch: pytest.MonkeyPatch, output: str = "", status: int = 0, wait: bool = False) -> None:
    file = folder / "ray"
    file.write_text(RAY.format(python=sys.executable, output=output, status=status, wait=wait))
    file.chmod(0o755)
    monkeypatch.setattr(submit, "ray_command", lambda: str(file))


def asked(folder: Path) -> list[list[str]]:
    return [json.loads(line) for line in (folder / "asked.jsonl").read_text().splitlines()]


OUTPUT = "Fetched IP: 1.2.3.4\n@bias-transfer job small-1\n3 of 3 done\n\x1b[0m@bias-transfer exit 1\nShared connection closed."


def test_code_config_and_data_are_sent_and_the_job_followed_to_its_exit_status(folder, monkeypatch, capsys):
    ray(folder, monkeypatch, OUTPUT)
    assert submit.run(Path("c.yaml"), Path("small.yaml"), ["--limit", "2"]) == 1
    code, inputs, follow = asked(folder)
    assert code == ["rsync-up", "c.yaml"]
    assert inputs[3] == f"{INPUTS}/"
    assert follow[:2] == ["exec", "c.yaml"]
    assert "python -m bias_transfer.cluster.job" in follow[2]
    assert follow[2].endswith("/small.yaml' --limit 2")
    out = capsys.readouterr().out
    assert "3 of 3 done" in out
    assert "Fetched IP" not in out
    assert "Shared connection" not in out
    assert "ray attach c.yaml -p 5000" in out


def test_the_config_on_the_head_names_the_data_there(folder, monkeypatch):
    ray(folder, monkeypatch, OUTPUT)
    submit.run(Path("c.yaml"), Path("small.yaml"), [])
    (config,) = (folder / "head").glob("*/small.yaml")
    data = parse_yaml(config.read_text())["defaults"]["data"]
    sent = folder / "head" / Path(data).relative_to(INPUTS)
    assert sorted(file.name for file in sent.iterdir()) == ["dev.csv", "test.csv", "train.csv"]
    assert (sent / "train.csv").read_bytes() == (folder / "texts/train.csv").read_bytes()


def test_files_that_a_set_names_are_sent_too(folder, monkeypatch):
    ray(folder, monkeypatch, OUTPUT)
    submit.run(Path("c.yaml"), Path("small.yaml"), ["--set", "data=texts/train.csv", "--set", "precision=bf16"])
    words = asked(folder)[-1][2]
    assert "precision=bf16" in words
    assert "data=texts" not in words
    assert [file.name for file in (folder / "head").glob("*/train.csv")] == ["train.csv"]


def test_plugins_are_sent_and_named_by_their_place_on_the_head(folder, monkeypatch):
    ray(folder, monkeypatch, OUTPUT)
    (folder / "lab").mkdir()
    (folder / "lab" / "arms.py").write_text("from lab import tools\nUPSTREAM = {}\n")
    (folder / "lab" / "tools.py").write_text("")
    (folder / "lab" / "unrelated.py").write_text("")
    (folder / "small.yaml").write_text(f"plugins: [lab.arms]\n{CONFIG}")
    (here,) = modules.find_all(["lab.arms"])
    submit.run(Path("c.yaml"), Path("small.yaml"), ["--set", "plugins=[lab.tools, lab.arms]"])
    (config,) = (folder / "head").glob("*/small.yaml")
    (entry,) = parse_yaml(config.read_text())["plugins"]
    (there,) = modules.find_all([str(folder / "head" / Path(entry).relative_to(INPUTS))])
    assert there.digest == here.digest
    assert [*there.sources] == ["lab.arms", "lab.tools"]
    assert not [*(folder / "head").rglob("unrelated.py")]
    assert f'plugins=["{INPUTS}/' in asked(folder)[-1][2]


def test_the_same_content_has_the_same_path(folder, monkeypatch):
    ray(folder, monkeypatch, OUTPUT)
    for _ in range(2):
        submit.run(Path("c.yaml"), Path("small.yaml"), [])
    first, second = (call[2] for call in asked(folder) if call[0] == "exec")
    assert first == second
    (folder / "texts/train.csv").write_text("comment,label\nother,1\n")
    submit.run(Path("c.yaml"), Path("small.yaml"), [])
    assert asked(folder)[-1][2] != first


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("data", "texts", True),
        ("data", "synthetic", False),
        ("model", "texts", True),
        ("task", "wiki", False),
        ("task", "board.yaml", True),
        ("rebalance.file", "texts/train.csv", True),
        ("model", "org/hub-id", False),
        ("epochs", "0.5", False),
    ],
)
def test_which_values_are_paths(folder, key, value, path):
    for name in ("synthetic", "wiki"):
        (folder / name).mkdir()
    (folder / "board.yaml").write_text("")
    assert submit.names_path(key, value) is path


def test_a_lost_connection_does_not_end_the_job(folder, monkeypatch, capsys):
    ray(folder, monkeypatch, "@bias-transfer job small-1\n1 of 3 done", status=1)
    assert submit.run(Path("c.yaml"), Path("small.yaml"), []) == Exit.LOST
    out = capsys.readouterr().out
    assert "the job small-1 goes on" in out
    assert "ray exec c.yaml 'ray job stop small-1'" in out


def test_ctrl_c_ends_the_following_alone(folder, monkeypatch):
    ray(folder, monkeypatch, "@bias-transfer job small-1", wait=True)
    code = (
        "import sys; from pathlib import Path; from bias_transfer.cluster import submit; "
        f"submit.ray_command = lambda: {str(folder / 'ray')!r}; sys.exit(submit.run(Path('c.yaml'), Path('small.yaml'), []))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    lines = [process.stdout.readline(), process.stdout.readline()]
    assert "Job small-1" in lines[1]
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == Exit.STOPPED
    assert "goes on" in out


def test_a_cluster_that_is_not_up_is_a_user_error(folder, monkeypatch):
    ray(folder, monkeypatch, status=1)
    with pytest.raises(UserError, match="ray up c.yaml"):
        submit.run(Path("c.yaml"), Path("small.yaml"), [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cluster", "x.yaml"], "x.yaml"),
        (["--cluster", "small.yaml"], "not a cluster config"),
        (["--cluster", "c.yaml", "--address", "auto"], "RAY_ADDRESS"),
        (["--cluster", "c.yaml", "--tracking-uri", "http://a"], "MLFLOW_TRACKING_URI"),
    ],
)
def test_options_that_cannot_be_combined_are_refused(folder, words, message):
    ended = CliRunner().invoke(application(sweep), ["small.yaml", *words])
    assert ended.exit_code == 2
    assert message in ended.stderr


def test_options_are_handed_on_as_they_were_given():
    app = typer.Typer()
    seen: list[list[str]] = []

    @app.command()
    def main(
        context: typer.Context,
        config: str,
        limit: int = 3,
        only: list[str] | None = None,
        report: bool = typer.Option(True, "--report/--no-report"),
        cluster: str = "",
    ) -> None:
        seen.append(submit.words(context))

    CliRunner().invoke(
        app, ["c.yaml", "--only", "a=b c", "--only", "d=1", "--no-report", "--cluster", "x", "--limit", "3"]
    )
    assert seen == [["--limit", "3", "--only", "a=b c", "--only", "d=1", "--no-report"]]
