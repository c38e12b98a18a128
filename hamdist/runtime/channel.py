"""An edge in an executor: first in, first out, with d initial tokens in each direction. A delay is nothing else."""

from collections import deque
from typing import Protocol, SupportsIndex, TypeVar

from torch import Tensor

from hamdist.network.graph import SOURCE, Edge
from hamdist.runtime.token import INVALID, NO_COSTATE, ZEROS, Costate, Signal

Given = TypeVar("Given", contravariant=True)
Taken = TypeVar("Taken", covariant=True)


class Gives(Protocol[Given]):
    """The end of a queue where items go in."""

    def append(self, item: Given, /) -> None: ...


class Takes(Protocol[Taken]):
    """The end of a queue where items come out; [k] is the one that k more will come before."""

    def popleft(self) -> Taken: ...

    def __getitem__(self, ahead: SupportsIndex, /) -> Taken: ...


class InWay(Protocol):
    """An edge as its target sees it: signals come, costates go back."""

    @property
    def edge(self) -> Edge: ...

    @property
    def signals(self) -> Takes[Signal]: ...

    @property
    def costates(self) -> Gives[Costate]: ...


class OutWay(Protocol):
    """An edge as its source sees it: signals go, costates come back."""

    @property
    def edge(self) -> Edge: ...

    @property
    def signals(self) -> Gives[Signal]: ...

    @property
    def costates(self) -> Takes[Costate]: ...


class Channel:
    """An edge inside one process.

    initial: what a forward edge's d initial tokens hold (valid zeros), or None for invalid ones. The source hears no
    costates: they are dropped.
    """

    def __init__(self, edge: Edge, initial: Tensor | None = None) -> None:
        self.edge = edge
        self.signals: deque[Signal] = initial_signals(edge, initial)
        self.costates: deque[Costate] = (
            deque(maxlen=0) if edge.source == SOURCE else deque([NO_COSTATE] * edge.ticks)
        )


def initial_signals(edge: Edge, initial: Tensor | None) -> deque[Signal]:
    """The d tokens that an edge begins with."""
    first = Signal(INVALID) if initial is None else Signal(ZEROS, initial)
    return deque([first] * edge.ticks)
