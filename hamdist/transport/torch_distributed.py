"""Links whose tensors go by torch.distributed, from GPU to GPU over NCCL or from host to host over gloo.

The head of each frame goes over a ZeroMQ line of its edge: it says which tensors are there, and brings with it the
signs of life, the limit of frames under way and the checks. The tensors themselves always travel, zeros where a frame
has none, so that what is posted never depends on the data.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store

from hamdist.engine.aligned import aligned
from hamdist.engine.message import Form
from hamdist.network.tick_order import Crossing
from hamdist.transport.base import (
    ClosedError,
    End,
    Frame,
    Link,
    LinkError,
    Patience,
    PeerLostError,
    RefusedError,
    Wiring,
)
from hamdist.transport.codec import decode, decode_head, encode, encode_head
from hamdist.transport.connection import Line
from hamdist.transport.p2p_order import Arrival, Lane, Pair, Slot, Timetable, most_under_way, slots_of
from hamdist.transport.process_group import GlooPair, NcclPair, agree, greet, listening_store, store_at
from hamdist.transport.security import Station
from hamdist.transport.zeromq import ZeroMQLink, ZeroMQWiring

_LOOPBACK = "127.0.0.1"
_SLOWEST = 1e6  # bytes a second; a network slower than that is taken for a lost one


class TorchLink(Link):
    """One edge: heads over a line, tensors over a lane that it shares with the other edges to the same peer.

    A direction whose frames have no forms of tensors goes over the line alone. The links of one wiring belong to one
    thread, but for `close`, and their frames must be sent in the order of the turns: LinkError where they are not.
    """

    def __init__(
        self, line: Line, generation: int, lane: Lane, timetable: Timetable, patience: Patience
    ) -> None:
        self.end = end = line.end
        self._line, self._generation, self._lane, self._timetable = line, generation, lane, timetable
        self._limit = _seconds_for(end, patience)
        self._blank = tuple(
            torch.zeros(form.shape, dtype=form.dtype, device=end.device) for form in end.sends
        )
        self._arrival: Arrival | None = None  # awaited, while its head has not come
        self.closed = threading.Event()

    def send(self, frame: Frame) -> None:
        if not self.end.sends:
            self._line.send(encode(frame, self.end, self._generation))
            return
        payload = self._payload(frame)
        with self._carrying():
            self._timetable.check(self.end)
            self._line.send([encode_head(frame, self.end, self._generation)])
            self._lane.send(self.end, payload, self._limit)
            self._timetable.sent()

    def receive(self) -> Frame:
        if not self.end.receives:
            return decode(self._line.receive(), self.end, self._generation)
        with self._carrying():
            self._arrival = arrival = self._arrival or self._timetable.awaited(self.end)
            first, *more = self._line.receive()
            self._arrival = None
            head = decode_head(bytes(first), self.end, self._generation)
            if more or head.size != len(first):
                raise RefusedError(f"{self._says()}: a frame is refused: it is longer than its head says")
            arrival.transfer.wait(self._limit)
        pairs = zip(head.places, arrival.tensors, strict=True)
        return head.frame([None if place is None else tensor for place, tensor in pairs])

    def close(self) -> None:
        self.closed.set()
        self._line.close()

    def _payload(self, frame: Frame) -> tuple[Tensor, ...]:
        """What to send: the frame's tensors in plain order on the end's device, zeros where there are none."""
        found = tuple(None if t is None else Form(tuple(t.shape), t.dtype) for t in frame.tensors)
        if len(found) != len(self.end.sends) or any(
            form not in (None, wanted) for form, wanted in zip(found, self.end.sends, strict=True)
        ):
            raise LinkError(
                f"edge {self.end.name}: tensors {found} were to be sent, but it carries {self.end.sends}"
            )
        pairs = zip(frame.tensors, self._blank, strict=True)
        return tuple(blank if t is None else aligned(t.detach().to(self.end.device)) for t, blank in pairs)

    @contextlib.contextmanager
    def _carrying(self) -> Iterator[None]:
        """What fails beside the line is the closing of this end, or the loss of the other one."""
        try:
            yield
        except PeerLostError:
            self._lane.lost = True
            raise
        except (RuntimeError, TimeoutError) as error:
            if self.closed.is_set():
                raise ClosedError(f"edge {self.end.name}: this end was closed") from error
            if isinstance(error, LinkError):
                raise
            self._lane.lost = True
            raise PeerLostError(
                f"{self._says()} went away, or was cut off, with tensors on their way; its own log says why. "
                "Restart from a checkpoint"
            ) from error

    def _says(self) -> str:
        return f"edge {self.end.name}: {self.end.peer_name}"


class TorchWiring(Wiring):
    """The links of one actor.

    heads: makes the lines, and whole links for edges not in `crossings`.  me, peers, generation: as given to it.
    crossings: those of a tick, of the whole network, without the edges whose frames are to go over ZeroMQ whole; the
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
        self._lanes: dict[int, Lane] = {}
        self._links: list[TorchLink] = []
        self._closed = False

    def listen(self, ends: Sequence[End]) -> dict[int, str]:
        """Raises LinkError where there is no address to be had."""
        self._slots = slots_of(self._crossings, ends)
        addresses = self._heads.listen(ends)
        awaited = {slot.end.edge: slot.end.peer for slot in self._slots if not slot.end.forward}
        if awaited:
            host = _LOOPBACK if all(map(self._near, awaited.values())) else self._me.host
            self._store, at = listening_store(host, self._patience)
            addresses |= {edge: f"{at} {addresses[edge]}" for edge in awaited}
        return addresses

    def connect(self, addresses: Mapping[int, str]) -> dict[int, Link]:
        """Waits for the peers to do the same. Raises PeerLostError, RefusedError, ClosedError."""
        carried = {slot.end.edge for slot in self._slots}
        split = {edge: address.partition(" ") for edge, address in addresses.items() if edge in carried}
        heads = dict(addresses) | {edge: head for edge, (_, _, head) in split.items()}
        lines = self._heads.lines(heads)
        me = self._me.actor
        for peer in sorted({slot.end.peer for slot in self._slots}, key=lambda peer: sorted((me, peer))):
            self._lanes[peer] = self._lane(peer, {edge: store for edge, (store, _, _) in split.items()})
        timetable = Timetable(self._slots, self._lanes)
        links: dict[int, Link] = {}
        for edge, line in lines.items():
            if edge in carried:
                lane = self._lanes[line.end.peer]
                self._links.append(TorchLink(line, self._generation, lane, timetable, self._patience))
                links[edge] = self._links[-1]
            else:
                links[edge] = ZeroMQLink(line, self._generation)
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
        for lane in tuple(self._lanes.values()):
            lane.close(deadline - time.monotonic())
        self._store = None

    def _near(self, peer: int) -> bool:
        return self._peers[peer].host == self._me.host

    def _lane(self, peer: int, stores: Mapping[int, str]) -> Lane:
        slots = [slot for slot in self._slots if slot.end.peer == peer]
        first = min((slot.end for slot in slots), key=lambda end: end.edge)
        try:
            return Lane(self._pair(first, slots, stores), slots)
        except LinkError:
            raise
        except (RuntimeError, TimeoutError) as error:
            raise PeerLostError(
                f"edge {first.name}: no exchange of tensors with {first.peer_name} came about within "
                f"{self._patience.progress_seconds:g} s; see its own log ({error})"
            ) from error

    def _pair(self, first: End, slots: Sequence[Slot], stores: Mapping[int, str]) -> Pair:
        """The peers meet at the store of the target of their first edge."""
        store = store_at(stores[first.edge], self._patience) if first.forward else self._store
        assert store is not None, "listen comes first"
        store = PrefixStore(f"edge {first.edge}", store)
        rank, device = int(self._me.actor > first.peer), first.device
        limit = self._patience.progress_seconds
        agree(store, rank, self._generation, slots)
        pair: Pair
        if device.type == "cuda":
            pair = NcclPair(store, rank, device, limit)
        else:
            pair = GlooPair(store, rank, _LOOPBACK if self._near(first.peer) else self._me.host, limit)
        greet(pair, rank, device, limit)
        return pair


def _seconds_for(end: End, patience: Patience) -> float:
    """How long tensors may take whose head has come. A GPU may have to finish earlier work first."""
    if end.device.type == "cuda":
        return patience.progress_seconds
    size = sum(form.size for form in (*end.sends, *end.receives))
    return patience.heartbeat_seconds + most_under_way(end) * size / _SLOWEST
