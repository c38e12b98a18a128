"""What a stream is: batches of samples in an order of its own, possibly without an end."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hamdist.errors import Problem, StreamError


class Batch(NamedTuple):
    """R samples, a row each.

    inputs:  [R, ...]
    targets: [R, ...] numbers or [R] classes (int64); None where the stream has no targets
    restarts: [R] booleans, where an episode begins: layers with a memory start anew there; None where none does
    arrivals: of live samples, when each was there, by time.perf_counter
    """

    inputs: Tensor
    targets: Tensor | None
    restarts: Tensor | None = None
    arrivals: tuple[float, ...] = ()


class Stream(ABC):
    """Samples, numbered from 0 in the order presented, in batches of equal size; the last one may be short.

    samples: how many samples it gives at most; None where it is endless or cannot know
    classes: into how many classes its targets fall, where it knows
    live: whether samples come in their own time, and none is to wait for the next
    """

    samples: int | None = None
    classes: int | None = None
    live: bool = False

    @property
    def available(self) -> int | None:
        """How many samples there are to be gone through once, where a look tells; None where it does not, or where the
        source goes round.
        """
        return None

    @property
    def seeks(self) -> bool:
        """Whether a new stream of this kind goes on from a position by itself; else whoever sends must send what
        follows it.
        """
        return False

    @property
    def taken(self) -> int:
        """How many samples the source has given up to its position, those that were left out included."""
        return 0

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many of them were left out since they hold what is not finite, by what that was."""
        return {}

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """The batches from the start, or, once, from the position that was loaded; at any time only a bounded number of
        them is in memory.
        """

    def state_dict(self) -> dict[str, Any]:
        """The position after the batch handed out last: numbers, text, arrays, tensors. No later batch changes it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on there. Raises StreamError for a state of another stream."""
        if state:
            message = f"a stream of type {type(self).__name__} keeps no position, and cannot go on from one"
            raise StreamError(Problem("state", message))

    def holdout(self) -> Iterator[Batch] | None:
        """Samples to test on, which the stream itself never presents; None where the source has none."""
        return None


def make_batch(
    inputs: Tensor, targets: Tensor | None, dtype: torch.dtype, restarts: Tensor | None = None
) -> Batch:
    """A batch by the conventions of every stream.

    Floating numbers and booleans among the inputs become `dtype`, integers stay (they are indices). Floating
    targets become `dtype`, integers and booleans int64 (they are classes). A floating number a row is a
    vector of length one.
    """
    told = None if targets is None else _numbers(as_target(targets), dtype)
    return Batch(_numbers(inputs, dtype), told, restarts)


def as_target(values: Tensor) -> Tensor:
    """Integers and booleans as int64, which is what losses take for classes; all else as it is."""
    return values if values.is_floating_point() or values.is_complex() else values.long()


def _numbers(values: Tensor, dtype: torch.dtype) -> Tensor:
    if values.is_floating_point() or values.dtype == torch.bool:
        values = values.to(dtype)
    return values.unsqueeze(1) if values.dim() == 1 and values.is_floating_point() else values
