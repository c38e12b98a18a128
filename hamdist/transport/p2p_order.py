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
from hamdist.transport.base import End, LinkError


class Slot(NamedTuple):
    """A crossing as one of its two actors sees it."""

    end: End
    sends: bool


def slots_of(crossings: Sequence[Crossing], ends: Sequence[End]) -> tuple[Slot, ...]:
    """The crossings at the actor with these ends, those whose frames carry tensors."""
    by_edge = {end.edge: end for end in ends}
    slots = [
        Slot(by_edge[edge], by_edge[edge].forward == forward)
        for edge, forward in crossings
        if edge in by_edge
    ]
    return tuple(slot for slot in slots if (slot.end.sends if slot.sends else slot.end.receives))


def most_under_way(end: End) -> int:
    """How many frames a line lets its sender be ahead of what the other end took."""
    return 2 * end.capacity + 1


class Transfer(Protocol):
    """One frame's tensors on their way. Both raise RuntimeError or TimeoutError."""

    def wait(self, seconds: float) -> None:
        """Until the tensors may be used; on a GPU, by what is launched afterwards."""

    def finish(self, seconds: float) -> None:
        """Until the transfer has ended."""


class Pair(Protocol):
    """Two processes that exchange tensors, each direction in order.

    posts_ahead: whether receives may be posted before their turn, since they hold up nothing.
    """

    posts_ahead: bool

    def send(self, tensors: tuple[Tensor, ...]) -> Transfer:
        """Raises RuntimeError."""

    def receive(self, tensors: tuple[Tensor, ...]) -> Transfer:
        """What cannot be received raises when it is waited for."""

    def close(self, seconds: float) -> None:
        """Lets go of the connection; seconds: for the other end to do the same, so that nothing is cut off."""


class Arrival(NamedTuple):
    """A receive that is posted."""

    tensors: tuple[Tensor, ...]
    transfer: Transfer


class Lane:
    """The transfers with one peer. slots: those with it, in order. `close` may come from any thread.

    lost: set where the peer is found to be gone.
    """

    def __init__(self, pair: Pair, slots: Sequence[Slot]) -> None:
        self._pair = pair
        self._receives = [slot.end for slot in slots if not slot.sends]
        self._posted = 0
        self._due = 0  # receives whose turn has come
        self._arriving: dict[int, deque[Arrival]] = {end.edge: deque() for end in self._receives}
        self._leaving: dict[int, deque[Transfer]] = {slot.end.edge: deque() for slot in slots if slot.sends}
        self._lock = threading.Lock()
        self.lost = False
        self._post_ahead()

    def send(self, end: End, tensors: tuple[Tensor, ...], seconds: float) -> None:
        """Posts a send; the tensors stay untouched until it has ended. Raises RuntimeError, TimeoutError."""
        leaving, oldest = self._leaving[end.edge], None
        with self._lock:
            if len(leaving) == most_under_way(end):
                oldest = leaving.popleft()
        if oldest is not None:
            oldest.finish(seconds)  # the other end took its frame, or this one could not have been sent
        leaving.append(self._pair.send(tensors))

    def due(self) -> None:
        """The turn of the next receive has come."""
        self._due += 1
        if self._posted < self._due:
            self._post()

    def take(self, end: End) -> Arrival | None:
        """The next receive of an edge, None where it is not posted."""
        with self._lock:
            arriving = self._arriving[end.edge]
            arrival = arriving.popleft() if arriving else None
        self._post_ahead()
        return arrival

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
        self._pair.close(0.0 if self.lost else deadline - time.monotonic())
        with self._lock:
            for edge in self._leaving:
                self._leaving[edge].clear()
            for edge in self._arriving:
                self._arriving[edge].clear()

    def _post(self) -> None:
        end = self._receives[self._posted % len(self._receives)]
        tensors = tuple(torch.empty(form.shape, dtype=form.dtype, device=end.device) for form in end.receives)
        self._arriving[end.edge].append(Arrival(tensors, self._pair.receive(tensors)))
        self._posted += 1

    def _post_ahead(self) -> None:
        """As many receives as the other end may send before this one takes any more."""
        while self._pair.posts_ahead and self._receives:
            end = self._receives[self._posted % len(self._receives)]
            if len(self._arriving[end.edge]) >= most_under_way(end):
                break
            self._post()


class Timetable:
    """Where an actor is among its turns. lanes: by peer. All methods belong to one thread."""

    def __init__(self, slots: Sequence[Slot], lanes: Mapping[int, Lane]) -> None:
        self._slots, self._lanes = slots, lanes
        self._at = 0  # the slots of this tick that are behind

    def check(self, end: End) -> None:
        """Raises LinkError unless the next to send is this edge."""
        self._at %= len(self._slots)
        self._pass_receives()
        slot = self._slots[self._at]
        if slot.end.edge != end.edge:
            raise LinkError(
                f"edge {end.name}: a frame was to be sent out of its turn, before that of {slot.end.name}"
            )

    def sent(self) -> None:
        """What was checked is posted."""
        self._at += 1
        self._pass_receives()

    def awaited(self, end: End) -> Arrival:
        """The next receive of an edge, posted. Raises LinkError where this actor must send something before."""
        while (arrival := self._lanes[end.peer].take(end)) is None:
            self._at %= len(self._slots)
            slot = self._slots[self._at]
            if slot.sends:
                raise LinkError(
                    f"edge {end.name}: a frame was awaited out of its turn, before that of {slot.end.name} was sent"
                )
            self._pass()
        return arrival

    def _pass_receives(self) -> None:
        """Those before the next send of this tick; later ones could outlive the run and hold up the GPU."""
        while self._at < len(self._slots) and not self._slots[self._at].sends:
            self._pass()

    def _pass(self) -> None:
        self._lanes[self._slots[self._at].end.peer].due()
        self._at += 1
