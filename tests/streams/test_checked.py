"""The guard around a stream: what passes, and what is found."""

import math
import re

import pytest
import torch

from hamdist.errors import StreamError
from hamdist.streams import Batch, Checked, Stream
from hamdist.streams.missing import REMEDY


class Given(Stream):
    """The batches given, each of inputs and targets."""

    def __init__(self, *batches, samples=None, holdout=None):
        self.batches, self.samples, self.held_out, self.classes = batches, samples, holdout, 3

    def __iter__(self):
        return (Batch(*batch) for batch in self.batches)

    def holdout(self):
        return None if self.held_out is None else (Batch(*batch) for batch in self.held_out)


X, Y = torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 2, 0])
GOOD = (X, Y)


def refused(message, *batches, **promises):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        list(Checked(Given(*batches, **promises)))


def test_a_good_stream_passes_unchanged():
    given = Given(GOOD, GOOD, (X[:1], Y[:1]), samples=9, holdout=[(X[:3], Y[:3])])
    stream = Checked(given)
    for found, expected in zip(stream, given.batches, strict=True):
        assert found.inputs is expected[0]
        assert found.targets is expected[1]
    ((held_out, *_),) = stream.holdout()
    assert torch.equal(held_out, X[:3])
    assert (stream.samples, stream.classes) == (9, 3)
    assert Checked(Given(GOOD)).holdout() is None


def test_an_empty_stream():
    refused("the stream is empty; expected one sample at least")
    refused("the stream is empty; expected one sample at least", samples=10)


def test_a_stream_that_ends_early():
    assert len(list(Checked(Given(GOOD, GOOD, samples=9)))) == 2


def test_batches_before_the_end_are_handed_out_first():
    batches = iter(Checked(Given(GOOD, (X, None))))
    next(batches)
    with pytest.raises(StreamError):
        next(batches)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            (torch.zeros(4, 3), Y),
            "sample 4: the input has shape (3,) and float32, where it had shape (2,) and float32 before",
        ),
        (
            (X.double(), Y),
            "sample 4: the input has shape (2,) and float64, where it had shape (2,) and float32 before",
        ),
        (
            (X, torch.zeros(4, 1)),
            "sample 4: the target has shape (1,) and float32, where it had shape () and int64 before",
        ),
        ((X, None), f"sample 4 has no target, where the samples before had one; {REMEDY}"),
        ((X, Y[:3]), "sample 4: a batch of 4 rows of inputs and 3 of targets; expected as many of either"),
    ],
)
def test_a_form_that_changes(batch, message):
    refused(message, GOOD, batch)


def test_a_target_that_turns_up():
    refused("sample 4 has a target, where the samples before had none", (X, None), GOOD)


def spoilt(values, index, value):
    values = values.clone()
    values[index] = value
    return values


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite(value):
    refused(
        f"sample 6: feature 1 of the input is {value}; expected finite numbers",
        *(GOOD, (spoilt(X, (2, 1), value), Y)),
    )
    images = torch.zeros(2, 1, 3, 3)
    refused(
        f"sample 1: feature (0, 2, 1) of the input is {value}; expected finite numbers",
        (spoilt(images, (1, 0, 2, 1), value), None),
    )
    refused(
        f"sample 3: feature 0 of the target is {value}; expected finite numbers",
        (X, spoilt(torch.zeros(4, 2), (3, 0), value)),
    )


def test_the_largest_finite_numbers_pass():
    largest = torch.full((2, 3), torch.finfo(torch.float32).max)
    assert len(list(Checked(Given((largest, -largest))))) == 1


def test_a_hold_out_is_checked_too():
    stream = Checked(Given(GOOD, holdout=[GOOD, (spoilt(X, (0, 0), math.nan), Y)]))
    message = "hold-out sample 4: feature 0 of the input is nan; expected finite numbers"
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        list(stream.holdout())


def test_batches_of_other_sizes():
    ending = "where the first one had 4; only the last batch may be shorter (drop_last=True in a DataLoader)"
    refused(f"sample 7: a batch of 3 {ending}", GOOD, (X[:3], Y[:3]), GOOD)
    refused(f"sample 4: a batch of 8 {ending}", GOOD, (X.repeat(2, 1), Y.repeat(2)))
