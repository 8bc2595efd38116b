"""The login node's side of `sweep --slurm`: options, the script, and what is submitted, with a stand-in for `sbatch`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bias_transfer.cluster import slurm
from bias_transfer.cluster.slurm import Batch
from bias_transfer.console import application
from bias_transfer.errors import UserError
from bias_transfer.sweep.__main__ import main as sweep

CONFIG = """
defaults:
  {task: wiki, data: {name: synthetic, size: 200, pretraining_sentences: 300}, model: {name: tiny, steps: 5}, seed: [0, 1]}
grid: [{upstream: none}]
"""

SBATCH = """#!{python}
import json, os, sys
from pathlib import Path
shown = {{name: value for name, value in os.environ.items() if name.startswith(("SLURM", "MLFLOW"))}}
Path("submitted.json").write_text(json.dumps([sys.argv[1:], shown]))
print({said!r}, file=sys.stderr if {status} else sys.stdout)
sys.exit({status})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str = "17;test", status: int = 0) -> None:
    file = folder / "bin" / "sbatch"
    file.parent.mkdir()
    file.write_text(SBATCH.format(python=sys.executable, said=said, status=status))
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")


def batch(folder: Path, **changes) -> Batch:
    values = {
        "experiment": "small", "folder": folder / "slurm/small-1", "directory": folder, "options": (("nodes", "2"),),
        "setup": (), "words": ("c.yaml", "--set", "a b=1"), "command": "bias-transfer sweep --slurm c.yaml",
        "uri": "sqlite:////f/mlflow.db",
    }  # fmt: skip
    return Batch(**{**values, **changes})


@pytest.mark.parametrize(
    ("given", "cores", "options"),
    [
        ([], 2, {"nodes": "1", "cpus-per-task": "2"}),
        (["gpus_per_node=a100:4", "nodes=2"], 1, {"nodes": "2", "gpus-per-node": "a100:4", "cpus-per-task": "4"}),
        (["gres=lustre:1,gpu:3"], 1, {"nodes": "1", "gres": "lustre:1,gpu:3", "cpus-per-task": "3"}),
        (["gres=gpu"], 2, {"nodes": "1", "gres": "gpu", "cpus-per-task": "2"}),
        (["--exclusive", "time=1-0"], 2, {"nodes": "1", "exclusive": "", "time": "1-0"}),
        (
            ["cpus-per-task=8", "container_image=i.sqsh"],
            2,
            {"nodes": "1", "cpus-per-task": "8", "container-image": "i.sqsh"},
        ),
    ],
)
def test_options_and_their_defaults(given, cores, options):
    assert dict(slurm.parse(given, cores)) == options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["partitoin=gpu"], "Did you mean 'partition'?"),
        (["gpus-per-nodes=4"], "Did you mean 'gpus-per-node'?"),
        (["outputs=x"], "Did you mean 'output'?"),
        (["p=gpu"], "'p' is not the name of an option"),
        (["rm -rf=1"], "is not the name of an option"),
        (["time"], "time needs a value: --sbatch time=VALUE"),
        (["account="], "account needs a value"),
        (["comment=a\n#SBATCH --uid=0"], "line break"),
        (["mem=1G", "mem=2G"], "mem is given twice: mem=1G and mem=2G"),
        (["time=5"], "5 minutes are too short"),
        (["time=0:09:59"], "too short"),
        *((([f"{key}=1"]), f"{key} cannot be set: {why}") for key, why in slurm.PROTECTED.items()),
    ],
)
def test_a_wrong_option_is_answered_by_what_is_wrong_with_it(given, message):
    with pytest.raises(UserError) as raised:
        slurm.parse(given, 1)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("90", 90),
        ("10:30", 10.5),
        ("2:00:00", 120),
        ("1-0", 1440),
        ("1-2:30", 1590),
        ("0-0:30:30", 30.5),
        ("infinite", None),
    ],
)
def test_time_limits_are_read_as_sbatch_reads_them(time, minutes):
    assert slurm.minutes(time) == minutes


