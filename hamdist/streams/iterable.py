"""Samples from any Python iterable."""

import collections.abc
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

import torch

from hamdist.errors import StreamError
from hamdist.streams.batching import in_batches
from hamdist.streams.factory import bind_factory, either
from hamdist.streams.missing import CHOICES
from hamdist.streams.own_state import keeps_state, own_state
from hamdist.streams.position import Counted, Reading
from hamdist.streams.sample import Sample, parse_sample
from hamdist.streams.settings import check_choice, check_counts
from hamdist.streams.stream import Batch


class Iterable(Counted):
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
        self._current: Any = None  # what is being gone through
        self._batch_size, self._dtype = batch_size, dtype
        self.samples = samples

    @property
    def available(self) -> int | None:
        """Of a list and the like; a function is not called for that."""
        return len(self._source) if isinstance(self._source, collections.abc.Sized) else None

    @property
    def seeks(self) -> bool:
        """A list and the like, and what keeps a state of its own. A function is not called again for what was: who
        knows whether it would say the same?
        """
        source = self._coming if self._current is None else self._current
        return keeps_state(source) or self._listed

    @property
    def _listed(self) -> bool:
        return isinstance(self._source, collections.abc.Sized)

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        samples = self._single_samples(self._open(start.taken), start.taken)
        return in_batches(
            samples, self._batch_size, self.samples, self._dtype, self._missing_target, start, self.skips
        )

    def _single_samples(self, items: Iterator[Any], first: int) -> Iterator[Sample]:
        for number, item in enumerate(items, first):
            yield parse_sample(item, self._dtype, f"sample {number}")

    def _more(self) -> dict[str, Any]:
        begun = self._current is not None and not self._loaded
        return {"own": own_state(self._current if begun else vars(self).get("_coming"))}

    def _load_more(self, state: Mapping[str, Any]) -> None:
        if state["own"] is not None and keeps_state(self._coming):
            self._coming.load_state_dict(state["own"])

    @cached_property
    def _coming(self) -> Any:
        """What is gone through next."""
        source: Any = self._source
        if not isinstance(source, collections.abc.Iterable) and callable(source):
            source = source()
        if not isinstance(source, collections.abc.Iterable):
            raise StreamError(
                f"an object of type {type(source).__name__} is not iterable; "
                "pass an iterable or a function that returns one"
            )
        return source

    def _open(self, first: int) -> Iterator[Any]:
        self._current = source = self._coming
        del self._coming  # a function is called for every pass
        if isinstance(source, Iterator) and source is self._source and not keeps_state(source):
            if self._spent:
                raise StreamError(
                    "an iterator can be gone through once; pass a list, or a function that returns a new iterator"
                )
            self._spent = True
        return islice(iter(source), first if self._listed and not keeps_state(source) else 0, None)
