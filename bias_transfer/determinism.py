"""What makes a computation repeatable: seeded generators, a fixed number of threads, deterministic kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

WORKSPACE_VARIABLE, WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
"""The environment variable without which cuBLAS is not deterministic, and the value that it gets if it is not set."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's global generators at `seed`, and put them back afterwards: for library code that draws from them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Run torch, and the BLAS of NumPy and SciPy, with that many threads, and put the numbers back afterwards.

    A BLAS takes as many threads as the machine has cores if nothing is said, and a sum that is split otherwise has other bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def deterministic(device: str) -> Iterator[None]:
    """On a GPU, kernels that give the same bits every time; on a CPU equal threads do.

    An operation that has no such kernel raises RuntimeError. With torch's `warn_only` it would only be warned of, and so would
    the backward passes of flash and memory-efficient attention, which have a deterministic form that is taken without it.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault(WORKSPACE_VARIABLE, WORKSPACE)
    torch.use_deterministic_algorithms(device != "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
