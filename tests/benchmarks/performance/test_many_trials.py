"""Trials that share a device give the same bits, and each is counted once."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from benchmarks.performance import many_trials
from benchmarks.performance.many_trials import line, shared
from bias_transfer.errors import UserError
from bias_transfer.spec import Trial

pytestmark = pytest.mark.long


def test_two_processes_share_the_seeds_and_give_the_same_bits_as_one():
    trial = Trial(task="wiki", data="synthetic", learning_rate=1e-3, max_tokens=16)
    one, two = (shared(trial, "tiny", count, 2, 32) for count in (1, 2))
    assert [len(work) for work in (one, two)] == [1, 2]
    bits = {seed: digest for work in two for seed, digest in work.bits.items()}
    assert bits == one[0].bits
    assert len({*bits.values()}) == 2  # two seeds
    assert all(work.ended > work.began for work in (*one, *two))
    assert max(work.began for work in two) < min(work.ended for work in two)  # at the same time


def test_an_error_in_a_process_is_one_paragraph():
    with pytest.raises(UserError, match="of 2 processes failed, first: UserError: "):
        shared(Trial(task="wiki", data="no/such/folder"), "tiny", 2, 2, 8)


def test_the_death_of_a_killed_process_is_noticed():
    def kill() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.05)
        children[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UserError, match="of 2 processes failed, first: it was killed"):
        shared(Trial(task="wiki", data="synthetic", learning_rate=1e-3, max_tokens=16), "tiny", 2, 2, 32)
    killer.join()


def test_a_row_counts_the_trials_with_the_bits_of_the_first_row():
    row = line("tiny", 2, 4, 3.0, 100.0, {0: "a", 1: "b", 2: "x", 3: "d"}, 6.0, {0: "a", 1: "b", 2: "c", 3: "d"})
    assert row == "| tiny | 2 | 4 | 3.0 | 80.0 | 2.00x | 100 | 3 of 4 |"
    assert len(row.split("|")) == len(many_trials.heading(32, "bf16").splitlines()[-1].split("|"))
