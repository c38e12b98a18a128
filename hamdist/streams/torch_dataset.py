"""PyTorch's Datasets, IterableDatasets and DataLoaders."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import IterableDataset

from hamdist.errors import StreamError
from hamdist.streams.batching import in_batches
from hamdist.streams.factory import bind_factory, either
from hamdist.streams.loader import LoadedBatches, is_loader
from hamdist.streams.missing import CHOICES
from hamdist.streams.own_state import keeps_state, own_state
from hamdist.streams.position import Counted, Reading, counted
from hamdist.streams.row_order import RowOrder
from hamdist.streams.sample import Sample, parse_sample
from hamdist.streams.settings import check_choice, check_counts
from hamdist.streams.stream import Batch

BATCH_SIZE = 16


class TorchDataset(Counted):
    """The samples of a torch Dataset; each is (x, y), {"x": ..., "y": ...} or x alone; also a flag, as `Parts` has one.

    A Dataset that can be indexed goes round and round, shuffled, until `samples` were presented. An
    IterableDataset is gone through once. A DataLoader's own batches are used as they are, in its own order,
    pass after pass.

    To go on from a position, rows of a Dataset are addressed; an IterableDataset and a DataLoader that keep a state of
    their own are given it, and of others what came before is made again and left out.

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
        self._batches = LoadedBatches(self._dataset, batch_size) if is_loader(self._dataset) else None
        if self._batches is None and not isinstance(self._dataset, IterableDataset):
            rows = _length(self._dataset)
            self._order = RowOrder(rows, self._batch_size, samples, shuffle, seed)
            self.samples = self._order.presented

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        if self._batches is not None:
            return counted(self._batches.batches(self.samples, self._dtype, start.taken), start)
        samples = self._single_samples(start.taken)
        return in_batches(
            samples, self._batch_size, self.samples, self._dtype, self._missing_target, start, self.skips
        )

    def _single_samples(self, first: int) -> Iterator[Sample]:
        for number, item in enumerate(self._items(first), first):
            yield parse_sample(item, self._dtype, f"sample {number}")

    def _items(self, first: int) -> Iterator[Any]:
        if self._order is not None:
            return (self._dataset[int(row)] for rows in self._order.batches(first) for row in rows)
        return islice(iter(self._dataset), 0 if keeps_state(self._dataset) else first, None)

    def _facts(self) -> dict[str, Any]:
        return {} if self._order is None else self._order.facts

    def _more(self) -> dict[str, Any]:
        if self._batches is not None:
            return {"loader": self._batches.state_dict()}
        return {} if self._order is not None else {"own": own_state(self._dataset)}

    def _load_more(self, state: Mapping[str, Any]) -> None:
        if self._batches is not None:
            self._batches.load_state_dict(state["loader"])
        elif self._order is None and keeps_state(self._dataset):
            self._dataset.load_state_dict(state["own"])


def _length(dataset: Any) -> int:
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return len(dataset)
    raise StreamError(
        f"an object of type {type(dataset).__name__} is no torch Dataset with a length, no IterableDataset and no "
        "DataLoader; the source iterable takes any iterable"
    )
