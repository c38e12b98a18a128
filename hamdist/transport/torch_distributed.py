"""Links whose tensors go by torch.distributed, from GPU to GPU over NCCL or from host to host over gloo.

The head of each message goes over a ZeroMQ connection of its edge: it says which tensors are there, and brings with it
the signs of life, the limit of messages under way and the checks. The tensors themselves always travel, zeros where a
message has none, so that what is posted never depends on the data; and each message has as many ticks as its endpoint
allows.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store

from hamdist.engine.aligned import aligned
from hamdist.engine.message import Message
from hamdist.network.tick_order import Crossing
from hamdist.transport.base import (
    ClosedError,
    Endpoint,
    Link,
    LinkError,
    Patience,
    PeerLostError,
    RefusedError,
    Wiring,
)
from hamdist.transport.codec import Codec
from hamdist.transport.connection import Connection
from hamdist.transport.p2p_order import (
    PeerGroup,
    PeerTransfers,
    PostedReceive,
    Slot,
    TransferOrder,
    most_under_way,
    slots_of,
)
from hamdist.transport.process_group import GlooGroup, NcclGroup, agree, greet, listening_store, store_at
from hamdist.transport.security import Station
from hamdist.transport.zeromq import ZeroMQLink, ZeroMQWiring

_LOOPBACK = "127.0.0.1"
_SLOWEST = 1e6  # bytes a second; a network slower than that is taken for a lost one


class TorchLink(Link):
    """One edge: heads over a connection, tensors as transfers that it orders with the other edges to the same peer.

    A direction whose messages carry no tensors goes over the connection alone. The links of one wiring belong to one
    thread, but for `close`, and their messages must be sent in the order of a tick: LinkError where they are not.
    """

    def __init__(
        self,
        connection: Connection,
        generation: int,
        transfers: PeerTransfers,
        order: TransferOrder,
        patience: Patience,
    ) -> None:
        self.endpoint = endpoint = connection.endpoint
        self._connection, self._transfers, self._order = connection, transfers, order
        self._codec = Codec(endpoint, generation)
        self._limit = _seconds_for(endpoint, patience)
        self._blank = tuple(
            torch.zeros(form.shape, dtype=form.dtype, device=endpoint.device)
            for form in endpoint.sends_in(endpoint.ticks)
        )
        self._posted: PostedReceive | None = None  # whose head has not come
        self.closed = threading.Event()

    def send(self, message: Message) -> None:
        if not self.endpoint.sends:
            self._connection.send(self._codec.encode(message))
            return
        head, payload = self._codec.encode_head(message), self._payload(message)
        with self._carrying():
            self._order.check(self.endpoint)
            self._connection.send([head])
            self._transfers.send(self.endpoint, payload, self._limit)
            self._order.sent()

    def receive(self) -> Message:
        if not self.endpoint.receives:
            return self._codec.decode(self._connection.receive())
        with self._carrying():
            self._posted = posted = self._posted or self._order.awaited(self.endpoint)
            parts = self._connection.receive()
            self._posted = None
            head = self._codec.decode_head(parts)
            if head.ticks != self.endpoint.ticks:
                raise RefusedError(
                    f"{self._says()}: a message is refused: it has {head.ticks} ticks, and tensors of "
                    f"{self.endpoint.ticks} come with it"
                )
            posted.transfer.wait(self._limit)
        return head.filled(posted.tensors)

    def close(self) -> None:
        self.closed.set()
        self._connection.close()

    def _payload(self, message: Message) -> tuple[Tensor, ...]:
        """What to send: the message's tensors in plain order on the endpoint's device, zeros where there are none."""
        if message.ticks != self.endpoint.ticks:
            raise LinkError(
                f"edge {self.endpoint.name}: {message.ticks} ticks were to be sent where a message has "
                f"{self.endpoint.ticks}"
            )
        pairs = zip(message.tensors, self._blank, strict=True)
        return tuple(
            blank if t is None else aligned(t.detach().to(self.endpoint.device)) for t, blank in pairs
        )

    @contextlib.contextmanager
    def _carrying(self) -> Iterator[None]:
        """What fails beside the connection is the closing of this end, or the loss of the other one."""
        try:
            yield
        except PeerLostError:
            self._transfers.lost = True
            raise
        except (RuntimeError, TimeoutError) as error:
            if self.closed.is_set():
                raise ClosedError(f"edge {self.endpoint.name}: this end was closed") from error
            if isinstance(error, LinkError):
                raise
            self._transfers.lost = True
            raise PeerLostError(
                f"{self._says()} went away, or was cut off, with tensors on their way; its own log says why. "
                "Start the run again"
            ) from error

    def _says(self) -> str:
        return f"edge {self.endpoint.name}: {self.endpoint.peer_name}"


class TorchWiring(Wiring):
    """The links of one actor.

    heads: makes the connections, and whole links for edges not in `crossings`.  me, peers, generation: as given to it.
    crossings: those of a tick, of the whole network, without the edges whose messages are to go over ZeroMQ whole; the
    same list in every actor. The edges between two actors must all have cuda at both ends, each actor on a GPU of its
    own (see `nccl_obstacle`), or the CPU at both.
    """

    def __init__(
        self,
        heads: ZeroMQWiring,
        me: Station,
        peers: Mapping[int, Station],
        crossings: Sequence[Crossing],
        generation: int,
        patience: Patience | None = None,
    ) -> None:
        self._heads, self._me, self._peers = heads, me, peers
        self._crossings, self._generation = crossings, generation
        self._patience = patience or Patience()
        self._slots: tuple[Slot, ...] = ()
        self._store: Store | None = None
        self._transfers: dict[int, PeerTransfers] = {}
        self._links: list[TorchLink] = []
        self._closed = False

    def listen(self, endpoints: Sequence[Endpoint]) -> dict[int, str]:
        """Raises LinkError where there is no address to be had."""
        self._slots = slots_of(self._crossings, endpoints)
        addresses = self._heads.listen(endpoints)
        awaited = {
            slot.endpoint.edge: slot.endpoint.peer for slot in self._slots if not slot.endpoint.forward
        }
        if awaited:
            host = _LOOPBACK if all(map(self._near, awaited.values())) else self._me.host
            self._store, at = listening_store(host, self._patience)
            addresses |= {edge: f"{at} {addresses[edge]}" for edge in awaited}
        return addresses

    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        """Waits for the peers to do the same. Raises PeerLostError, RefusedError, ClosedError."""
        carried = {slot.endpoint.edge for slot in self._slots}
        split = {edge: address.partition(" ") for edge, address in addresses.items() if edge in carried}
        heads = dict(addresses) | {edge: head for edge, (_, _, head) in split.items()}
        connections = self._heads.connections(heads)
        me = self._me.actor
        for peer in sorted({slot.endpoint.peer for slot in self._slots}, key=lambda peer: sorted((me, peer))):
            self._transfers[peer] = self._join(peer, {edge: store for edge, (store, _, _) in split.items()})
        order = TransferOrder(self._slots, self._transfers)
        links: dict[int, Link] = {}
        for edge, connection in connections.items():
            if edge in carried:
                transfers = self._transfers[connection.endpoint.peer]
                self._links.append(TorchLink(connection, self._generation, transfers, order, self._patience))
                links[edge] = self._links[-1]
            else:
                links[edge] = ZeroMQLink(connection, self._generation)
        if self._closed:  # by another thread, which may not have seen all of them
            self.close()
            raise ClosedError("the links of this actor were closed while it joined the others")
        return links

    def close(self) -> None:
        """Takes three heartbeats at most, for what is under way to arrive."""
        self._closed = True
        for link in tuple(self._links):
            link.closed.set()
        self._heads.close()
        deadline = time.monotonic() + self._patience.heartbeat_seconds
        for transfers in tuple(self._transfers.values()):
            transfers.close(deadline - time.monotonic())
        self._store = None

    def _near(self, peer: int) -> bool:
        return self._peers[peer].host == self._me.host

    def _join(self, peer: int, stores: Mapping[int, str]) -> PeerTransfers:
        slots = [slot for slot in self._slots if slot.endpoint.peer == peer]
        first = min((slot.endpoint for slot in slots), key=lambda end: end.edge)
        try:
            return PeerTransfers(self._group(first, slots, stores), slots)
        except LinkError:
            raise
        except (RuntimeError, TimeoutError) as error:
            raise PeerLostError(
                f"edge {first.name}: no exchange of tensors with {first.peer_name} came about within "
                f"{self._patience.progress_seconds:g} s; see its own log ({error})"
            ) from error

    def _group(self, first: Endpoint, slots: Sequence[Slot], stores: Mapping[int, str]) -> PeerGroup:
        """The peers meet at the store of the target of their first edge."""
        store = store_at(stores[first.edge], self._patience) if first.forward else self._store
        if store is None:
            raise LinkError(f"edge {first.name}: this actor joins others before it listens")
        store = PrefixStore(f"edge {first.edge}", store)
        rank, device = int(self._me.actor > first.peer), first.device
        limit = self._patience.progress_seconds
        agree(store, rank, self._generation, slots)
        group: PeerGroup
        if device.type == "cuda":
            group = NcclGroup(store, rank, device, limit)
        else:
            group = GlooGroup(store, rank, _LOOPBACK if self._near(first.peer) else self._me.host, limit)
        greet(group, rank, device, limit)
        return group


def _seconds_for(endpoint: Endpoint, patience: Patience) -> float:
    """How long tensors may take whose head has come. A GPU may have to finish earlier work first."""
    if endpoint.device.type == "cuda":
        return patience.progress_seconds
    size = endpoint.ticks * sum(form.size for form in (*endpoint.sends, *endpoint.receives))
    return patience.heartbeat_seconds + most_under_way(endpoint) * size / _SLOWEST
