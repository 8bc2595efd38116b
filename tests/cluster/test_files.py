"""cluster.yaml and cluster_local.yaml are valid, checked offline as `ray up` checks them, and so is the AWS template."""

from __future__ import annotations

import copy
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import psutil
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = ("cluster.yaml", "cluster_local.yaml")
PROVIDER = {
    "aws": {"type", "region", "cache_stopped_nodes"},
    "local": {"type", "head_ip", "worker_ips"},
}
"""Provider type -> the keys that the project's configs set: Ray's own schema allows any here."""


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Prepare a config as `ray up` does. The keys that Ray does not check are checked too: a machine's by EC2's own model."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert set(config["provider"]) <= PROVIDER[config["provider"]["type"]]
    run_instances = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in config.get("available_node_types", {}).values():
        report = ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **kind["node_config"]}, run_instances)
        assert not report.has_errors(), report.generate_report()
    return prepared


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_config(name):
    prepared = check(read(name))
    assert prepared["cluster_synced_files"] == ["~/.bias-transfer/shared"]
    started = " ".join(prepared["head_start_ray_commands"])
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in started
    assert "--dashboard-host=127.0.0.1" in started
    for command in [*prepared["head_start_ray_commands"], *prepared["worker_start_ray_commands"]]:
        assert "ray start" not in command or ("ulimit -n 65536" in command and "cluster/env.sh" in command)


def wrong() -> list[tuple[str, Any]]:
    """(place, function that misspells a key there)."""

    def top(config: dict[str, Any]) -> None:
        config["setup_comands"] = []

    def auth(config: dict[str, Any]) -> None:
        config["auth"]["ssh_usr"] = "ubuntu"

    def provider(config: dict[str, Any]) -> None:
        config["provider"]["cache_stoped_nodes"] = False

    def kind(config: dict[str, Any]) -> None:
        config["available_node_types"]["worker"]["min_worker"] = 1

    def machine(config: dict[str, Any]) -> None:
        config["available_node_types"]["worker"]["node_config"]["InstanceTyp"] = "g6.xlarge"

    def disk(config: dict[str, Any]) -> None:
        config["available_node_types"]["head"]["node_config"]["BlockDeviceMappings"][0]["Ebs"]["VolumeSise"] = 1

    return [("top", top), ("auth", auth), ("provider", provider), ("kind", kind), ("machine", machine), ("disk", disk)]


@pytest.mark.parametrize(("place", "misspell"), wrong())
def test_a_misspelt_key_is_refused(place, misspell):
    config = read("cluster.yaml")
    misspell(config)
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        check(config)


@pytest.mark.parametrize("name", FILES)
def test_there_are_three_places_to_edit(name):
    text = (ROOT / name).read_text()
    assert re.findall(r"# +(\d)\. ", text) == ["1", "2", "3"]
    assert text.count("EDIT HERE") == 1


