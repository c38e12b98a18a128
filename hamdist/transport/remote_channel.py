"""An edge to another actor, seen from one side, as a way like any other: what goes out is sent, what comes in awaited.

Each queue carries exactly one signal or costate a tick, in messages of one tick or of several, and begins with the
tokens of its delay on the receiving side, so that the k-th received is that of the sender's tick k.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

import torch
from torch import Tensor

from hamdist.engine.channel import Queue, initial_signals
from hamdist.engine.message import NO_COSTATE, Costate, Message, Signal, Token, joined, latest
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.network.graph import Edge
from hamdist.transport.base import Link

Item = TypeVar("Item", bound=Signal | Costate)


@dataclass
class Traffic:
    """What the remote channels of one actor share.

    final: the run's last tick, once any neighbour said it.  cut: the tick of the latest cut that any spoke of.
    wait_seconds, send_seconds: where the time went.
    """

    final: int = -1
    cut: int = -1
    wait_seconds: float = 0.0
    send_seconds: float = 0.0
    timeline: Timeline = SILENT


class SendQueue(Generic[Item]):
    """Sends one item a tick, or those of several ticks; gathers them where the link's endpoint does.

    initial: the items that the other end begins with. What was said last, in as many ticks, stays known.
    """

    def __init__(self, link: Link, traffic: Traffic, initial: Sequence[Item] = ()) -> None:
        endpoint = link.endpoint
        self._link, self._traffic = link, traffic
        self._places = len(endpoint.sends)
        self._gathers = endpoint.ticks if endpoint.gathers else 0  # ticks of every message; 0: of any number
        self._gathered: list[Message] = []  # each of one tick
        self._sending = traffic.timeline.span("send", endpoint.name)
        self._tick = 0
        self._keeps, self._kept = len(initial), 0  # ticks
        self._absent = (None,) * (len(initial[0]) - 1 - self._places if initial else 0)
        self._said: deque[Message] = deque()
        self.resume(map(Message.of, initial))

    def append(self, item: Item, /) -> None:
        self.add(Message(item[:1], item[1:][: self._places]))

    def add(self, message: Message, /) -> None:
        started = perf_counter()
        if len(message.tensors) > self._places:
            message = message.first(self._places)
        if self._keeps:
            self._keep(message)
        with self._sending:
            if not self._gathered and self._gathers in (0, len(message.tokens)):
                self._send(message)
            else:
                self._gather(message)
        self._traffic.send_seconds += perf_counter() - started

    def said(self, ticks: int, /) -> tuple[Message, ...]:
        """Those of the last so many ticks, with a place for every tensor of an item."""
        whole = [message._replace(tensors=message.tensors + self._absent) for message in self._said]
        return latest(whole, ticks)

    def resume(self, said: Iterable[Message], /) -> None:
        self._said.clear()
        self._gathered.clear()
        self._kept = 0
        for message in said:
            self._keep(message.first(self._places))

    def _keep(self, message: Message) -> None:
        self._said.append(message)
        self._kept += len(message.tokens)
        while self._kept - len(self._said[0].tokens) >= self._keeps:
            self._kept -= len(self._said.popleft().tokens)

    def _gather(self, message: Message) -> None:
        for tick in message.single():
            self._gathered.append(tick)
            if len(self._gathered) == self._gathers:
                gathered, self._gathered = self._gathered, []
                self._send(joined(gathered))

    def _send(self, message: Message) -> None:
        tokens, tensors, _, _, _, there = message
        traffic = self._traffic
        self._link.send(Message(tokens, tensors, self._tick, traffic.final, traffic.cut, there))
        self._tick += len(tokens)


class ReceiveQueue(Generic[Item]):
    """Awaits one item a tick, after the initial ones.  kind: of an item."""

    def __init__(self, link: Link, traffic: Traffic, kind: type[Item], initial: Iterable[Item]) -> None:
        endpoint = link.endpoint
        self._link, self._traffic = link, traffic
        self._waiting = traffic.timeline.span("wait", endpoint.name)
        self._absent = (None,) * (len(kind._fields) - 1 - len(endpoint.receives))
        self._come = Queue(kind, endpoint.name, initial)
        self._here = len(self._come)  # ticks

    def popleft(self) -> Item:
        self._await(1)
        self._here -= 1
        return self._come.popleft()

    def tokens(self, ticks: int, /) -> Sequence[Token]:
        self._await(ticks)
        return self._come.tokens(ticks)

    def ahead(self, ticks: int, /) -> Message:
        self._await(ticks)
        return self._come.ahead(ticks)

    def skip(self, ticks: int, /) -> None:
        self._await(ticks)
        self._here -= ticks
        self._come.skip(ticks)

    def refill(self, content: Iterable[Message], /) -> None:
        self._come.refill(content)
        self._here = len(self._come)

    def _await(self, ticks: int) -> None:
        while self._here < ticks:
            started = perf_counter()
            with self._waiting:
                message = self._link.receive()
            self._traffic.wait_seconds += perf_counter() - started
            self._take(message)

    def _take(self, message: Message) -> None:
        tokens, tensors, _, final, cut, there = message
        self._here += len(tokens)
        self._traffic.final = max(self._traffic.final, final)
        self._traffic.cut = max(self._traffic.cut, cut)
        self._come.add(Message(tokens, tensors + self._absent, there=there))


class OutgoingChannel:
    """The edge's source is here.

    early: costates counted as heard from the start, beyond the delay: how many ticks more a source may run ahead of
    those that hear it.  warm: whether the other end begins with valid zeros.
    """

    def __init__(self, edge: Edge, link: Link, traffic: Traffic, early: int = 0, warm: bool = False) -> None:
        self.edge = edge
        form = link.endpoint.sends[0]
        initial = torch.zeros(form.shape, dtype=form.dtype) if warm else None
        self.signals = SendQueue(link, traffic, initial_signals(edge, initial))
        self.costates = ReceiveQueue(link, traffic, Costate, [NO_COSTATE] * (edge.ticks + early))


class IncomingChannel:
    """The edge's target is here.  initial: as of a channel."""

    def __init__(self, edge: Edge, link: Link, traffic: Traffic, initial: Tensor | None = None) -> None:
        self.edge = edge
        self.signals = ReceiveQueue(link, traffic, Signal, initial_signals(edge, initial))
        self.costates = SendQueue(link, traffic, [NO_COSTATE] * edge.ticks)
