"""The trials go to Ray Tune in their order, each once."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


def test_tune_is_handed_each_config_once_in_order_and_then_told_that_it_is_all(tmp_path):
    from ray.tune.search import Searcher

    from bias_transfer.sweep.search import InOrder

    configs = [{"trial": {"id": f"id{number}"}} for number in range(5)]
    search = InOrder(iter(configs))
    handed = []
    while (config := search.suggest(f"t{len(handed)}")) != Searcher.FINISHED:
        handed.append(config)
        search.on_trial_complete("t0", {"state": "failed"}, error=True)
    assert handed == configs
    assert search.suggest("t9") == Searcher.FINISHED
    search.save_to_dir(str(tmp_path), "now")
