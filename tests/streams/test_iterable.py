"""Samples from Python objects, against numpy's reading of the same objects."""

import itertools
import re

import numpy as np
import pytest
import torch

from hamdist.errors import StreamError
from hamdist.streams import Iterable
from hamdist.streams.missing import REMEDY

F64 = torch.float64
PAIRS = [([float(n), n + 0.5], n % 3) for n in range(7)]


def count_up(start=0, stop=5):
    return ((float(n), n) for n in range(start, stop))


def only(item, dtype=F64):
    (batch,) = Iterable([item], dtype=dtype)
    return batch


def test_pairs_in_batches():
    stream = Iterable(PAIRS, batch_size=3, dtype=F64)
    assert [len(batch.inputs) for batch in stream] == [3, 3, 1]
    inputs, targets = (torch.cat(parts) for parts in list(zip(*stream, strict=True))[:2])
    assert inputs.tolist() == [x for x, _ in PAIRS]
    assert targets.tolist() == [y for _, y in PAIRS]


@pytest.mark.parametrize("item", [([1, 2.5], 4), {"x": [1, 2.5], "y": 4}, (np.array([1, 2.5]), np.int32(4))])
def test_pairs_and_mappings_say_the_same(item):
    batch = only(item)
    assert batch.inputs.tolist() == [[1, 2.5]]
    assert batch.targets.tolist() == [4]
    assert (batch.inputs.dtype, batch.targets.dtype) == (F64, torch.int64)


@pytest.mark.parametrize(
    "item", [[1.0, 2.0], ([1.0, 2.0],), {"x": [1.0, 2.0]}, (torch.tensor([1.0, 2.0]), None)]
)
def test_x_alone(item):
    batch = only(item)
    assert batch.inputs.tolist() == [[1, 2]]
    assert batch.targets is None


@pytest.mark.parametrize(
    ("x", "shape", "dtype"),
    [
        (3, (1, 1), F64),
        (True, (1, 1), F64),
        ([1, 2], (1, 2), F64),  # numbers of Python: whole ones next to others
        ([[1, 2], [3, 4]], (1, 2, 2), F64),
        (np.array([1, 2], dtype=np.int32), (1, 2), torch.int32),
        (torch.tensor([1, 2]), (1, 2), torch.int64),
        (np.array([True, False]), (1, 2), F64),
        (np.zeros((2, 3), dtype=np.float32), (1, 2, 3), F64),
        (np.float32(2), (1, 1), F64),
    ],
)
def test_inputs(x, shape, dtype):
    inputs = only((x, 0)).inputs
    assert (tuple(inputs.shape), inputs.dtype) == (shape, dtype)
    assert inputs.ravel().tolist() == np.ravel(x).tolist()


@pytest.mark.parametrize(
    ("y", "shape", "dtype"),
    [
        (2, (1,), torch.int64),
        (False, (1,), torch.int64),
        (np.bool_(True), (1,), torch.int64),
        (np.uint8(2), (1,), torch.int64),
        (2.0, (1, 1), F64),
        ([0, 1], (1, 2), F64),
        (np.array([0, 1]), (1, 2), torch.int64),
        (torch.tensor(1.5), (1, 1), F64),
    ],
)
def test_targets(y, shape, dtype):
    targets = only((1.0, y)).targets
    assert (tuple(targets.shape), targets.dtype) == (shape, dtype)
    assert targets.ravel().tolist() == np.ravel(y).tolist()


def test_one_array_may_be_filled_again_for_every_sample():
    def reuse():
        array, tensor = np.zeros(2), torch.zeros(1)
        for number in range(4):
            array[:], tensor[:] = number, number
            yield array, tensor

    (batch,) = Iterable(reuse, batch_size=4)
    assert batch.inputs[:, 0].tolist() == batch.targets[:, 0].tolist() == [0, 1, 2, 3]


def test_tensors_that_learn_are_detached():
    assert not only((torch.ones(2, requires_grad=True), 0)).inputs.requires_grad


def test_a_function_is_called_for_every_pass():
    stream = Iterable(count_up, batch_size=5)
    assert [next(iter(stream)).targets.tolist() for _ in range(2)] == [[0, 1, 2, 3, 4]] * 2


