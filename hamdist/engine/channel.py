"""An edge in an executor: first in, first out, with d initial tokens in each direction. A delay is nothing else."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from hamdist.engine.message import INVALID, NO_COSTATE, ZEROS, Costate, Message, Signal, Token, joined, latest
from hamdist.errors import RunError
from hamdist.network.graph import SOURCE, Edge

Item = TypeVar("Item", bound=Signal | Costate)
Given = TypeVar("Given", contravariant=True)
Taken = TypeVar("Taken", covariant=True)


class Gives(Protocol[Given]):
    """The end of a queue where items go in."""

    def append(self, item: Given, /) -> None: ...

    def add(self, message: Message, /) -> None:
        """Those of a message."""

    def said(self, ticks: int, /) -> tuple[Message, ...]:
        """Those of the last so many ticks, at most those of the edge's delay; the oldest first. Between two ticks."""

    def resume(self, said: Iterable[Message], /) -> None:
        """Goes on after these."""


class Takes(Protocol[Taken]):
    """The end of a queue where items come out, one by one or several at once; all of these await them."""

    def popleft(self) -> Taken: ...

    def tokens(self, ticks: int, /) -> Sequence[Token]:
        """Of the next so many ticks, which stay."""

    def ahead(self, ticks: int, /) -> Message:
        """The next so many ticks, which stay. Raises RunError unless they are alike."""

    def skip(self, ticks: int, /) -> None:
        """Takes the next so many ticks, unseen."""

    def refill(self, content: Iterable[Message], /) -> None:
        """Holds this and nothing else; what is given next comes after it."""


class InChannel(Protocol):
    """An edge as its target sees it: signals come, costates go back."""

    @property
    def edge(self) -> Edge: ...

    @property
    def signals(self) -> Takes[Signal]: ...

    @property
    def costates(self) -> Gives[Costate]: ...


class OutChannel(Protocol):
    """An edge as its source sees it: signals go, costates come back."""

    @property
    def edge(self) -> Edge: ...

    @property
    def signals(self) -> Gives[Signal]: ...

    @property
    def costates(self) -> Takes[Costate]: ...


class Queue(Generic[Item]):
    """First in, first out, in messages of any number of ticks.

    kind: of what is taken tick by tick.  name: of the edge.  keeps: False where nobody takes anything.
    """

    def __init__(self, kind: type[Item], name: str, items: Iterable[Item] = (), keeps: bool = True) -> None:
        self._kind, self._name = kind, name
        self._held: deque[Message] = deque(maxlen=None if keeps else 0)  # the ticks of each are alike
        self.refill(map(Message.of, items))

    def __len__(self) -> int:
        """In ticks."""
        return sum(len(held.tokens) for held in self._held)

    def __iter__(self) -> Iterator[Item]:
        """All that it holds, tick by tick."""
        return (self._item(tick) for held in self._held for tick in held.single())

    def said(self, ticks: int) -> tuple[Message, ...]:
        """Those of the last so many ticks, which it holds."""
        return latest(self._held, ticks)

    def refill(self, content: Iterable[Message]) -> None:
        """Holds this and nothing else."""
        self._held.clear()
        for message in content:
            self.add(message)

    resume = refill

    def append(self, item: Item, /) -> None:
        self._held.append(Message.of(item))

    def add(self, message: Message, /) -> None:
        if message.there:
            self._held.extend(message.single())
        else:
            self._held.append(message)

    def popleft(self) -> Item:
        first = self._held.popleft()
        if len(first.tokens) > 1:
            first, *rest = first.single()
            self._held.extendleft(reversed(rest))
        return self._item(first)

    def tokens(self, ticks: int) -> Sequence[Token]:
        """Those of the next so many ticks, which it holds."""
        first = self._held[0].tokens
        if len(first) >= ticks:
            return first[:ticks]
        return list(islice((token for held in self._held for token in held.tokens), ticks))

    def ahead(self, ticks: int) -> Message:
        """The next so many ticks, which it holds; they stay. Raises RunError unless they are alike."""
        self._cut(ticks)
        if self._held[0].ticks < ticks:
            pieces = [self._held.popleft()]
            while (missing := ticks - sum(piece.ticks for piece in pieces)) > 0:
                self._cut(missing)
                pieces.append(self._held.popleft())
            self._held.appendleft(self._joined(pieces))
        return self._held[0]

    def skip(self, ticks: int) -> None:
        """Leaves out the next so many, which it holds."""
        while ticks:
            self._cut(ticks)
            ticks -= self._held.popleft().ticks

    def _joined(self, pieces: Sequence[Message]) -> Message:
        message = joined(pieces)
        if message.there:
            first, last = message.tokens[0].tick, message.tokens[-1].tick
            raise RunError(
                f"edge {self._name}: what speaks of the samples of tick {first} to {last} cannot be met in one go: "
                "some of it has tensors that the rest has not"
            )
        return message

    def _cut(self, ticks: int) -> None:
        """The first message is no longer than so many ticks."""
        if len(self._held[0].tokens) > ticks:
            self._held.extendleft(reversed(self._held.popleft().split(ticks)))

    def _item(self, tick: Message) -> Item:
        return self._kind(tick.tokens[0], *tick.tensors)


class Channel:
    """An edge inside one process.

    initial: what a forward edge's d initial tokens hold (valid zeros), or None for invalid ones. The source hears no
    costates: they are dropped.
    """

    def __init__(self, edge: Edge, initial: Tensor | None = None) -> None:
        self.edge = edge
        self.signals = Queue(Signal, edge.name, initial_signals(edge, initial))
        silent = edge.source == SOURCE
        self.costates = Queue(Costate, edge.name, [NO_COSTATE] * edge.ticks, keeps=not silent)


def initial_signals(edge: Edge, initial: Tensor | None) -> list[Signal]:
    """The d tokens that an edge begins with."""
    first = Signal(INVALID) if initial is None else Signal(ZEROS, initial)
    return [first] * edge.ticks
