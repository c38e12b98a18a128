"""PyTorch's Datasets, IterableDatasets and DataLoaders."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hamdist.errors import Problem, StreamError
from hamdist.streams.batching import in_batches
from hamdist.streams.factory import bind_factory, either
from hamdist.streams.missing import CHOICES
from hamdist.streams.row_order import RowOrder
from hamdist.streams.sample import Sample, parse_sample, split_sample
from hamdist.streams.settings import check_choice, check_counts
from hamdist.streams.stream import Batch, Stream, make_batch

BATCH_SIZE = 16


class TorchDataset(Stream):
    """The samples of a torch Dataset; each is (x, y), {"x": ..., "y": ...} or x alone; also a flag, as `Parts` has one.

    A Dataset that can be indexed goes round and round, shuffled, until `samples` were presented. An
    IterableDataset is gone through once. A DataLoader's own batches are used as they are, in its own order,
    pass after pass.

    factory, args: "package.module:name" of a function that returns one of these, and its arguments
    batch_size:    None: 16, or the DataLoader's own
    """

    def __init__(
        self,
        dataset: Any = None,
        factory: str | None = None,
        args: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        samples: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        missing_target: str = "refuse",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_counts(batch_size=batch_size, samples=samples, seed=seed)
        check_choice("missing_target", missing_target, CHOICES)
        self._missing_target = missing_target
        either(dataset, "dataset", factory)
        self._dataset = dataset if factory is None else bind_factory(factory, args)()
        self._batch_size = batch_size or BATCH_SIZE
        self._dtype = dtype
        self.samples = samples
        self._order: RowOrder | None = None
        if isinstance(self._dataset, DataLoader):
            _check_loader(self._dataset, batch_size)
        elif not isinstance(self._dataset, IterableDataset):
            rows = _length(self._dataset)
            self._order = RowOrder(rows, self._batch_size, samples, shuffle, seed)
            self.samples = self._order.presented

    def __iter__(self) -> Iterator[Batch]:
        if isinstance(self._dataset, DataLoader):
            return loaded_batches(self._dataset, self.samples, self._dtype)
        return in_batches(
            self._single_samples(), self._batch_size, self.samples, self._dtype, self._missing_target
        )

    def _single_samples(self) -> Iterator[Sample]:
        if self._order is None:
            items = iter(self._dataset)
        else:
            items = (self._dataset[int(row)] for rows in self._order.batches() for row in rows)
        for number, item in enumerate(items):
            yield parse_sample(item, self._dtype, f"sample {number}")


def loaded_batches(loader: DataLoader, samples: int | None, dtype: torch.dtype) -> Iterator[Batch]:
    """The loader's batches, pass after pass until `samples` rows were handed out, None: one pass."""
    done = 0
    while samples is None or done < samples:
        before = done
        for loaded in loader:
            whole = _parts(loaded, f"the batch at sample {done}")
            left = None if samples is None else samples - done
            inputs, targets, restarts = (None if part is None else part[:left] for part in whole)
            assert inputs is not None
            batch = make_batch(inputs, targets, dtype, restarts)
            done += len(batch.inputs)
            yield batch
            if done == samples:
                return
        if samples is None or done == before:
            return


def _parts(loaded: Any, where: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Inputs, targets and restarts, as they were loaded."""
    x, y, restarts = split_sample(tuple(loaded) if isinstance(loaded, list) else loaded, where)
    restarts = None if restarts is False else restarts
    for name, value in (("x", x), ("y", y), ("restart", restarts)):
        if not isinstance(value, Tensor) and not (name != "x" and value is None):
            raise StreamError(f"{where}: {name} is a {type(value).__name__}; expected a tensor of rows")
    return x, y, restarts


def _check_loader(loader: DataLoader, batch_size: int | None) -> None:
    if loader.batch_sampler is None:
        raise StreamError("the DataLoader makes no batches (batch_size=None); pass its dataset instead")
    own = loader.batch_size
    if batch_size is not None and own is not None and batch_size != own:
        message = f"the DataLoader makes its own batches of {own}, not of {batch_size}; set it to {own}"
        raise StreamError(Problem("batch_size", message))


def _length(dataset: Any) -> int:
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return len(dataset)
    raise StreamError(
        f"an object of type {type(dataset).__name__} is no torch Dataset with a length, no IterableDataset and no "
        "DataLoader; the source iterable takes any iterable"
    )
