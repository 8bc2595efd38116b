"""One node of an allocation: what the job has of it, its address, and a Ray that ends with standard input."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bias_transfer.cluster import node
from bias_transfer.cluster.node import MIB, Share
from bias_transfer.errors import UserError

RAY = """#!{python}
import sys, time
from pathlib import Path
temp = next(word for word in sys.argv if word.startswith("--temp-dir=")).partition("=")[2]
print("starting", flush=True)
if {ends}:
    sys.exit("no port is free")
(Path(temp) / "ray_current_cluster").write_text("127.0.0.1:4000")
time.sleep(60)
"""

RUN = """
import sys
from pathlib import Path
from bias_transfer.cluster import node
node.ray_command = lambda: {ray!r}
sys.exit(node.main(Path({temp!r})))
"""


@pytest.mark.parametrize(
    ("variables", "usable", "share"),
    [
        ({}, 8, Share(8, 0, None)),
        (
            {"SLURM_CPUS_ON_NODE": "64", "SLURM_CPUS_PER_TASK": "16", "SLURM_MEM_PER_NODE": "1024"},
            64,
            Share(16, 0, 1024 * MIB),
        ),
        ({"SLURM_CPUS_ON_NODE": "6", "SLURM_MEM_PER_CPU": "100"}, 64, Share(6, 0, 600 * MIB)),
        ({"SLURM_CPUS_PER_TASK": "16"}, 4, Share(4, 0, None)),
        ({"CUDA_VISIBLE_DEVICES": "2,5", "SLURM_MEM_PER_GPU": "100"}, 1, Share(1, 2, 200 * MIB)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1a,GPU-2b"}, 1, Share(1, 2, None)),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 1, Share(1, 0, None)),
        ({"CUDA_VISIBLE_DEVICES": ""}, 1, Share(1, 0, None)),
        ({"SLURM_GPUS_ON_NODE": "4", "SLURM_MEM_PER_NODE": "0"}, 1, Share(1, 4, None)),
    ],
)
def test_the_share_of_a_node_is_read_from_slurms_variables(variables, usable, share):
    assert node.share(variables, usable) == share


def test_the_address_is_one_that_other_nodes_reach(monkeypatch):
    monkeypatch.setattr(socket, "gethostbyname", {"n1": "10.0.0.1", "n2": "127.0.1.1"}.__getitem__)
    assert node.own_address("n1", "") == "127.0.0.1", "one node alone needs no network"
    assert node.own_address("n1", "n2") == "10.0.0.1"
    assert node.own_address("n2", "127.0.0.1") == "127.0.0.1", "from which the peer is reached"


def test_no_port_is_fixed_and_the_memory_is_the_jobs():
    words = node.command(Share(4, 2, 1000 * MIB), "10.0.0.1", Path("/tmp/t"), None)
    assert {"--port=0", "--min-worker-port=0", "--max-worker-port=0", "--num-cpus=4", "--num-gpus=2"} <= set(words)
    sizes = {word.partition("=")[0]: int(word.partition("=")[2]) for word in words if "memory" in word}
    assert sizes == {"--memory": 800 * MIB, "--object-store-memory": 200 * MIB}
    worker = node.command(Share(1, 0, None), "10.0.0.2", Path("/tmp/t"), "10.0.0.1:4000")
    assert worker[-1] == "--address=10.0.0.1:4000"
    assert not {word for word in worker if "head" in word or "memory" in word or word.startswith("--port")}


def start(tmp_path: Path, ends: bool = False) -> tuple[subprocess.Popen[str], Path]:
    ray, temp = tmp_path / "ray", tmp_path / "bt-1-17.1"
    ray.write_text(RAY.format(python=sys.executable, ends=ends))
    ray.chmod(0o755)
    (tmp_path / "bt-1-17.0").mkdir()
    words = [sys.executable, "-c", RUN.format(ray=str(ray), temp=str(temp))]
    variables = {**os.environ, "SLURMD_NODENAME": "n1", "SLURM_CPUS_PER_TASK": "1"}
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables), temp


@pytest.mark.parametrize("how", ["standard input ends", "scancel"])
def test_ray_ends_and_its_folder_is_removed(tmp_path, how):
    process, temp = start(tmp_path)
    assert process.stdout
    assert process.stdout.readline() == f"{node.UP} 127.0.0.1:4000 n1: 1 cores, 0 GPUs\n"
    assert stat.S_IMODE(temp.stat().st_mode) == 0o700
    assert not (tmp_path / "bt-1-17.0").exists(), "of a start that was killed"
    if how == "scancel":
        process.terminate()
        time.sleep(0.1)
    process.communicate(timeout=30)
    assert process.returncode == (143 if how == "scancel" else 0)
    assert not temp.exists()


def test_a_ray_that_ends_by_itself_is_shown(tmp_path):
    process, temp = start(tmp_path, ends=True)
    assert process.stdout
    out = process.stdout.read()
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert "n1: Ray ended by itself:" in out
    assert not temp.exists()


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    temp = tmp_path / "bt-1-17.0"
    temp.mkdir()
    monkeypatch.setattr(node.shutil, "rmtree", lambda *_, **__: None)  # it is not ours to remove
    with pytest.raises(UserError, match="another user's"):
        node._make_folder(temp)
