"""The id of every trial of every config in the repository: no change of code moves one by accident.

An id names a trial's results in every user's MLflow. If ids move, finished trials run again, so they may move only when the
numbers do (NUMERICS was raised) or when a config was changed on purpose. Then regenerate the table, with the reason:

    python tests/test_ids.py --because "NUMERICS 5: the order of batches"
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from unittest import mock

from bias_transfer.config import grid
from bias_transfer.models import gguf, hub
from bias_transfer.resolved import resolve
from bias_transfer.spec import NUMERICS

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("ids.json")


def commit(name: str, kind: str) -> str:
    """In place of the commit of a hub id, which cannot be asked for offline."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def ids() -> dict[str, list[str]]:
    """Config -> the ids of its trials, in their order."""
    configs = sorted([*(ROOT / "tune_configs").glob("*.yaml"), *(ROOT / "examples").glob("*/sweep.yaml")])
    # Without `PACKAGED` the name smollm2 is a hub id like others: the package need not be here.
    with mock.patch.object(hub, "revision", commit), mock.patch.dict(gguf.PACKAGED, clear=True):
        return {
            str(path.relative_to(ROOT)): [resolve(trial).id for trial in grid.load(path).trials] for path in configs
        }


def test_ids_are_those_of_the_table(monkeypatch):
    monkeypatch.chdir(ROOT)
    table = json.loads(TABLE.read_text())
    assert table["numerics"] == NUMERICS
    assert sum(map(len, table["ids"].values())) > 700
    found = ids()
    assert found.keys() == table["ids"].keys()
    for name, expected in table["ids"].items():
        assert found[name] == expected, f"ids of {name} moved: {__doc__}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--because", required=True, help="why the ids may move; it is stored with the table")
    reason = parser.parse_args().because
    TABLE.write_text(json.dumps({"numerics": NUMERICS, "because": reason, "ids": ids()}, indent=1) + "\n")
    print(f"{TABLE.name}: {reason}")
