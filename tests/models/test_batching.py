"""The order of examples, and how they are cut into padded batches."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bias_transfer.models.batching import encode, length_batches, pad, treated_rows
from bias_transfer.training.sampling import CHUNK, shuffled, train_batches

NAMES = st.lists(st.text(max_size=6), unique=True, min_size=1, max_size=60)
LENGTHS = st.lists(st.integers(1, 200), max_size=80)


@given(NAMES, st.integers(0, 2**62), st.integers(0, 9))
def test_an_order_holds_every_example_once(names, seed, epoch):
    assert sorted(shuffled(names, seed, epoch)) == [*range(len(names))]


@given(NAMES, st.integers(0, 2**62), st.data())
def test_removing_examples_leaves_the_order_of_the_others(names, seed, data):
    """Arms that remove examples stay paired with those that do not."""
    remaining = [name for name in names if data.draw(st.booleans(), label=name)]
    whole = [names[index] for index in shuffled(names, seed, 3) if names[index] in set(remaining)]
    assert [remaining[index] for index in shuffled(remaining, seed, 3)] == whole


@given(NAMES, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_given(names, random):
    moved = random.sample(names, len(names))
    assert [moved[index] for index in shuffled(moved, 0, 0)] == [names[index] for index in shuffled(names, 0, 0)]


def test_seeds_and_epochs_give_other_orders():
    names = [str(number) for number in range(100)]
    orders = [shuffled(names, seed, epoch) for seed in range(4) for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 16
    assert all(order != sorted(order) for order in orders)


def drawn(count: int, size: int, batches: int, seed: int = 0) -> list[list[int]]:
    lengths = [(7 * index) % 50 + 1 for index in range(count)]
    return [*islice(train_batches([str(index) for index in range(count)], lengths, size, seed), batches)]


SIZES = [(40, 8), (200, 32), (500, 8), (1000, 3), (5, 8), (401, 8), (1, 1)]


@pytest.mark.parametrize(("count", "size"), SIZES)
def test_an_epoch_holds_every_example_once(count, size):
    """Small sets too: a chunk that spanned epochs would put an example next to itself."""
    per_epoch = -(-count // size)
    batches = drawn(count, size, 3 * per_epoch)
    for epoch in range(3):
        epoch_batches = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(index for batch in epoch_batches for index in batch) == [*range(count)]


@pytest.mark.parametrize(("count", "size"), SIZES)
def test_all_batches_of_an_epoch_but_one_are_full(count, size):
    short = [len(batch) for batch in drawn(count, size, -(-count // size)) if len(batch) != size]
    assert short == ([count % size] if count % size else [])


def test_batches_depend_on_the_seed_alone():
    assert drawn(300, 4, 80) == drawn(300, 4, 80)
    assert drawn(300, 4, 80) != drawn(300, 4, 80, seed=1)


def test_batches_are_of_similar_length_and_in_no_order_of_length():
    count, size = CHUNK * 8, 8
    lengths = [index + 1 for index in range(count)]
    batches = [*islice(train_batches([str(index) for index in range(count)], lengths, size, 0), CHUNK)]
    spans = [max(lengths[index] for index in batch) - min(lengths[index] for index in batch) for batch in batches]
    assert max(spans) < size
    firsts = [batch[0] for batch in batches]
    assert firsts not in (sorted(firsts), sorted(firsts, reverse=True))


def test_each_epoch_and_seed_has_its_own_order_of_lengths():
    """Else short and long batches would come at the same steps of every epoch."""
    count, size = CHUNK * 4, 4
    lengths = [index + 1 for index in range(count)]

    def order(seed: int) -> list[int]:
        batches = islice(train_batches([str(index) for index in range(count)], lengths, size, seed), 2 * CHUNK)
        return [batch[0] // size for batch in batches]

    first, other = order(0), order(1)
    assert first[:CHUNK] != first[CHUNK:]
    assert first[:CHUNK] != other[:CHUNK]


@given(LENGTHS, st.integers(1, 500))
def test_length_batches_hold_every_row_once_within_the_budget(lengths, tokens):
    batches = [*length_batches(lengths, tokens)]
    assert sorted(index for batch in batches for index in batch) == [*range(len(lengths))]
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= tokens


@given(LENGTHS, st.integers(1, 500))
def test_length_batches_are_as_large_as_the_budget_allows(lengths, tokens):
    batches = [*length_batches(lengths, tokens)]
    for batch, following in zip(batches, batches[1:], strict=False):
        assert (len(batch) + 1) * lengths[following[0]] > tokens


@given(st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=20), min_size=1, max_size=9), st.integers(0, 300))
def test_padding(rows, padding):
    batch = pad(rows, padding)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert ids.shape == mask.shape == (len(rows), max(map(len, rows)))
    assert ids.dtype == mask.dtype == torch.int64
    assert [row[attended == 1].tolist() for row, attended in zip(ids, mask, strict=True)] == rows
    assert bool((ids[mask == 0] == padding).all())


def test_encoded_texts_are_cut_and_keep_their_special_tokens(tokenizer):
    short, long = encode(tokenizer, ["the cat", "the cat " * 50], 8)
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert (short[0], short[-1], long[0], long[-1], len(long)) == (start, end, start, end, 8)
    assert len(short) < 8
    assert encode(tokenizer, [], 8) == []


@pytest.mark.parametrize("examples", [1, 8, 41])
def test_skipping_batches_leaves_the_others(examples):
    """Over the border of an epoch and onto it."""
    names, lengths = [str(number) for number in range(examples)], [number % 7 for number in range(examples)]
    whole = [*islice(train_batches(names, lengths, 8, 3), 20)]
    for skip in range(20):
        assert [*islice(train_batches(names, lengths, 8, 3, skip), 20 - skip)] == whole[skip:]


def test_token_ids_are_the_tokenizers_and_only_new_texts_are_encoded(tokenizer, sentences):
    encoded = list[str]()

    def fresh(texts):
        encoded.extend(texts)
        return encode(tokenizer, texts, 8)

    rows = encode(tokenizer, sentences, 8)
    new = "a new text about the old man and his cat"
    treated = [sentences[3], new, *sentences[:2], sentences[3], new]
    assert treated_rows(treated, sentences, rows, fresh) == encode(tokenizer, treated, 8)
    assert encoded == [new]
    assert treated_rows([], sentences, rows, fresh) == []
