"""Links between processes over ZeroMQ: ipc on one host, tcp with CURVE between hosts.

Each edge has a PAIR socket of its own. Its target binds, its source connects; messages go both ways. On one host an
edge's tensors may go through shared memory, which the target makes, and finds its way to the source with the address.
"""

import errno
import threading
from collections.abc import Collection, Mapping, Sequence

import zmq

from hamdist.engine.message import Message
from hamdist.transport.base import ClosedError, Endpoint, Link, LinkError, Patience, Wiring
from hamdist.transport.codec import Codec
from hamdist.transport.connection import Connection
from hamdist.transport.liveness import Closing
from hamdist.transport.security import Gatekeeper, KeyPair, Station
from hamdist.transport.shared_memory import SharedConnection
from hamdist.transport.socket_folder import SocketFolder

_MOST_SOCKETS = 2**14
_TAKEN = (errno.EADDRINUSE, errno.EACCES)


class ZeroMQLink(Link):
    """Messages over a connection. In each direction capacity + 1 … 2 capacity + 1 are under way before `send` waits."""

    def __init__(self, connection: Connection, generation: int) -> None:
        self.endpoint, self._connection = connection.endpoint, connection
        self._codec = Codec(connection.endpoint, generation, connection.shared)

    def send(self, message: Message) -> None:
        self._connection.send(self._codec.encode(message))

    def receive(self) -> Message:
        self._codec.prepare()
        return self._codec.decode(self._connection.receive())

    def close(self) -> None:
        self._connection.close()


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
        self._folder: SocketFolder | None = None
        self._connections: dict[int, Connection] = {}
        self._unconnected: list[tuple[Endpoint, zmq.Socket[bytes]]] = []
        self._closed = False
        self._busy = threading.Lock()  # close may come from another thread

    def listen(self, endpoints: Sequence[Endpoint]) -> dict[int, str]:
        """Raises LinkError where there is no socket or no address to be had."""
        with self._busy:
            self._check_open()
            sockets = [(end, self._socket(end)) for end in endpoints]
            self._unconnected = [(end, socket) for end, socket in sockets if end.forward]
            return {end.edge: self._bind(socket, end) for end, socket in sockets if not end.forward}

    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        connections = self.connections(addresses)
        return {edge: ZeroMQLink(one, self._generation) for edge, one in connections.items()}

    def connections(self, addresses: Mapping[int, str]) -> dict[int, Connection]:
        """As `connect`, for links that carry their tensors another way."""
        with self._busy:
            self._check_open()
            for end, socket in self._unconnected:
                self._connect(socket, end, addresses[end.edge])
            self._unconnected = []
            return dict(self._connections)

    def close(self) -> None:
        """Takes two heartbeats at most, for what is under way to arrive."""
        closing = Closing()
        with self._busy:
            self._closed = True
            for connection in self._connections.values():
                connection.close(closing)
            if self._gatekeeper is not None:
                self._gatekeeper.stop()
            self._context.term()
            closing.finish(self._patience.heartbeat_seconds)
            if self._folder is not None:
                self._folder.remove()
                self._folder = None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the links of this actor were closed")

    def _socket(self, end: Endpoint) -> zmq.Socket[bytes]:
        try:
            socket = self._context.socket(zmq.PAIR)
            kind = SharedConnection if end.edge in self._shared else Connection
            self._connections[end.edge] = kind(socket, end, self._patience)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise LinkError(
                f"edge {end.name}: no socket to be had ({error}); each edge takes 5 file descriptors, or 7 with shared "
                "memory, see `ulimit -n`"
            ) from error
        return socket

    def _connect(self, socket: zmq.Socket[bytes], end: Endpoint, address: str) -> None:
        if not self._near(end):
            keys = self._own_keys(end)
            socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
            socket.curve_serverkey = self._peer_key(end).encode()
        connection = self._connections[end.edge]
        if isinstance(connection, SharedConnection):
            address, _, note = address.partition(" ")
            connection.accept(note)
        socket.ipv6 = ":" in self._peers[end.peer].host
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            raise LinkError(f"edge {end.name}: cannot connect to {address}: {error}") from error

    def _near(self, end: Endpoint) -> bool:
        return self._peers[end.peer].host == self._me.host

    def _bind(self, socket: zmq.Socket[bytes], end: Endpoint) -> str:
        if self._near(end):
            self._folder = self._folder or SocketFolder()
            socket.bind(f"ipc://{self._folder.path}/{end.edge}")
        else:
            self._gatekeeper = self._gatekeeper or Gatekeeper(self._context)
            self._gatekeeper.guard(socket, f"edge-{end.edge}", self._own_keys(end), self._peer_key(end))
            self._bind_tcp(socket, end)
        address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        connection = self._connections[end.edge]
        return f"{address} {connection.offer()}" if isinstance(connection, SharedConnection) else address

    def _bind_tcp(self, socket: zmq.Socket[bytes], end: Endpoint) -> None:
        """Listens on the actor's own address alone."""
        socket.ipv6 = ":" in self._me.host
        host = f"[{self._me.host}]" if socket.ipv6 else self._me.host
        first, last = self._ports or (0, 0)  # port 0: any
        if not any(self._try(socket, f"tcp://{host}:{port}", end) for port in range(first, last + 1)):
            raise LinkError(
                f"edge {end.name}: no port of {first}-{last} is free on {host}; give a wider range, one port per edge"
            )

    def _try(self, socket: zmq.Socket[bytes], address: str, end: Endpoint) -> bool:
        """Whether it could listen there; False where somebody else does."""
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            if error.errno in _TAKEN:
                return False
            raise LinkError(f"edge {end.name}: cannot listen on {address}: {error}") from error
        return True

    def _own_keys(self, end: Endpoint) -> KeyPair:
        if self._keys is None:
            raise LinkError(
                f"edge {end.name}: {end.peer_name} is on another host, and this actor has no keys"
            )
        return self._keys

    def _peer_key(self, end: Endpoint) -> str:
        key = self._peers[end.peer].key
        if not key:
            raise LinkError(
                f"edge {end.name}: {end.peer_name} is on another host, and its public key is missing"
            )
        return key
