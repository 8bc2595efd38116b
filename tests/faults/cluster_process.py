"""A Ray cluster with two nodes of one core, in a process of its own. It reads `lose` and `join` and answers with its address.

It cannot be confined to loopback (`ray.init` replaces 127.0.0.1 by the machine's address), so set RAY_AUTH_MODE=token.
"""

import sys

from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
try:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    for line in sys.stdin:
        if line.strip() == "lose":
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
        elif line.strip() == "join":
            nodes.append(cluster.add_node(num_cpus=1))
        print("ready", cluster.address, flush=True)
finally:
    cluster.shutdown()
