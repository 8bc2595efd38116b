"""Names on the hub, without a network: from the local cache, in the hub's own layout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CODE = """
from bias_transfer import models
commit = models.identify("someone/small")
model = models.load(*models.located("someone/small", commit), labels=2, seed=0)
print(commit, model.family)
try:
    models.identify("someone/smal")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_cached_model_is_pinned_to_its_commit_and_loads_offline(checkpoint, tmp_path):
    folder = tmp_path / "models--someone--small"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    shutil.copytree(checkpoint("distilbert"), folder / "snapshots" / COMMIT)
    own = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env={**os.environ, **own}, capture_output=True, text=True, check=True
    )
    found, refused = done.stdout.splitlines()
    assert found == f"{COMMIT} distilbert"
    assert refused.startswith("NotReachedError unknown model 'someone/smal'. Did you mean 'someone/small'?")
    assert "the hub was not reached" in refused
