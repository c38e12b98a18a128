"""Ends tcp connections such that all that was sent arrives.

A connection that is closed while something has come that nobody read is reset, and what it still had to send is lost:
the neighbour's last frame, which nobody needs, would cost it ours. So a second handle keeps each connection open until
the other host, which need not do anything for it, has everything and hangs up.
"""

import contextlib
import socket
import time
from collections.abc import Iterable
from ipaddress import ip_address
from os import close, dup

_CHUNK_BYTES = 1 << 16


class Farewell:
    """The connections of sockets that are about to be closed."""

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

    def say(self, seconds: float) -> None:
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
