"""One sweep compares the adaptations of a causal model: full, LoRA, frozen and prompt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bias_transfer.tracking import sweeps

CONFIG = """
defaults:
  task: bios
  data: {name: synthetic, size: 280, test_size: 560, pretraining_sentences: 300}
  model: {name: tiny, kind: causal, steps: 5, width: 16, layers: 1, vocabulary: 1200}
  epochs: 0.2
  max_tokens: 24
grid:
  - tuning: [full, lora, frozen, prompt]
"""

ADAPTATIONS = ["full", "lora(alpha=16,dropout=0.0,rank=8)", "frozen", "prompt(chat=auto,shot_tokens=64,shots=2)"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("adaptations")
    (folder / "compared.yaml").write_text(CONFIG)
    own = {"BIAS_TRANSFER_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0"}
    environment = {**{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}, **own}
    command = [sys.executable, "-m", "bias_transfer.sweep", "compared.yaml", "--keep-models"]
    return folder, subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def test_every_adaptation_runs_and_the_upstream_bias_is_one(swept):
    folder, ended = swept
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 done, 0 running, 0 failed of 4" in ended.stderr
    assert "A trial with tuning: prompt trains nothing" in ended.stdout
    assert "Kept models: 3 of 3 finished trials" in ended.stdout
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    found = sweeps.read("compared", uri=uri)
    rows = sweeps.measures(found, uri)
    assert rows["trial"].nunique() == 4
    scores = rows[rows["metric"] == "pronoun_score"].groupby(["group", "template"])["value"]
    assert set(scores.size()) == {4}
    assert set(scores.nunique()) == {1}
    assert rows.loc[rows["metric"] == "roc_auc", "value"].nunique() == 4


def test_the_report_gives_slope_and_level_of_each(swept):
    folder, _ = swept
    report = (folder / "results" / "compared" / "report.md").read_text(encoding="utf-8")
    assert "Adaptations: slope and level" in report
    table = pd.read_csv(folder / "results" / "compared" / "adaptations.csv")
    assert sorted(table["adaptation"]) == sorted(ADAPTATIONS)
    assert table["level"].notna().all()
    for name, sentence in zip(table["adaptation"], table["sentence"], strict=True):
        assert sentence.startswith(name)
        assert sentence in report
