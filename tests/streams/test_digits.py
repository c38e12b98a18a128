"""Digits, against scikit-learn's own arrays."""

import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from hamdist.errors import StreamError
from hamdist.streams import Digits, digits

F64 = torch.float64


def collect(batches):
    inputs, targets, *_ = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def images(inputs, targets):
    """Images with their classes as bytes, to compare sets of them with multiplicity."""
    pixels = inputs.reshape(-1, 64).numpy()
    return sorted((row.tobytes(), int(label)) for row, label in zip(pixels, targets, strict=True))


def test_what_comes_with_hamdist_is_bit_for_bit_what_scikit_learn_has():
    for ours, theirs in zip(digits.load_digits(), load_digits(return_X_y=True), strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


def test_stream_and_hold_out_are_together_all_digits_scaled():
    stream = Digits(batch_size=50, dtype=F64)
    streamed, held_out = collect(stream), collect(stream.holdout())
    pixels, labels = load_digits(return_X_y=True)
    assert (len(streamed[0]), len(held_out[0])) == (stream.samples, 359) == (1438, 359)
    together = sorted(images(*streamed) + images(*held_out))
    assert together == images(
        torch.from_numpy((pixels - 4.884) / 6.017), labels
    )  # the same operations: exact
    assert abs(pixels.mean() - 4.884) < 1e-3
    assert abs(pixels.std() - 6.017) < 1e-3


def test_shapes_and_dtypes():
    flat, square = next(iter(Digits(batch_size=8))), next(iter(Digits(batch_size=8, flat=False)))
    assert flat.inputs.shape == (8, 64)
    assert (flat.inputs.dtype, flat.targets.dtype) == (torch.float32, torch.int64)
    assert torch.equal(square.inputs, flat.inputs.reshape(8, 1, 8, 8))
    assert Digits.classes == 10


def test_the_seed_decides_what_is_held_out_and_in_which_order_the_rest_comes():
    one, other = Digits(seed=1), Digits(seed=2)
    assert images(*collect(one.holdout())) != images(*collect(other.holdout()))
    assert torch.equal(collect(one.holdout())[0], collect(Digits(seed=1).holdout())[0])
    assert torch.equal(collect(one)[0], collect(Digits(seed=1))[0])
    assert not torch.equal(collect(one)[0], collect(other)[0])


def test_held_out_digits_are_never_presented_however_long_the_stream():
    stream = Digits(batch_size=100, samples=5000, holdout=0.5)
    streamed = collect(stream)
    assert len(streamed[0]) == 5000
    held_out = {image for image, _ in images(*collect(stream.holdout()))}
    assert held_out.isdisjoint(image for image, _ in images(*streamed))


def test_every_iteration_starts_again():
    stream = Digits(samples=3000)
    assert torch.equal(collect(stream)[0], collect(stream)[0])


def test_without_shuffling_epochs_repeat():
    inputs, _ = collect(Digits(shuffle=False, samples=2 * 1438))
    assert torch.equal(inputs[:1438], inputs[1438:])


def test_no_hold_out():
    stream = Digits(holdout=0)
    assert stream.holdout() is None
    assert stream.samples == 1797


@pytest.mark.parametrize("holdout", [-0.1, 1, 1.5])
def test_a_hold_out_is_a_fraction(holdout):
    message = f"holdout: must be a fraction of at least 0 and below 1, not {holdout}"
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        Digits(holdout=holdout)


def test_classes_match_scikit_learns_label_of_the_same_image():
    pixels, labels = load_digits(return_X_y=True)
    label_of = {row.tobytes(): label for row, label in zip(pixels, labels, strict=True)}
    inputs, targets = collect(Digits(dtype=F64))
    restored = np.round(inputs.numpy() * 6.017 + 4.884) + 0.0  # no negative zeros
    assert [label_of[row.tobytes()] for row in restored] == targets.tolist()
