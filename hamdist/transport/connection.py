"""One end of a connection between two actors: messages both ways, in order, over a ZeroMQ PAIR socket.

A wait is a series of glances, since ZeroMQ's sockets belong to one thread at a time: between two of them, whoever waits
looks at what the monitor says of the other end, at the clock, and at whether `close` was called.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence

import zmq

from hamdist.transport.base import (
    ClosedError,
    End,
    LinkError,
    Patience,
    PeerLostError,
    RefusedError,
    StalledError,
)
from hamdist.transport.capacity import STAMP_BYTES, Window
from hamdist.transport.closing import Farewell
from hamdist.transport.codec import APART_BYTES, Part
from hamdist.transport.liveness import Watch

_GLANCE_SECONDS = 0.05
_NEVER = 2**31 - 1  # milliseconds; switched off (-1), a lost connection would take unread messages with it


class Line:
    """Carries messages of one part or more; the first is bytes and never empty.

    At least capacity + 1 and at most 2 capacity + 1 messages are under way in each direction; the socket's own
    buffers hold those and add nothing. `send` and `receive` belong to one thread; `close` may come from any.
    apart_bytes: tensors of this size or more are best sent as parts of their own.
    """

    apart_bytes = APART_BYTES

    def __init__(self, socket: zmq.Socket[bytes], end: End, patience: Patience) -> None:
        """Takes over a fresh PAIR socket; bind or connect it afterwards."""
        self.end, self._patience, self._socket = end, patience, socket
        _set_up(socket, patience)
        self._watch = Watch(socket, binds=not end.forward)
        self._window = Window(end.capacity)
        self._arrived: deque[list[Part]] = deque()
        self._gone = ""
        self._busy = threading.Lock()
        self._closed = False

    @property
    def taken(self) -> int:
        """How many of this end's messages were received at the other end, as far as it has said so."""
        return self._window.sent_and_taken

    def send(self, message: Sequence[Part]) -> None:
        """Raises PeerLostError, StalledError, ClosedError, RefusedError; the message has then not gone."""
        with self._busy:
            self._check_open()
            if not (self._window.open and self._put(message)):
                self._wait_to_send(message)

    def receive(self) -> list[Part]:
        """The next message. Raises PeerLostError, StalledError, ClosedError, RefusedError."""
        with self._busy:
            self._check_open()
            if not self._arrived:
                self._wait_for_message()
            if self._window.took():
                self._put([])
            return self._arrived.popleft()

    def close(self, farewell: Farewell | None = None) -> None:
        """Ends every wait; what was sent gets the time of a heartbeat to leave. May be called twice.

        farewell: sees to it that it arrives too where the other end is sending still; say it afterwards.
        """
        self._closed = True
        with self._busy:
            if self._socket.closed:
                return
            gone = self._gone or self._watch.gone()
            if farewell is not None and not gone:
                farewell.keep(self._watch.connections(), self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
            self._watch.close()
            self._socket.close(linger=0 if gone else None)

    def _wait_to_send(self, message: Sequence[Part]) -> None:
        deadline = time.monotonic() + self._patience.progress_seconds
        while not self._window.open:
            if not self._take():
                self._look(deadline, "took no frame")
        while not self._put(message):
            self._look(deadline, "took no frame")

    def _wait_for_message(self) -> None:
        deadline = time.monotonic() + self._patience.progress_seconds
        while not self._arrived:
            if not self._take():
                self._look(deadline, "sent no frame")

    def _put(self, message: Sequence[Part]) -> bool:
        """Gives a message to the socket; False where there is no connection yet, or no more."""
        parts = len(message)
        stamp = self._window.stamp(parts)
        try:
            if parts <= 1:
                self._socket.send(stamp + message[0] if message else stamp)
            else:
                self._socket.send(stamp + message[0], zmq.SNDMORE)
                for part in message[1:-1]:
                    self._socket.send(part, zmq.SNDMORE, copy=False)
                self._socket.send(message[-1], copy=False)
        except zmq.Again:
            return False
        self._window.sent(parts)
        return True

    def _take(self) -> bool:
        """Waits for a glance; False where nothing came in it."""
        try:
            first = self._socket.recv()
        except zmq.Again:
            return False
        try:
            parts = self._window.arrived(first)
            apart = [self._socket.recv(copy=False).buffer for _ in range(parts - 1)]
        except (ValueError, zmq.Again) as error:
            raise self._refused(
                error if isinstance(error, ValueError) else "parts of it are missing"
            ) from None
        if parts:
            self._arrived.append([first[STAMP_BYTES:], *apart])
        return True

    def _look(self, deadline: float, what: str) -> None:
        """Between two glances: raises what there is to raise."""
        self._check_open()
        if self._gone:  # and nothing came in the glance since
            raise PeerLostError(f"{self._says()} {self._gone}")
        self._gone = self._watch.gone()
        if time.monotonic() > deadline:
            raise self._stalled(what)

    def _stalled(self, what: str) -> LinkError:
        limit = f"{self._patience.progress_seconds:g} s"
        if self._watch.greeted:
            return StalledError(
                f"{self._says()} lives, but {what} for {limit}; it may wait for another actor"
            )
        tried = " (somebody tried, and was turned away)" if self._watch.refused else ""
        return PeerLostError(f"{self._says()} did not connect within {limit}{tried}; its own log says why")

    def _refused(self, why: object) -> RefusedError:
        return RefusedError(f"{self._says()} sent a message that is refused: {why}")

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"edge {self.end.name}: this end was closed")

    def _says(self) -> str:
        return f"edge {self.end.name}: {self.end.peer_name}"


def _set_up(socket: zmq.Socket[bytes], patience: Patience) -> None:
    glance, sign = int(1000 * _GLANCE_SECONDS), 1000 * patience.heartbeat_seconds
    socket.rcvtimeo = socket.sndtimeo = glance
    socket.rcvhwm = socket.sndhwm = 0  # the window counts
    socket.heartbeat_ivl = max(1, int(sign / 4))  # a wait for an answer begins with the sign that asks for it
    socket.heartbeat_timeout = max(1, int(sign * 3 / 4))
    socket.reconnect_ivl = _NEVER
    socket.linger = int(sign)
