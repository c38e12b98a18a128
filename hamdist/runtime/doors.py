"""An edge to another actor, seen from one side, as a way like any other: what goes out is sent, what comes in awaited.

Each queue carries exactly one frame a tick, and begins with the tokens of its delay on the receiving side, so that the
k-th frame received is that of the sender's tick k.
"""

import operator
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, SupportsIndex, TypeVar

from torch import Tensor

from hamdist.network.graph import Edge
from hamdist.runtime.channel import initial_signals
from hamdist.runtime.links.contract import Frame, Link, RefusedError
from hamdist.runtime.timeline import SILENT, Timeline
from hamdist.runtime.token import NO_COSTATE, Costate, Signal

Item = TypeVar("Item", bound=Signal | Costate)


@dataclass
class Journey:
    """What the doors of one actor share: the run's last tick, once any neighbour said it, and where the time went."""

    final: int = -1
    wait_seconds: float = 0.0
    send_seconds: float = 0.0
    timeline: Timeline = SILENT


class Outbox(Generic[Item]):
    """Sends one item a tick."""

    def __init__(
        self,
        link: Link,
        journey: Journey,
        tensors_of: Callable[[Item], tuple[Tensor | None, ...]],
        name: str,
    ) -> None:
        self._link, self._journey, self._tensors_of = link, journey, tensors_of
        self._sending = journey.timeline.span("send", name)
        self._tick = 0

    def append(self, item: Item, /) -> None:
        started = perf_counter()
        with self._sending:
            self._link.send(Frame(self._tick, item.token, self._tensors_of(item), self._journey.final))
        self._tick += 1
        self._journey.send_seconds += perf_counter() - started


class Inbox(Generic[Item]):
    """Awaits one item a tick, after the initial ones."""

    def __init__(
        self, link: Link, journey: Journey, initial: deque[Item], item_of: Callable[[Frame], Item], name: str
    ) -> None:
        self._link, self._journey, self._name = link, journey, name
        self._waiting = journey.timeline.span("wait", name)
        self._come = initial
        self._item_of = item_of
        self._tick = 0

    def popleft(self) -> Item:
        return self._come.popleft() if self._come else self._awaited()

    def __getitem__(self, ahead: SupportsIndex, /) -> Item:
        while len(self._come) <= operator.index(ahead):
            self._come.append(self._awaited())
        return self._come[ahead]

    def _awaited(self) -> Item:
        started = perf_counter()
        with self._waiting:
            frame = self._link.receive()
        self._journey.wait_seconds += perf_counter() - started
        if frame.tick != self._tick:
            raise RefusedError(
                f"edge {self._name}: a frame of tick {frame.tick} came where that of {self._tick} was due"
            )
        self._tick += 1
        self._journey.final = max(self._journey.final, frame.final)
        return self._item_of(frame)


class ToTarget:
    """The edge's source is here.  early: costates counted as heard from the start, beyond the delay: how many ticks
    more a source may run ahead of those that hear it."""

    def __init__(self, edge: Edge, link: Link, journey: Journey, early: int = 0) -> None:
        self.edge = edge
        self.signals: Outbox[Signal] = Outbox(link, journey, lambda signal: (signal.value,), edge.name)
        heard = deque([NO_COSTATE] * (edge.ticks + early))
        self.costates: Inbox[Costate] = Inbox(link, journey, heard, _costate, edge.name)


class FromSource:
    """The edge's target is here.  places: how many tensors a costate carries, none on edges that only acknowledge.

    initial: as of a channel.
    """

    def __init__(
        self, edge: Edge, link: Link, journey: Journey, places: int, initial: Tensor | None = None
    ) -> None:
        self.edge = edge
        self.signals: Inbox[Signal] = Inbox(link, journey, initial_signals(edge, initial), _signal, edge.name)
        self.costates: Outbox[Costate] = Outbox(
            link, journey, lambda costate: (costate.value, costate.output)[:places], edge.name
        )


def _signal(frame: Frame) -> Signal:
    return Signal(frame.token, *frame.tensors)


def _costate(frame: Frame) -> Costate:
    return Costate(frame.token, *frame.tensors)