def test_the_three_places_change_everything_that_depends_on_them():
    text = (ROOT / "cluster.yaml").read_text()
    for old, new in {
        "us-west-2 ": "eu-west-1 ",
        "g6.xlarge": "p5.4xlarge",
        "&at_least 0": "&at_least 3",
        "&at_most 4": "&at_most 9",
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    prepared = check(yaml.safe_load(text))
    worker = prepared["available_node_types"]["worker"]
    assert prepared["provider"]["region"] == "eu-west-1"
    assert (worker["min_workers"], worker["max_workers"], prepared["max_workers"]) == (3, 9, 9)
    assert worker["node_config"]["InstanceType"] == "p5.4xlarge"


def test_head_on_demand_workers_on_spot():
    config = check(read("cluster.yaml"))
    head, worker = (config["available_node_types"][name]["node_config"] for name in ("head", "worker"))
    assert "InstanceMarketOptions" not in head
    assert worker["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert config["provider"]["cache_stopped_nodes"] is False
    assert head["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] >= 200
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_both_files_treat_the_project_alike():
    aws, local = map(read, FILES)
    same = ("file_mounts", "rsync_exclude", "cluster_synced_files", "setup_commands", "idle_timeout_minutes",
            "head_start_ray_commands", "worker_start_ray_commands")  # fmt: skip
    local["head_start_ray_commands"] = [
        command.replace(" RAY_enable_autoscaler_v2", "") for command in local["head_start_ray_commands"]
    ]
    assert {key: aws[key] for key in same} == {key: local[key] for key in same}


def test_only_existing_code_is_mounted():
    mounts = read("cluster.yaml")["file_mounts"]
    assert all((ROOT / path).exists() for path in mounts.values())
    assert all(remote == f"~/bias-transfer/{path}" for remote, path in mounts.items())
    assert not {".", ".git", ".venv", "data", "results"} & set(mounts.values())


@pytest.mark.parametrize("name", [*FILES, *(f"cluster/{path.name}" for path in sorted((ROOT / "cluster").iterdir()))])
def test_no_file_has_a_secret(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|[0-9a-f]{32}|PRIVATE KEY|password\s*[:=]\s*\w", text)


@pytest.mark.parametrize("path", sorted((ROOT / "cluster").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid_bash(path):
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_the_account_template_has_what_the_cluster_names():
    class Loader(yaml.SafeLoader):
        pass

    def tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> str:
        return f"{tag} {node.value}"

    Loader.add_multi_constructor("!", tagged)
    made = yaml.load((ROOT / "cluster/aws_account.yaml").read_text(), Loader)["Resources"]
    profiles = {
        resource["Properties"]["InstanceProfileName"]
        for resource in made.values()
        if resource["Type"].endswith("InstanceProfile")
    }
    config = read("cluster.yaml")["available_node_types"]
    assert profiles == {kind["node_config"]["IamInstanceProfile"]["Name"] for kind in config.values()}
    assert made["Bucket"]["DeletionPolicy"] == "Retain"
    worker = made["WorkerRole"]["Properties"]
    assert "ManagedPolicyArns" not in worker, "workers reach the bucket and nothing else"


def again(tmp_path: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run cluster/again.sh, without its pauses, on a script that counts its starts in the file `starts`."""
    copy = tmp_path / "again.sh"
    copy.write_text((ROOT / "cluster/again.sh").read_text().replace("sleep 5", "sleep 0"))
    script = f"echo . >> starts; n=$(wc -l < starts); {script}"
    return subprocess.run(["bash", str(copy), "bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("script", "status", "starts"),
    [
        ("exit 0", 0, 1),
        ("exit 1", 1, 1),
        ("[ $n = 3 ] || kill -KILL $$", 0, 3),
        ("[ $n = 2 ] && exit 1; kill -SEGV $$", 1, 2),
        ("kill -KILL $$", 137, 6),
        ("kill -TERM $$", 143, 1),
        ("kill -INT $$; sleep 5", 130, 1),
    ],
)
def test_a_driver_that_a_signal_ends_is_started_again(tmp_path, script, status, starts):
    done = again(tmp_path, script)
    assert (done.returncode, len((tmp_path / "starts").read_text().split())) == (status, starts)
    assert done.stdout.count("ended by signal") == starts - 1


@pytest.mark.long
def test_keep_starts_a_command_again_and_ends_it(tmp_path):
    home = {**os.environ, "HOME": str(tmp_path)}
    (tmp_path / ".bias-transfer").mkdir()
    keep = ["bash", str(ROOT / "cluster/keep.sh"), "it"]
    log = tmp_path / ".bias-transfer/it.log"
    subprocess.run([*keep, "bash", "-c", f"echo up >> {tmp_path}/ups; exec sleep 0.1"], env=home, check=True)
    try:
        wait(lambda: (tmp_path / "ups").exists() and (tmp_path / "ups").read_text().count("up") >= 2)
        assert "it ended and is started again" in log.read_text()
        pid = (tmp_path / ".bias-transfer/it.pid").read_text()
        subprocess.run([*keep, "false"], env=home, check=True)  # it runs already: nothing happens
        assert (tmp_path / ".bias-transfer/it.pid").read_text() == pid
    finally:
        subprocess.run([*keep, "--stop"], env=home, check=True)
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


def wait(true: Any) -> None:
    import time

    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_ray_of_the_kubernetes_file_is_the_one_that_is_installed():
    """Its other keys were checked by hand, against KubeRay's schema (docs/cluster.md)."""
    cluster = read("cluster/kuberay.yaml")["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    assert cluster["authOptions"] == {"mode": "token"}
    assert all(
        group["replicas"] == group["minReplicas"] == group["maxReplicas"] for group in cluster["workerGroupSpecs"]
    )
