"""A line between two processes of one host on which tensors go through shared memory.

Each message still goes over the socket, and with it waiting, order, signs of life and the limit of what is under way;
but its parts, which are the tensors, lie in a tray where there is one, and the message says in which.
"""

import logging
import struct
from collections.abc import Sequence

import zmq

from hamdist.transport.base import End, Patience
from hamdist.transport.closing import Farewell
from hamdist.transport.codec import Part
from hamdist.transport.connection import Line
from hamdist.transport.rack import Trays, racks
from hamdist.transport.segment import Segment

# Before each message: its tray, or -1; the number of parts that lie there. Then the size of each.
_TICKET = struct.Struct("<iH")
_NO_TRAY = _TICKET.pack(-1, 0)
_log = logging.getLogger(__name__)


class SharedLine(Line):
    """One end; the end that binds offers shared memory, and the other one accepts it.

    Where either has none, or there is not enough, parts go over the socket, as on any line.
    """

    apart_bytes = 1

    def __init__(self, socket: zmq.Socket[bytes], end: End, patience: Patience) -> None:
        super().__init__(socket, end, patience)
        self._out, self._into = racks(end)
        self._trays = Trays(self._out.trays, self._reserve)
        self._segment: Segment | None = None

    def offer(self) -> str:
        """Makes shared memory, and says where it is: "" where there is none to be had."""
        try:
            self._segment = Segment.made(self._size)
        except OSError as error:
            self._warn(error)
            return ""
        return self._segment.note

    def accept(self, note: str) -> None:
        """Takes what was offered."""
        try:
            self._segment = Segment.found(note, self._size) if note else None
        except OSError as error:
            self._warn(error)

    def send(self, message: Sequence[Part]) -> None:
        first, *apart = message
        tray = self._stow(apart) if apart else None
        if tray is None:
            super().send([_NO_TRAY + first, *apart])
        else:
            sizes = struct.pack(f"<{len(apart)}Q", *map(len, apart))
            super().send([_TICKET.pack(tray, len(apart)) + sizes + first])
        self._trays.sent(tray)

    def receive(self) -> list[Part]:
        """Parts that lie in a tray must be copied before the next call."""
        segment = self._segment  # of which another thread may let go meanwhile
        first, *apart = super().receive()
        try:
            tray, count = _TICKET.unpack_from(first)
            sizes = struct.unpack_from(f"<{count}Q", first, _TICKET.size)
        except struct.error:
            raise self._refused("it is cut off") from None
        if tray >= 0:
            starts = self._into.fit(sizes)
            if segment is None or starts is None or tray >= self._into.trays:
                raise self._refused(f"parts of {list(sizes)} bytes cannot lie in tray {tray}")
            at = self._into.at(tray)
            apart += [segment.read(at + start, size) for start, size in zip(starts, sizes, strict=True)]
        return [first[_TICKET.size + 8 * count :], *apart]

    def close(self, farewell: Farewell | None = None) -> None:
        super().close(farewell)
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    @property
    def _size(self) -> int:
        return max(self._out.end, self._into.end)

    def _stow(self, parts: Sequence[Part]) -> int | None:
        """Writes the parts to a tray; None where there is none for them."""
        segment, starts = self._segment, self._out.fit([len(part) for part in parts])
        if segment is None or starts is None or not segment.shared:
            return None
        tray = self._trays.find(self.taken)
        if tray is not None:
            at = self._out.at(tray)
            for start, part in zip(starts, parts, strict=True):
                segment.write(at + start, part)
        return tray

    def _reserve(self, tray: int) -> bool:
        segment = self._segment
        try:
            if segment is not None:
                segment.reserve(self._out.at(tray), self._out.size)
        except OSError as error:
            self._warn(error)
            return False
        return segment is not None

    def _warn(self, error: OSError) -> None:
        if not self._closed:
            _log.warning(
                "edge %s: no shared memory with %s (%s); tensors go over the socket, which is slower",
                *(self.end.name, self.end.peer_name, error),
            )
