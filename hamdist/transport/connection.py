"""One end of a connection between two actors: messages both ways, in order, over a ZeroMQ PAIR socket.

A wait is a series of glances, since ZeroMQ's sockets belong to one thread at a time: between two of them, whoever waits
looks at what the monitor says of the other end, at the clock, and at whether `close` was called.

How many messages are under way is counted here. The socket's own limits won't do: a socket that is full stops reading,
and then it misses the other end's signs of life. So the socket is never full, and each message begins with a stamp that
says how many of the other end's messages its sender has taken so far. An end that takes many and says nothing itself
sends a stamp alone.
"""

import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Sequence

import zmq

from hamdist.transport.base import (
    ClosedError,
    Endpoint,
    LinkError,
    Patience,
    PeerLostError,
    RefusedError,
    StalledError,
)
from hamdist.transport.codec import Part
from hamdist.transport.liveness import Closing, Liveness

_GLANCE_SECONDS = 0.05
_NEVER = 2**31 - 1  # milliseconds; switched off (-1), a lost connection would take unread messages with it
# Messages taken so far; parts of this one, 0 for a stamp alone; the checksum of both.
_STAMP = struct.Struct("<QH")
_CHECKSUM = struct.Struct("<I")
_STAMP_BYTES = _STAMP.size + _CHECKSUM.size


class Connection:
    """Carries the parts of messages; the first part is bytes and never empty.

    At least capacity + 1 and at most 2 capacity + 1 messages are under way in each direction; the socket's own
    buffers hold those and add nothing. `send` and `receive` belong to one thread; `close` may come from any.
    shared: whether parts but the first lie in shared memory.
    """

    shared = False

    def __init__(self, socket: zmq.Socket[bytes], endpoint: Endpoint, patience: Patience) -> None:
        """Takes over a fresh PAIR socket; bind or connect it afterwards."""
        self.endpoint, self._patience, self._socket = endpoint, patience, socket
        _set_up(socket, patience)
        self._liveness = Liveness(socket, binds=not endpoint.forward)
        self._flow = FlowControl(endpoint.capacity)
        self._arrived: deque[list[Part]] = deque()
        self._gone = ""
        self._busy = threading.Lock()
        self._closed = False

    @property
    def taken(self) -> int:
        """How many of this end's messages were received at the other end, as far as it has said so."""
        return self._flow.sent_and_taken

    def send(self, message: Sequence[Part]) -> None:
        """Raises PeerLostError, StalledError, ClosedError, RefusedError; the message has then not gone."""
        with self._busy:
            self._check_open()
            if not (self._flow.open and self._put(message)):
                self._wait_to_send(message)

    def receive(self) -> list[Part]:
        """The next message. Raises PeerLostError, StalledError, ClosedError, RefusedError."""
        with self._busy:
            self._check_open()
            if not self._arrived:
                self._wait_for_message()
            if self._flow.took():
                self._put([])
            return self._arrived.popleft()

    def close(self, closing: Closing | None = None) -> None:
        """Ends every wait; what was sent gets the time of a heartbeat to leave. May be called twice.

        closing: sees to it that it arrives too where the other end is sending still; `finish` it afterwards.
        """
        self._closed = True
        with self._busy:
            if self._socket.closed:
                return
            gone = self._gone or self._liveness.gone()
            if closing is not None and not gone:
                closing.keep(self._liveness.connections(), self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
            self._liveness.close()
            self._socket.close(linger=0 if gone else None)

    def _wait_to_send(self, message: Sequence[Part]) -> None:
        deadline = time.monotonic() + self._patience.progress_seconds
        while not self._flow.open:
            if not self._take():
                self._look(deadline, "took no message")
        while not self._put(message):
            self._look(deadline, "took no message")

    def _wait_for_message(self) -> None:
        deadline = time.monotonic() + self._patience.progress_seconds
        while not self._arrived:
            if not self._take():
                self._look(deadline, "sent no message")

    def _put(self, message: Sequence[Part]) -> bool:
        """Gives a message to the socket; False where there is no connection yet, or no more."""
        parts = len(message)
        stamp = self._flow.stamp(parts)
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
        self._flow.sent(parts)
        return True

    def _take(self) -> bool:
        """Waits for a glance; False where nothing came in it."""
        try:
            first = self._socket.recv()
        except zmq.Again:
            return False
        try:
            parts = self._flow.arrived(first)
            apart = [self._socket.recv(copy=False).buffer for _ in range(parts - 1)]
        except (ValueError, zmq.Again) as error:
            raise self._refused(
                error if isinstance(error, ValueError) else "parts of it are missing"
            ) from None
        if parts:
            self._arrived.append([first[_STAMP_BYTES:], *apart])
        return True

    def _look(self, deadline: float, what: str) -> None:
        """Between two glances: raises what there is to raise."""
        self._check_open()
        if self._gone:  # and nothing came in the glance since
            raise PeerLostError(f"{self._says()} {self._gone}")
        self._gone = self._liveness.gone()
        if time.monotonic() > deadline:
            raise self._stalled(what)

    def _stalled(self, what: str) -> LinkError:
        limit = f"{self._patience.progress_seconds:g} s"
        if self._liveness.greeted:
            return StalledError(
                f"{self._says()} lives, but {what} for {limit}; it may wait for another actor"
            )
        tried = " (somebody tried, and was turned away)" if self._liveness.refused else ""
        return PeerLostError(f"{self._says()} did not connect within {limit}{tried}; its own log says why")

    def _refused(self, why: object) -> RefusedError:
        return RefusedError(f"{self._says()} sent a message that is refused: {why}")

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"edge {self.endpoint.name}: this end was closed")

    def _says(self) -> str:
        return f"edge {self.endpoint.name}: {self.endpoint.peer_name}"


