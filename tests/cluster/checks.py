"""The checks of `make cluster-test` on the running cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hosts import Host

HEALTH = "/api/local_raylet_healthz"
"""The only page of Ray that asks for no token. It says that the node is alive."""

ROWS = """
import json
from pathlib import Path
from bias_transfer.config import grid
from bias_transfer.pipeline import run_trial
from bias_transfer.resolved import resolve
from bias_transfer.tracking import results, sweeps

def exact(value):
    return None if value is None or value != value else value.hex() if isinstance(value, float) else str(value)

def rows(table):
    return sorted([[exact(value) for value in row] for row in table.drop(columns="trial").itertuples(index=False)], key=str)
"""

READ = """
sweep = sweeps.read("small")
table = sweeps.measures(sweep)
trial = sweep.trials[-1].id
print(json.dumps({"trials": len(sweep.trials), "finished": len(sweep.runs), "failed": sweep.failed, "trial": trial,
    "rows": rows(table[table.trial == trial]), "twice": int(table.duplicated().sum())}))
"""

ALONE = """
trial = next(trial for trial in map(resolve, grid.load(Path("CONFIG")).trials) if trial.trial.id == "TRIAL")
print(json.dumps(rows(results.long_table(run_trial(trial)))))
"""


def python(host: Host, script: str, shell: str = "") -> Any:
    """Run a script in the project's Python. Returns the last line that it prints, parsed as JSON."""
    return json.loads(host.shell(f"{shell} python - <<'END'\n{ROWS}{script}\nEND").splitlines()[-1])


def recorded(laptop: Host, head: Host, workers: Sequence[Host], shell: str, config: str) -> None:
    """All trials finished once, on both workers; one of them, on the laptop's data, is bit-identical to a run on the laptop."""
    found = python(head, READ)
    assert found["trials"] == found["finished"] == 16, found
    assert not found["failed"], found["failed"]
    assert found["twice"] == 0
    for worker in workers:
        used = worker.shell("ls ~/.cache/bias-transfer")
        assert used.strip(), f"{worker.name} ran nothing"
    fetched = [worker.shell("ls -d ~/.cache/bias-transfer/content/*[0-9a-f]", check=False) for worker in workers]
    assert any(text.strip() for text in fetched), "no worker was sent the laptop's comments"
    alone = python(laptop, ALONE.replace("CONFIG", config).replace("TRIAL", found["trial"]), shell)
    assert len(alone) > 20
    assert alone == found["rows"], "not bit-identical to the run on the laptop"
    print(
        f"16 of 16 trials finished, both workers used; {len(alone)} measures of {found['trial']} bit-identical to the laptop's"
    )


def on_the_head(head: Host) -> None:
    """The plain sweep command works on the head, with no address and no tracking URI."""
    told = head.shell("cd ~/bias-transfer-inputs/*/written && python -m bias_transfer.sweep small.yaml --no-report")
    assert "nothing to run, 16 of 16" in told, told
    assert "http://127.0.0.1:5000" in told
    told = head.shell(
        "cd ~/bias-transfer-inputs/*/written && cp small.yaml other.yaml && echo address: $RAY_ADDRESS && "
        "python -m bias_transfer.sweep other.yaml --only seed=0 --limit 1 --no-report 2>&1"
    )
    assert "address: auto" in told
    assert "1 done, 0 running, 0 failed of 1" in told, told


def sockets(host: Host) -> list[tuple[str, int, str]]:
    """(address, port, process) of every listening socket."""
    rows = [line.split() for line in host.root("ss", "-Hltnp").splitlines()]
    names = [re.search(r'"([^"]+)"', row[-1]) for row in rows]
    return [
        (row[3].rsplit(":", 1)[0], int(row[3].rsplit(":", 1)[1]), name.group(1) if name else "")
        for row, name in zip(rows, names, strict=True)
    ]


def listening(laptop: Host, machines: Sequence[Host], probe: str) -> None:
    """Apart from sshd, nothing beyond loopback answers without the token, and both servers listen on loopback alone."""
    found = {host.name: sockets(host) for host in machines}
    loopback = {port for rows in found.values() for address, port, _ in rows if is_loopback(address)}
    assert {5000, 8265} <= loopback, "MLflow and the dashboard"
    open_ports = [
        (host, port, process)
        for host in machines
        for address, port, process in found[host.name]
        if not is_loopback(address) and process != "sshd"
    ]
    assert not {5000, 5432, 8265} & {port for _, port, _ in open_ports}
    places = sorted({f"{host.address}:{port}" for host, port, _ in open_ports})
    answers = json.loads(laptop.shell(f"{probe} {' '.join(places)}").splitlines()[-1])
    for host, port, process in sorted(open_ports, key=lambda row: (row[0].name, row[1])):
        answer = answers[f"{host.address}:{port}"]
        counts = {code: len(names) for code, names in answer["grpc"].items()}
        print(f"{host.name:8} {port:<6} {process:16} gRPC {counts} HTTP {answer['http']}")
    for place, answer in answers.items():
        assert not answer["grpc"].get("OK"), f"{place} answers without a token: {answer['grpc']['OK']}"
        pages = [path for path, status in answer["http"].items() if status < 400 and path != HEALTH]
        assert not pages, f"{place} shows pages without a token: {pages}"
        refused = answer["grpc"].get("UNAUTHENTICATED") or 401 in answer["http"].values()
        assert refused, f"{place} did not ask for a token: {answer}"
    gcs = f"{machines[0].address}:6379"
    known = json.loads(laptop.shell(f"export RAY_TOKEN={token(machines[0])}; {probe} {gcs}").splitlines()[-1])
    assert known[gcs]["grpc"]["OK"], "the control failed: no answer with the token either"
    print(f"{len(places)} ports beyond loopback, all of Ray: each refuses a client without the token")


def is_loopback(address: str) -> bool:
    return "127.0.0.1" in address or address in ("[::1]", "::1")


def token(head: Host) -> str:
    return head.shell("cat ~/.bias-transfer/shared/auth_token").strip()


def nothing_left(head: Host) -> None:
    """Assert that Ray and the servers are down."""
    left = {process for _, _, process in sockets(head)} - {"sshd"}
    assert not left, left


def restored(head: Host, venv: Path) -> None:
    """The set-up of an empty head restores the same runs."""
    head.shell("rm -rf ~/.bias-transfer")
    node, servers = (f"bash ~/bias-transfer/cluster/{name}.sh" for name in ("node", "head"))
    told = head.shell(f"BIAS_TRANSFER_VENV={venv} {node}; MLFLOW_WORKERS=1 {servers} /srv/shared")
    assert "was restored" in told, told
    found = python(head, READ)
    assert found["finished"] == 16
