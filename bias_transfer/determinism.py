"""What makes a computation repeatable: seeded generators, a fixed number of threads, deterministic kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generators at `seed`, and put them back afterwards: for library code that draws from them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Run torch with that many threads, and put the number back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """On a GPU, kernels that give the same bits every time; on a processor equal threads do."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    torch.use_deterministic_algorithms(device != "cpu", warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
