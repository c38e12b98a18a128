"""Links between actors that are threads of one process: two bounded queues an edge."""

import queue
import threading
import time
from collections.abc import Mapping, Sequence

from hamdist.engine.aligned import aligned
from hamdist.transport.base import (
    ClosedError,
    End,
    Frame,
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
        self._lines: dict[tuple[int, bool], _Line] = {}

    def line(self, edge: int, forward: bool, capacity: int) -> "_Line":
        with self._lock:
            return self._lines.setdefault((edge, forward), _Line(capacity))


class _Line:
    """One direction of an edge."""

    def __init__(self, capacity: int) -> None:
        self.frames: queue.Queue[Frame] = queue.Queue(capacity)
        self.ended = threading.Event()  # its sender, or its receiver, is gone


class InProcessLink(Link):
    """One end; tensors are handed over as they are, aligned."""

    def __init__(self, end: End, patience: Patience, out: _Line, into: _Line) -> None:
        self.end, self._patience = end, patience
        self._out, self._into = out, into
        self._closed = threading.Event()

    def send(self, frame: Frame) -> None:
        deadline = time.monotonic() + self._patience.progress_seconds
        while not self._closed.is_set() and not self._out.ended.is_set():
            try:
                return self._out.frames.put(frame, timeout=_GLANCE_SECONDS)
            except queue.Full:
                self._look(deadline, "took no frame")
        raise self._gone()

    def receive(self) -> Frame:
        deadline = time.monotonic() + self._patience.progress_seconds
        while not self._closed.is_set():
            ended = self._into.ended.is_set()  # before the look at the queue: what came earlier is handed out
            try:
                return _placed(self._into.frames.get(block=not ended, timeout=_GLANCE_SECONDS), self.end)
            except queue.Empty:
                if ended:
                    break
                self._look(deadline, "sent no frame")
        raise self._gone()

    def close(self) -> None:
        self._closed.set()
        self._out.ended.set()
        self._into.ended.set()

    def _look(self, deadline: float, what: str) -> None:
        if time.monotonic() > deadline:
            raise StalledError(
                f"edge {self.end.name}: {self.end.peer_name} {what} for {self._patience.progress_seconds:g} s"
            )

    def _gone(self) -> Exception:
        if self._closed.is_set():
            return ClosedError(f"edge {self.end.name}: this end was closed")
        return PeerLostError(f"edge {self.end.name}: {self.end.peer_name} has gone away")


class InProcessWiring(Wiring):
    """The links of one thread."""

    def __init__(self, exchange: Exchange, patience: Patience | None = None) -> None:
        self._exchange, self._patience = exchange, patience or Patience()
        self._ends: list[End] = []
        self._links: dict[int, InProcessLink] = {}

    def listen(self, ends: Sequence[End]) -> dict[int, str]:
        self._ends = list(ends)
        return {end.edge: "here" for end in ends if not end.forward}

    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        for end in self._ends:
            out = self._exchange.line(end.edge, end.forward, end.capacity)
            into = self._exchange.line(end.edge, not end.forward, end.capacity)
            self._links[end.edge] = InProcessLink(end, self._patience, out, into)
        return dict(self._links)

    def close(self) -> None:
        for link in self._links.values():
            link.close()


def _placed(frame: Frame, end: End) -> Frame:
    tensors = tuple(None if tensor is None else aligned(tensor.to(end.device)) for tensor in frame.tensors)
    return Frame(frame.tick, frame.token, tensors, frame.final)