def _set_up(socket: zmq.Socket[bytes], patience: Patience) -> None:
    glance, sign = int(1000 * _GLANCE_SECONDS), 1000 * patience.heartbeat_seconds
    socket.rcvtimeo = socket.sndtimeo = glance
    socket.rcvhwm = socket.sndhwm = 0  # flow control counts
    socket.heartbeat_ivl = max(1, int(sign / 4))  # a wait for an answer begins with the sign that asks for it
    socket.heartbeat_timeout = max(1, int(sign * 3 / 4))
    socket.reconnect_ivl = _NEVER
    socket.linger = int(sign)


class FlowControl:
    """How many messages may be under way, as one end sees it.

    Between capacity + 1 and 2 capacity + 1 of its own are under way before it must wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sent = 0
        self.sent_and_taken = 0  # by the other end
        self._held = 0  # arrived, and not yet taken
        self._taken = 0
        self._acknowledged = 0  # of those taken

    @property
    def open(self) -> bool:
        """Whether another message may be sent."""
        return self._sent - self.sent_and_taken <= 2 * self._capacity

    def stamp(self, parts: int) -> bytes:
        """What goes before the next message."""
        counts = _STAMP.pack(self._taken, parts)
        return counts + _CHECKSUM.pack(zlib.crc32(counts))

    def sent(self, parts: int) -> None:
        """A message has gone, with the stamp as it is now."""
        self._acknowledged = self._taken
        self._sent += parts > 0

    def arrived(self, first: bytes) -> int:
        """Reads the stamp before a message: of how many parts. Raises ValueError where it cannot be right."""
        if len(first) < _STAMP_BYTES:
            raise ValueError("it is cut off")
        if zlib.crc32(first[: _STAMP.size]) != _CHECKSUM.unpack_from(first, _STAMP.size)[0]:
            raise ValueError("its stamp is not the one that was sent: the checksum is another")
        taken, parts = _STAMP.unpack_from(first)
        if not self.sent_and_taken <= taken <= self._sent:
            raise ValueError(f"it says that {taken} of {self._sent} messages were taken")
        self.sent_and_taken = taken
        self._held += parts > 0
        if self._held > 2 * self._capacity + 1:
            raise ValueError(f"it is one more than the {2 * self._capacity + 1} that may be under way")
        return parts

    def took(self) -> bool:
        """A message was handed out; whether the other end may be waiting to hear of it."""
        self._held -= 1
        self._taken += 1
        return self._taken - self._acknowledged > self._capacity
