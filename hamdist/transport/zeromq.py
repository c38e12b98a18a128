"""Links between processes over ZeroMQ: ipc on one host, tcp with CURVE between hosts.

Each edge has a PAIR socket of its own. Its target binds, its source connects; frames go both ways. On one host an
edge's tensors may go through shared memory, which the target makes, and finds its way to the source with the address.
"""

import errno
import shutil
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import zmq

from hamdist.transport.base import ClosedError, End, Frame, Link, LinkError, Patience, Wiring
from hamdist.transport.closing import Farewell
from hamdist.transport.codec import decode, encode
from hamdist.transport.connection import Line
from hamdist.transport.security import Gatekeeper, KeyPair, Station, private_folder
from hamdist.transport.shared_memory import SharedLine
from hamdist.transport.spare import Spare

_MOST_SOCKETS = 2**14
_TAKEN = (errno.EADDRINUSE, errno.EACCES)


class ZeroMQLink(Link):
    """Frames over a line. In each direction capacity + 1 … 2 capacity + 1 frames are under way before `send` waits."""

    def __init__(self, line: Line, generation: int) -> None:
        self.end, self._line, self._generation = line.end, line, generation
        self._spare = Spare()

    def send(self, frame: Frame) -> None:
        self._line.send(encode(frame, self.end, self._generation, self._line.apart_bytes))

    def receive(self) -> Frame:
        self._spare.prepare()
        message = self._line.receive()
        return decode(message, self.end, self._generation, self._spare.take, self._line.apart_bytes)

    def close(self) -> None:
        self._line.close()


class ZeroMQWiring(Wiring):
    """The links of one actor.

    me, peers: where it and its neighbours, by number, are. keys: its own, needed where a neighbour is on another host.
    generation: of this start of the run. ports: the first and the last that may be listened on; None: any.
    shared: the edges between actors on one host whose tensors go through shared memory, as long as there is any.
    """

    def __init__(
        self,
        me: Station,
        peers: Mapping[int, Station],
        keys: KeyPair | None,
        generation: int,
        patience: Patience | None = None,
        ports: tuple[int, int] | None = None,
        shared: Collection[int] = (),
    ) -> None:
        self._me, self._peers, self._keys = me, peers, keys
        self._generation, self._patience, self._ports = generation, patience or Patience(), ports
        self._shared = shared
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.max_sockets = _MOST_SOCKETS
        self._gatekeeper: Gatekeeper | None = None
        self._folder: Path | None = None
        self._lines: dict[int, Line] = {}
        self._unconnected: list[tuple[End, zmq.Socket[bytes]]] = []
        self._closed = False
        self._busy = threading.Lock()  # close may come from another thread

    def listen(self, ends: Sequence[End]) -> dict[int, str]:
        """Raises LinkError where there is no socket or no address to be had."""
        with self._busy:
            self._check_open()
            sockets = [(end, self._socket(end)) for end in ends]
            self._unconnected = [(end, socket) for end, socket in sockets if end.forward]
            return {end.edge: self._bind(socket, end) for end, socket in sockets if not end.forward}

    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        lines = self.lines(addresses)
        return {edge: ZeroMQLink(line, self._generation) for edge, line in lines.items()}

    def lines(self, addresses: Mapping[int, str]) -> dict[int, Line]:
        """As `connect`, for links that carry their tensors another way."""
        with self._busy:
            self._check_open()
            for end, socket in self._unconnected:
                self._connect(socket, end, addresses[end.edge])
            self._unconnected = []
            return dict(self._lines)

    def close(self) -> None:
        """Takes two heartbeats at most, for what is under way to arrive."""
        farewell = Farewell()
        with self._busy:
            self._closed = True
            for line in self._lines.values():
                line.close(farewell)
            if self._gatekeeper is not None:
                self._gatekeeper.stop()
            self._context.term()
            farewell.say(self._patience.heartbeat_seconds)
            if self._folder is not None:
                shutil.rmtree(self._folder)
                self._folder = None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the links of this actor were closed")

    def _socket(self, end: End) -> zmq.Socket[bytes]:
        try:
            socket = self._context.socket(zmq.PAIR)
            kind = SharedLine if end.edge in self._shared else Line
            self._lines[end.edge] = kind(socket, end, self._patience)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise LinkError(
                f"edge {end.name}: no socket to be had ({error}); each edge takes 5 file descriptors, or 7 with shared "
                "memory, see `ulimit -n`"
            ) from error
        return socket

    def _connect(self, socket: zmq.Socket[bytes], end: End, address: str) -> None:
        if not self._near(end):
            keys = self._own_keys(end)
            socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
            socket.curve_serverkey = self._peer_key(end).encode()
        line = self._lines[end.edge]
        if isinstance(line, SharedLine):
            address, _, note = address.partition(" ")
            line.accept(note)
        socket.ipv6 = ":" in self._peers[end.peer].host
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            raise LinkError(f"edge {end.name}: cannot connect to {address}: {error}") from error

    def _near(self, end: End) -> bool:
        return self._peers[end.peer].host == self._me.host

    def _bind(self, socket: zmq.Socket[bytes], end: End) -> str:
        if self._near(end):
            self._folder = self._folder or private_folder()
            socket.bind(f"ipc://{self._folder}/{end.edge}")
        else:
            self._gatekeeper = self._gatekeeper or Gatekeeper(self._context)
            self._gatekeeper.guard(socket, f"edge-{end.edge}", self._own_keys(end), self._peer_key(end))
            self._bind_tcp(socket, end)
        address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        line = self._lines[end.edge]
        return f"{address} {line.offer()}" if isinstance(line, SharedLine) else address

    def _bind_tcp(self, socket: zmq.Socket[bytes], end: End) -> None:
        """Listens on the actor's own address alone."""
        socket.ipv6 = ":" in self._me.host
        host = f"[{self._me.host}]" if socket.ipv6 else self._me.host
        first, last = self._ports or (0, 0)  # port 0: any
        if not any(self._try(socket, f"tcp://{host}:{port}", end) for port in range(first, last + 1)):
            raise LinkError(
                f"edge {end.name}: no port of {first}-{last} is free on {host}; give a wider range, one port per edge"
            )

    def _try(self, socket: zmq.Socket[bytes], address: str, end: End) -> bool:
        """Whether it could listen there; False where somebody else does."""
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            if error.errno in _TAKEN:
                return False
            raise LinkError(f"edge {end.name}: cannot listen on {address}: {error}") from error
        return True

    def _own_keys(self, end: End) -> KeyPair:
        if self._keys is None:
            raise LinkError(
                f"edge {end.name}: {end.peer_name} is on another host, and this actor has no keys"
            )
        return self._keys

    def _peer_key(self, end: End) -> str:
        key = self._peers[end.peer].key
        if not key:
            raise LinkError(
                f"edge {end.name}: {end.peer_name} is on another host, and its public key is missing"
            )
        return key
