"""The `bias-transfer` command: every command of the project under one name.

Sub-commands import torch, Ray and MLflow inside their functions, so that --help answers at once.
"""

from __future__ import annotations

from analysis.__main__ import main as analyse
from bias_transfer.commands import convert, export, inspect, predict, pretrain, published, runs, status, sync, trial
from bias_transfer.console import application
from bias_transfer.sweep.__main__ import main as sweep

app = application(
    help="Test whether biases of a pre-trained language model become harm after fine-tuning. Start with `sweep`.",
    sweep=sweep,
    trial=trial.main,
    inspect=inspect.main,
    analyse=analyse,
    status=status.main,
    sync=sync.main,
    pretrain=pretrain.main,
    convert=convert.main,
    predict=predict.main,
    export=export.main,
    published=published.main,
)
app.add_typer(runs.app, name="runs")

if __name__ == "__main__":
    app()
