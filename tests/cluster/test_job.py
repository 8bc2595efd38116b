"""The head's side of `sweep --cluster`: which job is followed, its exit status, and what a trial may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bias_transfer.cluster import job as cluster_job
from bias_transfer.sweep import ray_cluster

JOBS = {
    "small-12345678-20260101-000000": {"status": "FAILED"},
    "small-12345678-20260102-000000": {"status": "RUNNING"},
    "small-87654321-20260103-000000": {"status": "PENDING"},
}


@pytest.mark.parametrize(
    ("name", "found"),
    [("small-12345678", "small-12345678-20260102-000000"), ("small-1234567", ""), ("small-00000000", "")],
)
def test_the_running_job_of_the_same_name_is_followed(name, found):
    assert cluster_job.running(name, JOBS) == found


@pytest.mark.parametrize(
    ("job", "status"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, 0),
        ({"status": "FAILED", "driver_exit_code": 2}, 2),
        ({"status": "FAILED", "driver_exit_code": None}, 1),
        ({"status": "STOPPED", "driver_exit_code": None}, 130),
    ],
)
def test_exit_status_is_the_drivers(job, status):
    assert cluster_job.exit_status(job) == status


def test_names_of_inputs_are_written_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert (
        cluster_job.own('{"data": "~/bias-transfer-inputs/1/x.csv"}')
        == '{"data": "/home/someone/bias-transfer-inputs/1/x.csv"}'
    )
    assert cluster_job.own("~/other/x.csv") == "~/other/x.csv"


def test_a_config_that_is_sent_again_leaves_the_drivers_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sent = tmp_path / "bias-transfer-inputs" / "0" / "small.yaml"
    sent.parent.mkdir(parents=True)
    for _ in range(2):
        sent.write_text('{"data": "~/bias-transfer-inputs/1/x.csv"}')
        read = cluster_job.written(sent)
        assert read.name == "small.yaml"
        assert read.read_text() == f'{{"data": "{tmp_path}/bias-transfer-inputs/1/x.csv"}}'
        assert sent.read_text().startswith('{"data": "~')
    assert [file.name for file in read.parent.iterdir()] == ["small.yaml"]


def test_without_an_autoscaler_it_is_what_is_there(tmp_path):
    assert ray_cluster.offered(lambda: {"CPU": 2.0, "node:a": 1.0}, tmp_path / "none") == {"CPU": 2.0, "GPU": 0.0}


def test_a_machine_that_can_be_added_counts(tmp_path: Path):
    """On AWS no worker need be there when the sweep starts."""
    file = tmp_path / "bootstrap.yaml"
    file.write_text(
        "available_node_types:\n  head: {max_workers: 0, resources: {CPU: 96}}\n"
        "  worker: {min_workers: 2, max_workers: 4, resources: {CPU: 4, GPU: 1, memory: 100}}\n"
    )
    assert ray_cluster.offered(lambda: {"node:a": 1.0}, file) == {"CPU": 4.0, "GPU": 1.0}


def test_machines_of_ones_own_are_waited_for(tmp_path: Path, monkeypatch):
    file = tmp_path / "bootstrap.yaml"
    file.write_text("available_node_types: {local: {min_workers: 1, max_workers: 1, resources: {}}}\n")
    monkeypatch.setattr(cluster_job.time, "sleep", lambda seconds: None)
    there = [{"node:a": 1.0, "node:__internal_head__": 1.0}, {"node:a": 1.0, "node:b": 1.0, "CPU": 2.0}]
    assert ray_cluster.offered(lambda: there.pop(0), file) == {"CPU": 2.0, "GPU": 0.0}
    assert there == []


def test_and_not_for_ever(tmp_path: Path):
    file = tmp_path / "bootstrap.yaml"
    file.write_text("available_node_types: {local: {min_workers: 1, max_workers: 1, resources: {}}}\n")
    assert ray_cluster.offered(lambda: {"node:a": 1.0, "CPU": 1.0}, file, patience=0) == {"CPU": 1.0, "GPU": 0.0}
