"""What becomes of a socket's connection, and how it ends such that all that was sent arrives.

What becomes of it the socket's own monitor says, and nothing else: a process that is killed shows as DISCONNECTED
within milliseconds, and so does one that is frozen or cut off, once the socket's heartbeats go unanswered.

A tcp connection that is closed while something has come that nobody read is reset, and what it still had to send is
lost: the neighbour's last message, which nobody needs, would cost it ours. So a second handle keeps each connection
open until the other host, which need not do anything for it, has everything and hangs up.
"""

import contextlib
import socket
import time
from collections.abc import Iterable
from ipaddress import ip_address
from os import close, dup

import zmq
from zmq.utils.monitor import parse_monitor_message

_CHUNK_BYTES = 1 << 16
_GONE = "has gone away: it ended, or gave no sign of life; its own log says why. Start the run again"
_UNREACHED = "does not listen at its address; its own log says why"
_FAILURES: dict[int, str] = {
    zmq.Event.HANDSHAKE_FAILED_AUTH: "does not accept this end's key",
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "speaks another protocol, or has another key",
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: "broke off the greeting",
}
_WATCHED = (
    zmq.Event.ACCEPTED
    | zmq.Event.CONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.DISCONNECTED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
)


class Liveness:
    """Follows a socket that binds or connects once; make it before that.

    A socket that binds may be tried by strangers, whose coming and going means nothing: only who greets with the right
    key counts, and he is gone when no connection is left.
    """

    def __init__(self, watched: zmq.Socket[bytes], binds: bool) -> None:
        self._watched, self._binds = watched, binds
        address = f"inproc://watch-{watched.underlying:x}"
        watched.monitor(address, _WATCHED)
        self._events = watched.context.socket(zmq.PAIR)
        self._events.rcvhwm = 0  # events that nobody reads must not stop the socket
        self._events.connect(address)
        self._open: set[int] = set()  # descriptors
        self.greeted = False
        self.refused = ""  # why the last greeting failed
        self._unreached = False

    def gone(self) -> str:
        """What the other end did not to be heard of again, and what to do; "" as long as it may be."""
        self._read()
        if self.greeted:
            return "" if self._open else _GONE
        if self._binds:
            return ""
        if self.refused:
            return f"{self.refused}; all actors must be of the same start of the run"
        return _UNREACHED if self._unreached else ""

    def connections(self) -> frozenset[int]:
        """The descriptors of those that are open."""
        return frozenset(self._open)

    def close(self) -> None:
        self._watched.disable_monitor()
        self._events.close(linger=0)

    def _read(self) -> None:
        while self._events.poll(0):
            message = parse_monitor_message(self._events.recv_multipart())
            event, descriptor = message["event"], message["value"]
            if event in (zmq.Event.ACCEPTED, zmq.Event.CONNECTED):
                self._open.add(descriptor)
            elif event == zmq.Event.DISCONNECTED:
                self._open.discard(descriptor)
            elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self.greeted = True
            elif event == zmq.Event.CLOSED:
                self._unreached = not self.greeted and not self._open
            else:
                self.refused = _FAILURES[event]


class Closing:
    """The tcp connections of sockets that are about to be closed."""

    def __init__(self) -> None:
        self._connections: list[socket.socket] = []

    def keep(self, descriptors: Iterable[int], endpoint: str) -> None:
        """Those of the descriptors that are tcp connections at, or to, the endpoint "tcp://host:port"."""
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # one that has just been closed, or is another thing by now
                connection = _second_handle(descriptor)
                if any(
                    _same(name, endpoint) for name in (connection.getsockname(), connection.getpeername())
                ):
                    self._connections.append(connection)
                else:
                    connection.close()

    def finish(self, seconds: float) -> None:
        """After the sockets have gone: says that nothing follows, and gives the other ends some time to hang up."""
        for connection in self._connections:
            with contextlib.suppress(OSError):  # it has hung up already
                connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + seconds
        for connection in self._connections:
            with connection, contextlib.suppress(OSError):
                _read_to_the_end(connection, deadline)


def _read_to_the_end(connection: socket.socket, deadline: float) -> None:
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        if not connection.recv(_CHUNK_BYTES):
            return


def _second_handle(descriptor: int) -> socket.socket:
    copy = dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        close(copy)
        raise


def _same(name: object, endpoint: str) -> bool:
    """Whether a socket's name is the endpoint's."""
    if not isinstance(name, tuple):
        return False
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return ip_address(name[0]) == ip_address(host.strip("[]")) and name[1] == int(port)
