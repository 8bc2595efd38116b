"""A sweep on a cluster whose workers have not the driver's files: real Ray, joined at an address."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bias_transfer.pipeline import run_trial
from bias_transfer.resolved import Places
from bias_transfer.sweep import ray_cluster
from bias_transfer.tracking import store, sweeps

CONFIG = """
plugins: [lab_arm]
defaults:
  task: wiki
  data: here/comments.csv
  model: {name: tiny, steps: 5, width: 16, layers: 1, vocabulary: 1200}
  epochs: 2
  max_tokens: 16
  upstream: shift
grid:
  - seed: [0, 1]
"""

ARM = """
from bias_transfer.interventions.registry import UpstreamArm
from bias_transfer.models.language_model import encoder_parameters
from bias_transfer.spec import Options

def shift(model, dose, options, seed, context):
    for weight in encoder_parameters(model).values():
        weight.data.add_(dose / 10)

UPSTREAM = {"shift": UpstreamArm(shift, lambda *_: None, Options, 1.0)}
"""
OTHER_ARM = "raise RuntimeError('the version of this machine')\n"

ROOT = Path(__file__).parents[2]

SECRET = "quagga"
"""A word of the comments."""

DRIVER = """
import pathlib, sys
from bias_transfer.console import application
from bias_transfer.sweep import __main__ as sweep, inputs

packs = inputs.packs

def pack_and_hide(trials):
    packed = [*packs(trials)]
    pathlib.Path("here").rename("gone")  # from now on no process finds the data at its path
    return packed

inputs.packs = pack_and_hide
application(sweep.main)(sys.argv[1:])
"""


def environment(cache: Path, storage: Path) -> dict[str, str]:
    own = {"BIAS_TRANSFER_CACHE": str(cache), "BIAS_TRANSFER_STORAGE": str(storage), "HF_HUB_OFFLINE": "1"}
    own |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    return {**{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "RAY_"))}, **own}


@pytest.fixture
def node(tmp_path) -> Iterator[tuple[str, Path]]:
    """(address, folder of its logs) of a cluster of one machine with a cache of its own, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie in it
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2",
               "--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false",
               f"--temp-dir={folder}"]  # fmt: skip
    own = {**environment(tmp_path / "node", tmp_path / "nowhere"), **ray_cluster.QUIET}
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "lab_arm.py").write_text(OTHER_ARM)
    own["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "installed"), os.environ.get("PYTHONPATH", "")])
    with (tmp_path / "node.log").open("w") as log:
        head = subprocess.Popen(command, env=own, stdout=log, stderr=log, start_new_session=True)
    try:
        while "Ray runtime started" not in (tmp_path / "node.log").read_text():
            assert head.poll() is None, (tmp_path / "node.log").read_text()
        yield address, folder
    finally:
        head.terminate()  # takes its own processes with it
        head.wait(60)
        shutil.rmtree(folder)


@pytest.mark.long
def test_workers_that_have_not_the_data_fetch_it_once(tmp_path, node):
    address, logs = node
    folder, storage = tmp_path / "driver", tmp_path / "storage"
    (folder / "here").mkdir(parents=True)
    rows = [f"a {SECRET} is a good and gay animal of kind {number},{number % 2}" for number in range(150)]
    (folder / "here" / "comments.csv").write_text("comment,toxic\n" + "\n".join(rows) + "\n")
    (folder / "small.yaml").write_text(CONFIG)
    (folder / "lab_arm.py").write_text(ARM)
    words = ["small.yaml", "--address", address, "--no-report", "--checkpoint-minutes", "0"]
    command = [sys.executable, "-c", DRIVER, *words]
    done = subprocess.run(
        command, cwd=folder, env=environment(tmp_path / "cache", storage), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    found = sweeps.read("small", uri=uri)
    assert len(found.runs) == 2
    assert {trial.data for trial in found.trials} == {"here/comments.csv"}
    # The comments, the plugin, and the model that the driver pre-trained; the machine has pre-trained none.
    assert [path.suffix for path in (tmp_path / "node" / "content").iterdir()].count("") == 3
    assert not (tmp_path / "node" / "tiny").exists()
    assert not (tmp_path / "cache" / "content").exists()
    assert [*(storage / "checkpoints").iterdir()] == [], "written, and removed when the trials were recorded"

    told = [
        path for place in (folder, logs) for path in place.rglob("*") if path.is_file() and "gone" not in path.parts
    ]
    assert any(path.suffix == ".log" for path in told)
    assert any(path.name == store.MEASURES for path in told)
    assert not [path for path in told if SECRET.encode() in path.read_bytes() and "_ray_pkg" not in str(path)]
    assert SECRET not in done.stdout + done.stderr

    (folder / "gone").rename(folder / "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        expected = run_trial(found.trials[1], Places(cache=tmp_path / "cache", device="cpu"))
    recorded = sweeps.measures(found, uri).query("trial == @expected.trial.id")
    values = {(row.stage, row.metric, row.group, row.template): repr(row.value) for row in expected.measures}
    keys = recorded[["stage", "metric", "group", "template"]].itertuples(index=False, name=None)
    assert dict(zip(keys, map(repr, recorded["value"].astype(float)), strict=True)) == values