def test_a_factory_with_arguments():
    stream = Iterable(factory=f"{__name__}:count_up", args={"start": 3}, batch_size=2)
    assert [next(iter(stream)).targets.tolist() for _ in range(2)] == [[3, 4]] * 2


def test_samples_cut_what_is_endless():
    stream = Iterable(((float(n), n) for n in itertools.count()), batch_size=2, samples=5)
    assert [batch.targets.tolist() for batch in stream] == [[0, 1], [2, 3], [4]]


def refused(message, iterable, **settings):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        list(Iterable(iterable, **settings))


def test_an_iterator_can_be_gone_through_once():
    stream = Iterable(iter(PAIRS))
    list(stream)
    message = "an iterator can be gone through once; pass a list, or a function that returns a new iterator"
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        iter(stream)


@pytest.mark.parametrize("batch_size", [1, 2, 10])
def test_a_form_that_changes_is_found_at_its_sample(batch_size):
    refused(
        "sample 7: the input has shape (3,) and float32, where it had shape (2,) and float32 before",
        [*PAIRS, ([1.0, 2.0, 3.0], 0)],
        batch_size=batch_size,
    )
    refused(
        "sample 7: the target has shape () and float32, where it had shape () and int64 before",
        [*PAIRS, ([1.0, 2.0], 0.5)],
        batch_size=batch_size,
    )
    refused(
        f"sample 7 has no target, where the samples before had one; {REMEDY}",
        [*PAIRS, [1.0, 2.0]],
        batch_size=batch_size,
    )
    refused(
        "sample 1 has a target, where the samples before had none",
        [[1.0, 2.0], *PAIRS],
        batch_size=batch_size,
    )


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (([1, "a"], 0), "sample 0: the input is [1, 'a']; expected numbers, all of one shape"),
        (([[1], [2, 3]], 0), "sample 0: the input is [[1], [2, 3]]; expected numbers, all of one shape"),
        ((None, 0), "sample 0: the input is None; expected numbers, all of one shape"),
        ((1.0, "cat"), "sample 0: the target is 'cat'; expected numbers, all of one shape"),
        ((np.array(["a"]), 0), "sample 0: the input is an array of <U1; expected numbers"),
        (
            (1, 2, False, 3),
            "sample 0: a tuple of 4; a sample is (x, y), (x, y, restart), "
            "{'x': ..., 'y': ..., 'restart': ...} or x alone",
        ),
        (
            {"x": 1, "label": 2},
            "sample 0: a mapping with the keys x, label; a sample is (x, y), (x, y, restart), "
            "{'x': ..., 'y': ..., 'restart': ...} or x alone",
        ),
    ],
)
def test_what_is_no_sample(item, message):
    refused(message, [item])


def test_what_is_no_iterable():
    refused("an object of type int is not iterable; pass an iterable or a function that returns one", 5)
    refused(
        "an object of type int is not iterable; pass an iterable or a function that returns one", lambda: 5
    )


VIEWS = {
    "flipped": lambda a: a[::-1, ::-1],
    "strided": lambda a: a[:, ::2],
    "transposed": lambda a: np.asfortranarray(a),
    "big-endian": lambda a: a.astype(">f8"),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "a column of records": lambda a: np.rec.fromarrays([a, a.astype("i1")], names="a,b")["a"],
    "long": lambda a: a.astype(np.longdouble),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("view", VIEWS)
def test_arrays_in_any_order_of_their_bytes_and_axes(view):
    array = VIEWS[view](np.random.default_rng(0).normal(size=(6, 4)))
    (batch,) = Iterable([(row, row[::-1]) for row in array], batch_size=6, dtype=F64)
    assert np.array_equal(batch.inputs.numpy(), array.astype(float))
    assert np.array_equal(batch.targets.numpy(), array[:, ::-1].astype(float))


def test_masked_arrays_and_arrays_of_objects_are_refused_with_a_remedy():
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    refused("sample 0: the input is an array with masked values; fill them: array.filled(...)", [masked])
    objects = np.array([1.0, 2.0], dtype=object)
    refused("sample 0: the input is an array of object; expected numbers; convert it with astype", [objects])
