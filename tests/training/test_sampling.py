"""Pairing of batches: an arm shares each batch with the untouched arm, less what it removed and with what it added."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bias_transfer.hashing import derive_seed
from bias_transfer.interventions.registry import DOWNSTREAM
from bias_transfer.memory import load_splits
from bias_transfer.pipeline import tokenise, treat_data
from bias_transfer.resolved import resolve
from bias_transfer.spec import parse_trial
from bias_transfer.tasks.registry import TASKS
from bias_transfer.training.sampling import Untreated, paired_batches, train_batches

RICH = Path(__file__).parents[3] / "shared" / "data" / "wiki_rich"

ADDED = Path(__file__).parents[3] / "shared" / "data" / "wiki" / "dixon_added_nontoxic.csv"

EPOCHS, SIZE = 2, 32


def words(texts) -> list[list[int]]:
    """A token per word: the order of batches needs lengths alone."""
    return [[0] * len(text.split()) for text in texts]


def batches(**fields) -> list[list[set[str]]]:
    """Per epoch the ids of each batch that fine-tuning sees."""
    resolved = resolve(parse_trial({"batch_size": SIZE, **fields}))
    splits = load_splits(resolved)
    data = tokenise(resolved, splits, treat_data(resolved, splits.train), words, words)
    per_epoch = -(-len(splits.train) // SIZE)
    order = paired_batches(data.untreated, data.ids, SIZE, derive_seed(0, "order"))
    return [[{data.ids[place] for place in batch} for batch in islice(order, per_epoch)] for _ in range(EPOCHS)]


def in_common(one: list[list[set[str]]], other: list[list[set[str]]]) -> list[float]:
    """Per epoch the mean over steps of the share of a batch's examples, in either arm, that both arms have."""
    return [
        fmean(len(mine & theirs) / len(mine | theirs) for mine, theirs in zip(*pair, strict=True))
        for pair in zip(one, other, strict=True)
    ]


SMALL = {"wiki": {"data.size": 1500}, "bios": {"data.size": 1400}}
ARMS = [
    {"task": task, "downstream": name, **options}
    for name, by_task in DOWNSTREAM.items()
    for task in by_task
    for options in [{}, *([{"downstream.method": "oversample"}] if (name, task) == ("rebalance", "bios") else [])]
    if name != "none"
]


@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_no_arm_is_nearer_to_the_untouched_one_than_its_control(arm):
    """The share is that of the whole sets, in every epoch, up to the sizes of batches."""
    fields = {**SMALL[arm["task"]], "downstream_dose": 0.3, **arm}
    untouched = batches(**{**SMALL[arm["task"]], "task": arm["task"]})
    sets = [{name for batch in epoch for name in batch} for epoch in (untouched[0], batches(**fields)[0])]
    expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    for control in (False, True):
        shares = in_common(untouched, batches(**fields, **{"downstream.control": control}))
        assert shares == pytest.approx([expected] * EPOCHS, abs=0.02)


def test_every_arm_is_tried():
    assert {(arm["task"], arm["downstream"]) for arm in ARMS} >= {
        (task, name) for task in TASKS for name in ("scrub", "rebalance")
    }


@pytest.mark.skipif(not RICH.is_dir(), reason=f"{RICH} is not there")
@pytest.mark.parametrize(
    "arm", [{"downstream": "scrub", "downstream_dose": 0.05}, {"downstream": "rebalance"}], ids=str
)
def test_on_real_comments_an_arm_shares_most_of_each_batch(arm):
    fields, untouched = {"data": str(RICH), **arm}, batches(data=str(RICH))
    shares, control = (
        in_common(untouched, batches(**fields, **{"downstream.control": control})) for control in (False, True)
    )
    assert min(shares) > 0.95
    assert shares == pytest.approx(control, abs=0.005)


@pytest.mark.skipif(not (RICH.is_dir() and ADDED.is_file()), reason=f"{RICH} or {ADDED} is not there")
def test_comments_that_are_added_leave_the_others_where_they_were():
    added = batches(data=str(RICH), downstream="rebalance", **{"downstream.file": str(ADDED)})
    for mine, theirs in zip(batches(data=str(RICH)), added, strict=True):
        assert all(one <= other for one, other in zip(mine, theirs, strict=True))
        assert sum(map(len, theirs)) > sum(map(len, mine))


NAMES = st.lists(st.sampled_from([f"{number}" for number in range(60)]), unique=True, min_size=1)


@given(NAMES, NAMES, st.integers(1, 9), st.integers(0, 12))
def test_every_example_is_seen_once_per_epoch_wherever_training_resumes(before, after, size, skip):
    """Of any untreated set and any treated one. A batch of which the arm left nothing has one example that is seen again."""
    untreated, per_epoch = Untreated(before, [len(name) for name in before]), -(-len(before) // size)
    drawn = [*islice(paired_batches(untreated, after, size, 3), 3 * per_epoch + skip)]
    assert [*islice(paired_batches(untreated, after, size, 3, skip), 3 * per_epoch)] == drawn[skip:]
    plain = [*islice(train_batches(before, untreated.lengths, size, 3), 3 * per_epoch)]
    for start in range(0, 3 * per_epoch, per_epoch):
        left = [{before[place] for place in batch} & {*after} for batch in plain[start : start + per_epoch]]
        seen = [[after[place] for place in batch] for batch in drawn[start : start + per_epoch]]
        assert all(batch and remaining <= {*batch} for batch, remaining in zip(seen, left, strict=True))
        assert {name for batch in seen for name in batch} == {*after}
        assert 0 <= sum(map(len, seen)) - len(after) <= left.count(set())


def test_the_untouched_arm_has_the_untreated_batches():
    names, lengths = [str(number) for number in range(50)], [number % 7 for number in range(50)]
    paired = islice(paired_batches(Untreated(names, lengths), names, 8, 3), 20)
    assert [*paired] == [*islice(train_batches(names, lengths, 8, 3), 20)]


def test_two_examples_of_one_id_are_both_seen():
    """A file may name an example as an arm names the copies that it adds."""
    order = paired_batches(Untreated(["a", "a#2"], [1, 1]), ["a", "a#2", "a#2"], 2, 0)
    assert sorted(next(order)) == [0, 1, 2]
