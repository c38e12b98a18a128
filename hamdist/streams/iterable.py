"""Samples from any Python iterable."""

import collections.abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from hamdist.errors import StreamError
from hamdist.streams.batching import in_batches
from hamdist.streams.factory import bind_factory, either
from hamdist.streams.missing import CHOICES
from hamdist.streams.sample import parse_sample
from hamdist.streams.settings import check_choice, check_counts
from hamdist.streams.stream import Batch, Stream


class Iterable(Stream):
    """Single samples, (x, y), {"x": ..., "y": ...} or x alone, from an iterable or from a function that returns one.

    x and y are numbers, lists, arrays or tensors; see `parse_sample`. The function is called for every pass;
    an iterator can be gone through once only.

    factory, args: "package.module:name" of such a function, and its arguments
    """

    def __init__(
        self,
        iterable: collections.abc.Iterable[Any] | Callable[[], collections.abc.Iterable[Any]] | None = None,
        factory: str | None = None,
        args: Mapping[str, Any] | None = None,
        batch_size: int = 1,
        samples: int | None = None,
        missing_target: str = "refuse",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_counts(batch_size=batch_size, samples=samples)
        check_choice("missing_target", missing_target, CHOICES)
        self._missing_target = missing_target
        either(iterable, "iterable", factory)
        self._source = bind_factory(factory, args) if factory is not None else iterable
        self._spent = False
        self._batch_size, self._dtype = batch_size, dtype
        self.samples = samples

    @property
    def available(self) -> int | None:
        """Of a list and the like; a function is not called for that."""
        return len(self._source) if isinstance(self._source, collections.abc.Sized) else None

    def __iter__(self) -> Iterator[Batch]:
        parsed = (
            parse_sample(item, self._dtype, f"sample {number}") for number, item in enumerate(self._open())
        )
        return in_batches(parsed, self._batch_size, self.samples, self._dtype, self._missing_target)

    def _open(self) -> collections.abc.Iterator[Any]:
        source: Any = self._source
        if not isinstance(source, collections.abc.Iterable) and callable(source):
            source = source()
        if not isinstance(source, collections.abc.Iterable):
            raise StreamError(
                f"an object of type {type(source).__name__} is not iterable; "
                "pass an iterable or a function that returns one"
            )
        if isinstance(source, collections.abc.Iterator) and source is self._source:
            if self._spent:
                raise StreamError(
                    "an iterator can be gone through once; pass a list, or a function that returns a new iterator"
                )
            self._spent = True
        return iter(source)
