"""The trials of a sweep, handed to Ray Tune one by one.

A grid of Tune's own is copied whole for each of its trials: at 10,000 trials that took longer than running them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from ray.tune.search import Searcher


class InOrder(Searcher):
    """The configs in their order, each once."""

    def __init__(self, configs: Iterable[dict[str, Any]]) -> None:
        super().__init__()
        self._left = deque(configs)

    def suggest(self, trial_id: str) -> Any:
        """The next config."""
        return self._left.popleft() if self._left else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: the order does not depend on results."""

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: finished trials are looked up in MLflow."""
