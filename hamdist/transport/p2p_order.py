"""In which order actors exchange tensors: that of a tick, one list for the whole network.

NCCL runs the transfers between two processes one after the other, in the order in which they were posted, and a send
ends only when the other end's receive runs. Both ends must post their halves in the same order, or they wait for each
other for ever. So every actor posts its halves in the order of the turns: whenever it sends or awaits something, all
receives whose turns come before. Of all actors, the one that has come least far among the turns can then always go on:
what it waits for was sent, and what it sent is awaited. That holds even where a GPU waits for all that was posted.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hamdist.network.tick_order import Crossing
from hamdist.transport.base import Endpoint, LinkError


class Slot(NamedTuple):
    """A crossing as one of its two actors sees it."""

    endpoint: Endpoint
    sends: bool


def slots_of(crossings: Sequence[Crossing], endpoints: Sequence[Endpoint]) -> tuple[Slot, ...]:
    """The crossings at the actor with these endpoints, those whose messages carry tensors."""
    by_edge = {endpoint.edge: endpoint for endpoint in endpoints}
    slots = [
        Slot(by_edge[edge], by_edge[edge].forward == forward)
        for edge, forward in crossings
        if edge in by_edge
    ]
    return tuple(slot for slot in slots if (slot.endpoint.sends if slot.sends else slot.endpoint.receives))


def most_under_way(endpoint: Endpoint) -> int:
    """How many messages a connection lets its sender be ahead of what the other end took."""
    return 2 * endpoint.capacity + 1


class Transfer(Protocol):
    """One message's tensors on their way. Both raise RuntimeError or TimeoutError."""

    def wait(self, seconds: float) -> None:
        """Until the tensors may be used; on a GPU, by what is launched afterwards."""

    def finish(self, seconds: float) -> None:
        """Until the transfer has ended."""


class PeerGroup(Protocol):
    """A process group of two, which exchange tensors, each direction in order.

    posts_ahead: whether receives may be posted before their turn, since they hold up nothing.
    """

    posts_ahead: bool

    def send(self, tensors: tuple[Tensor, ...]) -> Transfer:
        """Raises RuntimeError."""

    def receive(self, tensors: tuple[Tensor, ...]) -> Transfer:
        """What cannot be received raises when it is waited for."""

    def close(self, seconds: float) -> None:
        """Lets go of the connection; seconds: for the other end to do the same, so that nothing is cut off."""


class PostedReceive(NamedTuple):
    """A receive that is posted."""

    tensors: tuple[Tensor, ...]
    transfer: Transfer


class PeerTransfers:
    """The transfers with one peer. slots: those with it, in order. `close` may come from any thread.

    lost: set where the peer is found to be gone.
    """

    def __init__(self, group: PeerGroup, slots: Sequence[Slot]) -> None:
        self._group = group
        self._receives = [slot.endpoint for slot in slots if not slot.sends]
        self._posted = 0
        self._due = 0  # receives whose turn has come
        self._arriving: dict[int, deque[PostedReceive]] = {
            endpoint.edge: deque() for endpoint in self._receives
        }
        self._leaving: dict[int, deque[Transfer]] = {
            slot.endpoint.edge: deque() for slot in slots if slot.sends
        }
        self._lock = threading.Lock()
        self.lost = False
        self._post_ahead()

    def send(self, endpoint: Endpoint, tensors: tuple[Tensor, ...], seconds: float) -> None:
        """Posts a send; the tensors stay untouched until it has ended. Raises RuntimeError, TimeoutError."""
        leaving, oldest = self._leaving[endpoint.edge], None
        with self._lock:
            if len(leaving) == most_under_way(endpoint):
                oldest = leaving.popleft()
        if oldest is not None:
            oldest.finish(seconds)  # the other end took its message, or this one could not have been sent
        leaving.append(self._group.send(tensors))

    def due(self) -> None:
        """The turn of the next receive has come."""
        self._due += 1
        if self._posted < self._due:
            self._post()

    def take(self, endpoint: Endpoint) -> PostedReceive | None:
        """The next receive of an edge, None where it is not posted."""
        with self._lock:
            arriving = self._arriving[endpoint.edge]
            posted = arriving.popleft() if arriving else None
        self._post_ahead()
        return posted

    def close(self, seconds: float) -> None:
        """Gives what was sent so long to arrive, where the other end is not lost, and lets go of everything."""
        deadline = time.monotonic() + (0.0 if self.lost else seconds)
        with self._lock:
            leaving = [transfer for transfers in self._leaving.values() for transfer in transfers]
        for transfer in leaving:
            if self.lost:
                break
            try:
                transfer.finish(deadline - time.monotonic())
            except (RuntimeError, TimeoutError):  # nobody takes it any more
                self.lost = True
        self._group.close(0.0 if self.lost else deadline - time.monotonic())
        with self._lock:
            for edge in self._leaving:
                self._leaving[edge].clear()
            for edge in self._arriving:
                self._arriving[edge].clear()

    def _post(self) -> None:
        endpoint = self._receives[self._posted % len(self._receives)]
        tensors = tuple(
            torch.empty(form.shape, dtype=form.dtype, device=endpoint.device)
            for form in endpoint.receives_in(endpoint.ticks)
        )
        self._arriving[endpoint.edge].append(PostedReceive(tensors, self._group.receive(tensors)))
        self._posted += 1

    def _post_ahead(self) -> None:
        """As many receives as the other end may send before this one takes any more."""
        while self._group.posts_ahead and self._receives:
            endpoint = self._receives[self._posted % len(self._receives)]
            if len(self._arriving[endpoint.edge]) >= most_under_way(endpoint):
                break
            self._post()


class TransferOrder:
    """Where an actor is among its turns. transfers: by peer. All methods belong to one thread."""

    def __init__(self, slots: Sequence[Slot], transfers: Mapping[int, PeerTransfers]) -> None:
        self._slots, self._transfers = slots, transfers
        self._at = 0  # the slots of this tick that are behind

    def check(self, endpoint: Endpoint) -> None:
        """Raises LinkError unless the next to send is this edge."""
        self._at %= len(self._slots)
        self._pass_receives()
        slot = self._slots[self._at]
        if slot.endpoint.edge != endpoint.edge:
            raise LinkError(
                f"edge {endpoint.name}: a message was to be sent out of its turn, before that of {slot.endpoint.name}"
            )

    def sent(self) -> None:
        """What was checked is posted."""
        self._at += 1
        self._pass_receives()

    def awaited(self, endpoint: Endpoint) -> PostedReceive:
        """The next receive of an edge, posted. Raises LinkError where this actor must send something before."""
        while (posted := self._transfers[endpoint.peer].take(endpoint)) is None:
            self._at %= len(self._slots)
            slot = self._slots[self._at]
            if slot.sends:
                raise LinkError(
                    f"edge {endpoint.name}: a message was awaited out of its turn, before that of "
                    f"{slot.endpoint.name} was sent"
                )
            self._pass()
        return posted

    def _pass_receives(self) -> None:
        """Those before the next send of this tick; later ones could outlive the run and hold up the GPU."""
        while self._at < len(self._slots) and not self._slots[self._at].sends:
            self._pass()

    def _pass(self) -> None:
        self._transfers[self._slots[self._at].endpoint.peer].due()
        self._at += 1
