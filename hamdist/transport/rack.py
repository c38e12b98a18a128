"""The trays of shared memory in which the tensors of one direction lie until the other end has copied them.

Both ends find the same trays, from what they know of their edge.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hamdist.engine.aligned import BYTES
from hamdist.engine.message import Form
from hamdist.transport.base import End
from hamdist.transport.segment import HEAD_BYTES

_PAGE_BYTES = 4096


class Rack(NamedTuple):
    """Where the trays are.  start: of the first, in the segment.  size: of each, in bytes.  trays: how many."""

    start: int
    size: int
    trays: int

    @property
    def end(self) -> int:
        return self.at(self.trays)

    def at(self, tray: int) -> int:
        return self.start + self.size * tray

    def fit(self, sizes: Sequence[int]) -> list[int] | None:
        """Where in a tray parts of these sizes begin; None where they are too large for it."""
        starts, end = [], 0
        for size in sizes:
            starts.append(end)
            end += _rounded(size, BYTES)
        return starts if end <= self.size else None


def racks(end: End) -> tuple[Rack, Rack]:
    """For what this end sends, and for what it receives.

    2 capacity + 1 messages may be under way, the one before them may be being copied out, and the one after them is
    written before it has to wait.
    """
    trays = 2 * end.capacity + 3
    signals, costates = (end.sends, end.receives) if end.forward else (end.receives, end.sends)
    forward = Rack(HEAD_BYTES, _size(signals), trays)
    backward = Rack(forward.end, _size(costates), trays)
    return (forward, backward) if end.forward else (backward, forward)


class Trays:
    """Which trays hold what, as their sender sees it. A tray is reserved when no other is free, and then kept.

    reserve: makes sure of a tray's memory; False where there is none left.
    """

    def __init__(self, trays: int, reserve: Callable[[int], bool]) -> None:
        self._unreserved = deque(range(trays))
        self._reserve = reserve
        self._free: list[int] = []  # the last one was used last, and is in the caches
        self._full: deque[tuple[int, int]] = deque()  # by the number of the message
        self._sent = 0

    def find(self, taken: int) -> int | None:
        """A free one. taken: messages that were handed out at the other end, of which it may be copying the last."""
        while self._full and self._full[0][0] < taken - 1:
            self._free.append(self._full.popleft()[1])
        if not self._free and self._unreserved:
            if self._reserve(self._unreserved[0]):
                self._free.append(self._unreserved.popleft())
            else:
                self._unreserved.clear()
        return self._free[-1] if self._free else None

    def sent(self, tray: int | None) -> None:
        """A message has gone: in the tray that was found, or without one."""
        if tray is not None:
            self._full.append((self._sent, self._free.pop()))
        self._sent += 1


def _size(forms: Sequence[Form]) -> int:
    """Of a tray for these tensors: each aligned, in whole pages."""
    return _rounded(sum(_rounded(form.size, BYTES) for form in forms), _PAGE_BYTES)


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
