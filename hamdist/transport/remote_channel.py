"""An edge to another actor, seen from one side, as a way like any other: what goes out is sent, what comes in awaited.

Each queue carries exactly one frame a tick, alone or with those of other ticks, and begins with the tokens of its delay
on the receiving side, so that the k-th frame received is that of the sender's tick k.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

from torch import Tensor

from hamdist.engine.channel import initial_signals
from hamdist.engine.message import NO_COSTATE, Costate, Queue, Signal, Stretch, Token
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.network.graph import Edge
from hamdist.transport.base import Frames, Link, RefusedError

Item = TypeVar("Item", bound=Signal | Costate)


@dataclass
class Journey:
    """What the doors of one actor share: the run's last tick, once any neighbour said it, and where the time went."""

    final: int = -1
    wait_seconds: float = 0.0
    send_seconds: float = 0.0
    timeline: Timeline = SILENT


class Outbox(Generic[Item]):
    """Sends one item a tick, or those of several ticks.  places: how many tensors of an item go."""

    def __init__(self, link: Link, journey: Journey, places: int, name: str) -> None:
        self._link, self._journey, self._places = link, journey, places
        self._sending = journey.timeline.span("send", name)
        self._tick = 0

    def append(self, item: Item, /) -> None:
        self.add(Stretch.of(item))

    def add(self, stretch: Stretch, /) -> None:
        told = Stretch(stretch.tokens, stretch.tensors[: self._places])
        started = perf_counter()
        with self._sending:
            self._link.send_all(Frames(self._tick, told, self._journey.final))
        self._tick += stretch.ticks
        self._journey.send_seconds += perf_counter() - started


class Inbox(Generic[Item]):
    """Awaits one item a tick, after the initial ones.  kind: of an item.  places: how many tensors of an item come."""

    def __init__(
        self, link: Link, journey: Journey, kind: type[Item], initial: Iterable[Item], places: int, name: str
    ) -> None:
        self._link, self._journey, self._name = link, journey, name
        self._waiting = journey.timeline.span("wait", name)
        self._absent = (None,) * (len(kind._fields) - 1 - places)
        self._come = Queue(kind, initial)
        self._here = len(self._come)  # ticks
        self._tick = 0

    def popleft(self) -> Item:
        self._await(1)
        self._here -= 1
        return self._come.popleft()

    def tokens(self, ticks: int, /) -> Sequence[Token]:
        self._await(ticks)
        return self._come.tokens(ticks)

    def ahead(self, ticks: int, /) -> Stretch:
        self._await(ticks)
        return self._come.ahead(ticks)

    def skip(self, ticks: int, /) -> None:
        self._await(ticks)
        self._here -= ticks
        self._come.skip(ticks)

    def _await(self, ticks: int) -> None:
        while self._here < ticks:
            started = perf_counter()
            with self._waiting:
                frames = self._link.receive_all()
            self._journey.wait_seconds += perf_counter() - started
            self._take(frames)

    def _take(self, frames: Frames) -> None:
        if frames.tick != self._tick:
            raise RefusedError(
                f"edge {self._name}: a frame of tick {frames.tick} came where that of {self._tick} was due"
            )
        stretch = frames.stretch
        self._tick += stretch.ticks
        self._here += stretch.ticks
        self._journey.final = max(self._journey.final, frames.final)
        self._come.add(Stretch(stretch.tokens, stretch.tensors + self._absent))


class ToTarget:
    """The edge's source is here.  places: how many tensors a costate carries, none on edges that only acknowledge.

    early: costates counted as heard from the start, beyond the delay: how many ticks more a source may run ahead of
    those that hear it.
    """

    def __init__(self, edge: Edge, link: Link, journey: Journey, places: int, early: int = 0) -> None:
        self.edge = edge
        self.signals: Outbox[Signal] = Outbox(link, journey, 1, edge.name)
        heard = [NO_COSTATE] * (edge.ticks + early)
        self.costates = Inbox(link, journey, Costate, heard, places, edge.name)


class FromSource:
    """The edge's target is here.  places: as of ToTarget.  initial: as of a channel."""

    def __init__(
        self, edge: Edge, link: Link, journey: Journey, places: int, initial: Tensor | None = None
    ) -> None:
        self.edge = edge
        self.signals = Inbox(link, journey, Signal, initial_signals(edge, initial), 1, edge.name)
        self.costates: Outbox[Costate] = Outbox(link, journey, places, edge.name)
