"""An edge in an executor: first in, first out, with d initial tokens in each direction. A delay is nothing else."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from hamdist.engine.message import INVALID, NO_COSTATE, ZEROS, Costate, Queue, Signal, Stretch, Token
from hamdist.network.graph import SOURCE, Edge

Given = TypeVar("Given", contravariant=True)
Taken = TypeVar("Taken", covariant=True)


class Gives(Protocol[Given]):
    """The end of a queue where items go in."""

    def append(self, item: Given, /) -> None: ...

    def add(self, stretch: Stretch, /) -> None:
        """Several at once."""


class Takes(Protocol[Taken]):
    """The end of a queue where items come out, one by one or several at once; all of these await them."""

    def popleft(self) -> Taken: ...

    def tokens(self, ticks: int, /) -> Sequence[Token]:
        """Of the next so many ticks, which stay."""

    def ahead(self, ticks: int, /) -> Stretch:
        """The next so many ticks, which stay; they must be alike."""

    def skip(self, ticks: int, /) -> None:
        """Takes the next so many ticks, unseen."""


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
        self.signals = Queue(Signal, initial_signals(edge, initial))
        silent = edge.source == SOURCE
        self.costates = Queue(Costate, [NO_COSTATE] * edge.ticks, keeps=not silent)


def initial_signals(edge: Edge, initial: Tensor | None) -> list[Signal]:
    """The d tokens that an edge begins with."""
    first = Signal(INVALID) if initial is None else Signal(ZEROS, initial)
    return [first] * edge.ticks
