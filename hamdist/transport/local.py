"""Links between actors that are threads of one process: two bounded queues an edge."""

import queue
import threading
import time
from collections.abc import Mapping, Sequence

from hamdist.engine.aligned import aligned
from hamdist.engine.message import Message
from hamdist.transport.base import (
    ClosedError,
    Endpoint,
    Link,
    Patience,
    PeerLostError,
    StalledError,
    Wiring,
)

_GLANCE_SECONDS = 0.05  # between two looks at what may have been closed


class Exchange:
    """Where the threads of one process find each other's queues, by edge and direction."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._directions: dict[tuple[int, bool], _Direction] = {}

    def direction(self, edge: int, forward: bool, capacity: int) -> "_Direction":
        with self._lock:
            return self._directions.setdefault((edge, forward), _Direction(capacity))


class _Direction:
    """One direction of an edge."""

    def __init__(self, capacity: int) -> None:
        self.messages: queue.Queue[Message] = queue.Queue(capacity)
        self.ended = threading.Event()  # its sender, or its receiver, is gone


class InProcessLink(Link):
    """One end; tensors are handed over as they are, aligned."""

    def __init__(self, endpoint: Endpoint, patience: Patience, out: _Direction, into: _Direction) -> None:
        self.endpoint, self._patience = endpoint, patience
        self._out, self._into = out, into
        self._closed = threading.Event()

    def send(self, message: Message) -> None:
        deadline = time.monotonic() + self._patience.progress_seconds
        while not self._closed.is_set() and not self._out.ended.is_set():
            try:
                return self._out.messages.put(message, timeout=_GLANCE_SECONDS)
            except queue.Full:
                self._look(deadline, "took no message")
        raise self._gone()

    def receive(self) -> Message:
        deadline = time.monotonic() + self._patience.progress_seconds
        while not self._closed.is_set():
            ended = self._into.ended.is_set()  # before the look at the queue: what came earlier is handed out
            try:
                return _placed(
                    self._into.messages.get(block=not ended, timeout=_GLANCE_SECONDS), self.endpoint
                )
            except queue.Empty:
                if ended:
                    break
                self._look(deadline, "sent no message")
        raise self._gone()

    def close(self) -> None:
        self._closed.set()
        self._out.ended.set()
        self._into.ended.set()

    def _look(self, deadline: float, what: str) -> None:
        if time.monotonic() > deadline:
            raise StalledError(
                f"edge {self.endpoint.name}: {self.endpoint.peer_name} {what} for {self._patience.progress_seconds:g} s"
            )

    def _gone(self) -> Exception:
        if self._closed.is_set():
            return ClosedError(f"edge {self.endpoint.name}: this end was closed")
        return PeerLostError(f"edge {self.endpoint.name}: {self.endpoint.peer_name} has gone away")


class InProcessWiring(Wiring):
    """The links of one thread."""

    def __init__(self, exchange: Exchange, patience: Patience | None = None) -> None:
        self._exchange, self._patience = exchange, patience or Patience()
        self._endpoints: list[Endpoint] = []
        self._links: dict[int, InProcessLink] = {}

    def listen(self, endpoints: Sequence[Endpoint]) -> dict[int, str]:
        self._endpoints = list(endpoints)
        return {end.edge: "here" for end in endpoints if not end.forward}

    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        for end in self._endpoints:
            out = self._exchange.direction(end.edge, end.forward, end.capacity)
            into = self._exchange.direction(end.edge, not end.forward, end.capacity)
            self._links[end.edge] = InProcessLink(end, self._patience, out, into)
        return dict(self._links)

    def close(self) -> None:
        for link in self._links.values():
            link.close()


def _placed(message: Message, endpoint: Endpoint) -> Message:
    tensors = [None if tensor is None else aligned(tensor.to(endpoint.device)) for tensor in message.tensors]
    return message._replace(tensors=tuple(tensors))
