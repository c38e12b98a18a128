"""PyTorch's own datasets and loaders, against what they present themselves."""

import re

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from hamdist.errors import StreamError
from hamdist.streams import Checked, TorchDataset

torch.manual_seed(0)
X = torch.randn(10, 3)
Y = torch.arange(10)


class Forward(IterableDataset):
    """X and Y in turn; a dictionary a sample."""

    def __iter__(self):
        return ({"x": x, "y": y} for x, y in zip(X, Y, strict=True))


def make_pairs(rows=10):
    return TensorDataset(X[:rows], Y[:rows])


def collect(stream):
    inputs, targets, *_ = zip(*stream, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def test_a_dataset_in_turn():
    stream = TorchDataset(make_pairs(), batch_size=4, shuffle=False)
    inputs, targets = collect(stream)
    assert torch.equal(inputs, X)
    assert torch.equal(targets, Y)
    assert [len(batch.inputs) for batch in stream] == [4, 4, 2]
    assert stream.samples == 10


def test_a_dataset_goes_round_reshuffled_with_every_sample_once_an_epoch():
    inputs, targets = collect(TorchDataset(make_pairs(), batch_size=4, samples=30, seed=2))
    assert torch.equal(inputs, X[targets])
    epochs = targets.reshape(3, 10)
    assert torch.equal(epochs.sort(1).values, Y.expand(3, 10))
    assert len(epochs.unique(dim=0)) == 3
    assert torch.equal(collect(TorchDataset(make_pairs(), batch_size=4, samples=30, seed=2))[1], targets)


def test_an_iterable_dataset_once():
    stream = TorchDataset(Forward(), batch_size=3)
    inputs, targets = collect(stream)
    assert torch.equal(inputs, X)
    assert torch.equal(targets, Y)
    assert stream.samples is None
    assert torch.equal(collect(TorchDataset(Forward(), batch_size=3, samples=7))[1], Y[:7])


def test_a_loaders_batches_are_used_as_they_are():
    generator = torch.Generator().manual_seed(4)
    loader = DataLoader(make_pairs(), batch_size=4, shuffle=True, generator=generator)
    found = list(TorchDataset(loader))
    generator.manual_seed(4)
    for batch, (inputs, targets) in zip(found, loader, strict=True):
        assert torch.equal(batch.inputs, inputs)
        assert torch.equal(batch.targets, targets)


def test_a_loader_goes_round_until_the_samples_are_presented():
    loader = DataLoader(make_pairs(), batch_size=5)
    inputs, targets = collect(Checked(TorchDataset(loader, samples=23)))
    assert targets.tolist() == (Y.tolist() * 3)[:23]
    assert torch.equal(inputs, X[targets])


def test_a_loader_of_inputs_alone_and_of_dictionaries():
    assert next(iter(TorchDataset(DataLoader(X, batch_size=4)))).targets is None
    batch = next(iter(TorchDataset(DataLoader(Forward(), batch_size=4))))
    assert torch.equal(batch.targets, Y[:4])


def test_a_loader_that_has_nothing_more_ends_the_stream():
    loader = DataLoader(TensorDataset(X[:0]), batch_size=4)
    assert list(TorchDataset(loader, samples=5)) == []


def test_floating_numbers_are_cast():
    batch = next(
        iter(TorchDataset(TensorDataset(X, X[:, 0]), batch_size=4, dtype=torch.float64, shuffle=False))
    )
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.float64, torch.float64)
    assert torch.equal(batch.targets, X[:4, :1].double())


def test_a_factory_with_arguments():
    stream = TorchDataset(factory=f"{__name__}:make_pairs", args={"rows": 6}, shuffle=False)
    assert torch.equal(collect(stream)[0], X[:6])


def refused(message, *args, **settings):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        list(Checked(TorchDataset(*args, **settings)))


def test_a_dataset_or_a_factory():
    hint = "given; pass the dataset itself, or factory: 'package.module:name'"
    refused(f"factory: neither is {hint}")
    refused(f"factory: both are {hint}", make_pairs(), factory="a:b")


def test_a_loaders_own_batch_size_stands():
    loader = DataLoader(make_pairs(), batch_size=5)
    refused(
        "batch_size: the DataLoader makes its own batches of 5, not of 16; set it to 5",
        loader,
        batch_size=16,
    )
    assert len(next(iter(TorchDataset(loader, batch_size=5))).inputs) == 5
    refused(
        "the DataLoader makes no batches (batch_size=None); pass its dataset instead",
        DataLoader(make_pairs(), batch_size=None),
    )


def test_a_loaders_short_batch_in_the_middle_is_found():
    refused(
        "sample 10: a batch of 2 where the first one had 4; only the last batch may be shorter "
        "(drop_last=True in a DataLoader)",
        DataLoader(make_pairs(), batch_size=4),
        samples=20,
    )


def test_what_is_no_sample():
    refused(
        "sample 0: a tuple of 4; a sample is (x, y), (x, y, restart), "
        "{'x': ..., 'y': ..., 'restart': ...} or x alone",
        TensorDataset(X, X, X, Y),
    )
    refused(
        "the batch at sample 0: a tuple of 4; a sample is (x, y), (x, y, restart), "
        "{'x': ..., 'y': ..., 'restart': ...} or x alone",
        DataLoader(TensorDataset(X, X, X, Y), batch_size=2),
    )
    refused(
        "the batch at sample 0: y is a tuple; expected a tensor of rows",
        DataLoader([(1.0, "a"), (2.0, "b")], batch_size=2),
    )


def test_what_is_no_dataset():
    refused(
        "an object of type generator is no torch Dataset with a length, no IterableDataset and no DataLoader; "
        "the source iterable takes any iterable",
        (x for x in X),
    )
