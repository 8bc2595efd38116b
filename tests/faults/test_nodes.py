"""A cluster that loses a node in mid-sweep, and gets another one."""

from __future__ import annotations

import secrets

import pytest

pytestmark = pytest.mark.faults


@pytest.fixture
def cluster(case, monkeypatch):
    """Ray's own test cluster: each node is a raylet with workers of its own, here of one core. It cannot be kept to loopback
    (`ray.init` puts the machine's address for 127.0.0.1), and so asks for a token."""
    case.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    for name, value in case.variables().items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    own = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield own
    finally:
        own.shutdown()


def test_a_node_that_is_lost_and_one_that_joins(case, cluster, judge):
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    driver = case.start("--address", cluster.address, "--cpus-per-trial", "1")
    case.wait(lambda: len(case.finished()) >= 1 and case.in_training())
    before, cut = case.finished(), driver.running()
    cluster.remove_node(nodes[0], allow_graceful=False)
    cluster.add_node(num_cpus=1)
    driver.end()
    judge(case, "node lost in mid-sweep, another joins", "a raylet of ray.cluster_utils.Cluster removed, one added",
          before, cut)  # fmt: skip
