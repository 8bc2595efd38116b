"""AdamW and the schedule of its learning rate, shared by pre-training and fine-tuning."""

from __future__ import annotations

import torch
from torch import nn

from bias_transfer import rounding


def build(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Fused AdamW over the trainable parameters. Weights of one axis, norms and biases, are not decayed; all others are."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def schedule(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear rise over the first `warmup` (a share in [0, 1)) of the steps, then linear decay towards 0."""
    rise = max(1, rounding.part(warmup, steps))

    def share(step: int) -> float:
        return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)