def test_the_script_runs_the_setup_and_hands_over_to_python(folder):
    """In bash, with a stand-in for the module: its words are those that were given, whatever characters they have."""
    module = folder / "bias_transfer/cluster/allocation.py"
    module.parent.mkdir(parents=True)
    shown = "[sys.argv[1:], os.environ.get('SET'), os.environ['MLFLOW_TRACKING_URI'], os.getpid()]"
    module.write_text(f"import json, os, sys; print(json.dumps({shown}))")
    made = batch(folder, setup=("export SET='a  b'  # a comment",), words=("c d.yaml", "--set", "x='$HOME'"))
    (folder / "job.sh").write_text(slurm.text(made))
    process = subprocess.Popen(
        ["bash", "job.sh"], cwd=folder, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    out, _ = process.communicate(timeout=60)
    words, told, uri, pid = json.loads(out)
    assert words == ["job.sh", made.command, *made.words]
    assert (told, uri) == ("a  b", made.uri)
    assert pid == process.pid, "SLURM signals the script's first process: Python has to take its place"


def test_a_setup_line_that_fails_ends_the_job(folder):
    (folder / "job.sh").write_text(slurm.text(batch(folder, setup=("false",))))
    ended = subprocess.run(["bash", "job.sh"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (1, "Error: --setup failed: false\n")


def test_a_password_of_the_server_is_in_the_environment_alone(folder):
    secret = batch(folder, uri="https://me:secret@mlflow.example/x")
    assert "secret" not in slurm.text(secret)
    assert "MLFLOW_TRACKING_URI=https://mlflow.example" in slurm.text(batch(folder, uri="https://mlflow.example"))


def test_the_options_are_read_back_from_the_script(folder):
    made = batch(folder, options=(("comment", 'it\'s "a" b'), ("exclusive", ""), ("nodes", "2")))
    options = slurm.options_of(slurm.text(made))
    assert options == slurm.all_options(made)
    assert options["signal"] == f"B:USR1@{slurm.LEAD}"


def test_a_sweep_is_submitted_with_its_config_and_the_same_command_finds_the_same_folder(folder, monkeypatch):
    sbatch(folder, monkeypatch)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")  # of the interactive job that submits it
    words = [
        "small.yaml",
        "--slurm",
        "--sbatch",
        "nodes=2",
        "--sbatch",
        "time=60",
        "--set",
        "epochs=0.5",
        "--limit",
        "1",
    ]
    ended = CliRunner().invoke(application(sweep), words)
    assert ended.exit_code == 0, ended.output
    (place,) = (folder / "slurm").iterdir()
    (*options, script), variables = json.loads((folder / "submitted.json").read_text())
    assert script == str(place / "job.sh")
    assert {"--parsable", "--export=ALL", "--nodes=2", "--time=60", "--requeue", f"--chdir={folder}"} <= set(options)
    assert variables == {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"} | {
        name: value for name, value in variables.items() if name.startswith("MLFLOW_") and name != "MLFLOW_TRACKING_URI"
    }
    last = shlex.split((place / "job.sh").read_text().splitlines()[-1])
    assert last[-5:] == [str(place / "small.yaml"), "--limit", "1", "--set", "epochs=0.5"]
    assert (place / "small.yaml").read_text() == CONFIG
    for told in ("Job 17: small, 1 of 2 trials", f"tail -F {place}/17.log", "bias-transfer status small", "scancel 17"):
        assert told in ended.output
    assert slurm.folder_of(Path("small.yaml"), folder) == place
    (folder / "small.yaml").write_text(CONFIG + "# edited\n")
    assert slurm.folder_of(Path("small.yaml"), folder) != place


def test_a_dry_run_prints_the_script_and_leaves_nothing(folder):
    words = ["small.yaml", "--slurm", "--dry-run", "--sbatch", "partition=gpu", "--setup", "module load cuda"]
    ended = CliRunner().invoke(application(sweep), words)
    assert ended.exit_code == 0, ended.output
    assert "2 to do" in ended.output
    assert "#SBATCH --partition=gpu\n" in ended.output
    assert "\nmodule load cuda\n" in ended.output
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sbatch", "nodes=2"], "--sbatch belongs to --slurm"),
        (["--setup", "module load cuda"], "--setup belongs to --slurm"),
        (["--slurm", "--address", "h:1"], "--address cannot be combined with --slurm"),
        (["--slurm", "--cluster", "c.yaml"], "--cluster cannot be combined with --slurm"),
        (["--slurm"], "the command `sbatch` is missing"),
        (["--slurm", "--sbatch", "nodse=2"], "Did you mean 'nodes'?"),
        (["--slurm", "--keep-models"], "set BIAS_TRANSFER_STORAGE"),
    ],
)
def test_what_cannot_work_is_one_sentence(folder, monkeypatch, words, message):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.delenv("BIAS_TRANSFER_STORAGE", raising=False)
    ended = CliRunner().invoke(application(sweep), ["small.yaml", *words])
    assert ended.exit_code == 2, ended.output
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (folder / "slurm").exists()


def test_a_refusal_of_slurm_is_shown(folder, monkeypatch):
    sbatch(folder, monkeypatch, "sbatch: error: Batch job submission failed: Invalid account", 1)
    ended = CliRunner().invoke(application(sweep), ["small.yaml", "--slurm", "--sbatch", "account=none"])
    assert ended.exit_code == 2
    assert "Invalid account" in ended.stderr
