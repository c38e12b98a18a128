"""The order of rows, single samples into batches, and what every batch looks like."""

import gc
import itertools
import re

import numpy as np
import pytest
import torch

from hamdist.errors import StreamError
from hamdist.streams import Iterable, Signals, TorchDataset
from hamdist.streams.row_order import RowOrder, in_turn
from hamdist.streams.stream import make_batch


def presented(order):
    return np.concatenate(list(order.batches()))


def test_one_pass_without_shuffling_is_every_row_in_turn():
    order = RowOrder(rows=7, batch_size=3, samples=None, shuffle=False, seed=0)
    assert [batch.tolist() for batch in order.batches()] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("batch_size", [1, 4, 5, 7, 20, 100])
def test_every_epoch_presents_every_row_once_and_only_the_last_batch_is_short(batch_size):
    order = RowOrder(rows=7, batch_size=batch_size, samples=24, shuffle=True, seed=3)
    rows = presented(order)
    assert len(rows) == order.presented == 24
    for epoch in range(3):
        assert sorted(rows[7 * epoch : 7 * epoch + 7]) == list(range(7))
    sizes = [len(batch) for batch in order.batches()]
    assert set(sizes[:-1]) <= {batch_size}
    assert sizes[-1] == 24 - batch_size * (len(sizes) - 1)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    rows = presented(RowOrder(50, 4, 150, True, seed=1)).reshape(3, 50)
    assert np.array_equal(rows.ravel(), presented(RowOrder(50, 7, 150, True, seed=1)))
    assert not np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[1], rows[2])
    assert not np.array_equal(rows.ravel(), presented(RowOrder(50, 4, 150, True, seed=2)))


def test_fewer_samples_than_rows_are_the_beginning_of_the_first_epoch():
    whole = presented(RowOrder(50, 4, None, True, seed=1))
    assert np.array_equal(presented(RowOrder(50, 4, 9, True, seed=1)), whole[:9])


def test_no_rows_are_no_batches():
    assert list(RowOrder(0, 4, 100, True, 0).batches()) == []


def test_a_hold_out_is_in_turn():
    assert [batch.tolist() for batch in in_turn(5, 10, 3)] == [[5, 6, 7], [8, 9]]


def test_all_wrong_counts_are_reported_at_once():
    with pytest.raises(StreamError) as caught:
        RowOrder(5, batch_size=0, samples=-1, shuffle=True, seed=-2)
    assert str(caught.value).splitlines() == [
        "batch_size: must be a whole number of at least 1, not 0",
        "samples: must be a whole number of at least 1, not -1",
        "seed: must be a whole number of at least 0, not -2",
    ]


@pytest.mark.parametrize("batch_size", [True, 2.0, "2"])
def test_a_count_is_a_whole_number(batch_size):
    with pytest.raises(StreamError, match=re.escape(f"at least 1, not {batch_size!r}")):
        RowOrder(5, batch_size, None, True, 0)


@pytest.mark.parametrize(
    ("values", "shape", "dtype"),
    [
        (torch.zeros(3, 2, dtype=torch.float32), (3, 2), torch.float64),
        (torch.zeros(3, dtype=torch.float16), (3, 1), torch.float64),
        (torch.zeros(3, 2, dtype=torch.bool), (3, 2), torch.float64),
        (torch.zeros(3, 2, dtype=torch.int32), (3, 2), torch.int32),
        (torch.zeros(3, dtype=torch.uint8), (3,), torch.uint8),
    ],
)
def test_inputs_by_convention(values, shape, dtype):
    inputs = make_batch(values, None, torch.float64).inputs
    assert (tuple(inputs.shape), inputs.dtype) == (shape, dtype)


@pytest.mark.parametrize(
    ("values", "shape", "dtype"),
    [
        (torch.zeros(3), (3, 1), torch.float64),
        (torch.zeros(3, 2), (3, 2), torch.float64),
        (torch.zeros(3, dtype=torch.uint8), (3,), torch.int64),
        (torch.zeros(3, dtype=torch.bool), (3,), torch.int64),
        (torch.zeros(3, 4, dtype=torch.int32), (3, 4), torch.int64),
    ],
)
def test_targets_by_convention(values, shape, dtype):
    targets = make_batch(torch.zeros(3, 1), values, torch.float64).targets
    assert (tuple(targets.shape), targets.dtype) == (shape, dtype)


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return ((torch.randn(5), number % 3) for number in itertools.count())


def live_tensors():
    gc.collect()
    return sum(type(found) is torch.Tensor for found in gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize(
    "stream",
    [
        Iterable(lambda: ((np.full(4, n), n % 2) for n in itertools.count()), batch_size=3),
        TorchDataset(Endless(), batch_size=3),
        TorchDataset([(torch.ones(2), 1)] * 10, batch_size=3, samples=10_000),
        Signals("smoHfHa", batch_size=3),
    ],
    ids=["iterable", "IterableDataset", "Dataset", "signals"],
)
def test_memory_does_not_grow_with_the_stream(stream):
    batches = iter(stream)
    for _ in itertools.islice(batches, 10):
        pass
    early = live_tensors()
    for _ in itertools.islice(batches, 1000):
        pass
    assert live_tensors() <= early


def test_no_sample_is_taken_before_its_batch_is_asked_for():
    taken = []
    source = (taken.append(number) or (float(number), 0) for number in itertools.count())
    batches = iter(Iterable(source, batch_size=4))
    assert taken == []
    for batch in (1, 2, 3):
        next(batches)
        assert taken == list(range(4 * batch))
