"""Shares are counted by the decimal that was written."""

from __future__ import annotations

import math

import pytest

from bias_transfer import rounding
from bias_transfer.spec import Trial
from bias_transfer.training import finetune, optimizer


def test_steps_are_those_of_the_decimal():
    """In binary 1.1 x 100 is 110.00000000000001, which is 111 when it is rounded up."""
    for tenths in range(1, 100):
        for tens in (1, 3, 10):
            steps = finetune.steps(Trial(epochs=tenths / 10, batch_size=32), 320 * tens)
            assert steps == tenths * tens, (tenths, tens)
    assert finetune.steps(Trial(epochs=1.1), 319) == 11 == finetune.steps(Trial(epochs=1.01), 320)
    assert finetune.steps(Trial(epochs=1e-9), 320) == 1


@pytest.mark.parametrize(("share", "count", "expected"), [(0.145, 100, 14), (0.07, 50, 4), (0.29, 50, 14), (0.5, 5, 2)])
def test_a_half_goes_to_the_even_number_and_binary_fractions_make_no_difference(share, count, expected):
    assert rounding.part(share, count) == expected


def test_a_share_and_its_complement_are_rounded_alike():
    """.35 x 90 is 31.499999999999996 in binary: 31, where the decimal's half goes to 32."""
    assert round(0.35 * 90) == 31
    assert rounding.part(0.35, 90) == 32
    assert math.isclose(rounding.part(1 / 3, 3), 1)


def test_the_rise_of_the_learning_rate_takes_the_share_that_was_written():
    import torch

    adam = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = optimizer.schedule(adam, 90, 0.35)
    rates = []
    for _ in range(90):
        rates.append(schedule.get_last_lr()[0])
        adam.step()
        schedule.step()
    assert rates.index(1.0) == 31  # the 32nd step
