"""A connection between two processes of one host on which tensors go through shared memory.

Each message still goes over the socket, and with it waiting, order, signs of life and the limit of what is under way;
but its parts, which are the tensors, lie in a block of shared memory where there is one, and the message says in which.
Each direction has a pool of blocks, in which tensors lie until the other end has copied them. Both ends find the same
blocks, from what they know of their edge.
"""

import logging
import struct
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import zmq

from hamdist.engine.aligned import BYTES
from hamdist.engine.message import Form
from hamdist.transport.base import Endpoint, Patience
from hamdist.transport.codec import Partition
from hamdist.transport.connection import Connection
from hamdist.transport.liveness import Closing
from hamdist.transport.segment import HEAD_BYTES, Segment

# Before each message: its block, or -1; the number of parts that lie there; the checksum of both and of the sizes; then
# these.
_PLACE = struct.Struct("<iH")
_CHECKSUM = struct.Struct("<I")
_SIZES_AT = _PLACE.size + _CHECKSUM.size
_PAGE_BYTES = 4096
_log = logging.getLogger(__name__)


class SharedConnection(Connection):
    """One end; the end that binds offers shared memory, and the other one accepts it.

    Where either has none, or there is not enough, parts go over the socket, as on any connection.
    """

    shared = True

    def __init__(self, socket: zmq.Socket[bytes], endpoint: Endpoint, patience: Patience) -> None:
        super().__init__(socket, endpoint, patience)
        self._out, self._into = pools(endpoint)
        self._blocks = Blocks(self._out.blocks, self._reserve)
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
        except (OSError, ValueError) as error:
            self._warn(error)

    def send(self, message: Sequence[Partition]) -> None:
        first, *apart = message
        block = self._stow(apart) if apart else None
        if block is None:
            super().send([_NOWHERE + first, *apart])
        else:
            super().send([_note(block, [len(part) for part in apart]) + first])
        self._blocks.sent(block)

    def receive(self) -> list[Partition]:
        """Parts that lie in a block must be copied before the next call."""
        segment = self._segment  # of which another thread may let go meanwhile
        first, *apart = super().receive()
        try:
            block, sizes, rest = _noted(bytes(first))
        except ValueError as error:
            raise self._refused(error) from None
        if block < -1 or (block == -1 and sizes):
            raise self._refused(f"parts of {list(sizes)} bytes cannot lie in block {block}")
        if block >= 0:
            starts = self._into.fit(sizes)
            if segment is None or starts is None or block >= self._into.blocks:
                raise self._refused(f"parts of {list(sizes)} bytes cannot lie in block {block}")
            at = self._into.at(block)
            apart += [segment.read(at + start, size) for start, size in zip(starts, sizes, strict=True)]
        return [rest, *apart]

    def close(self, closing: Closing | None = None) -> None:
        super().close(closing)
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    @property
    def _size(self) -> int:
        return max(self._out.end, self._into.end)

    def _stow(self, parts: Sequence[Partition]) -> int | None:
        """Writes the parts to a block; None where there is none for them."""
        segment, starts = self._segment, self._out.fit([len(part) for part in parts])
        if segment is None or starts is None or not segment.shared:
            return None
        block = self._blocks.find(self.taken)
        if block is not None:
            at = self._out.at(block)
            for start, part in zip(starts, parts, strict=True):
                segment.write(at + start, part)
        return block

    def _reserve(self, block: int) -> bool:
        segment = self._segment
        try:
            if segment is not None:
                segment.reserve(self._out.at(block), self._out.size)
        except OSError as error:
            self._warn(error)
            return False
        return segment is not None

    def _warn(self, error: OSError | ValueError) -> None:
        if not self._closed:
            _log.warning(
                "edge %s: no shared memory with %s (%s); tensors go over the socket, which is slower",
                *(self.endpoint.name, self.endpoint.peer_name, error),
            )


class Pool(NamedTuple):
    """Where the blocks of one direction are.

    start: of the first, in the segment.  size: of each, in bytes.  blocks: how many.
    """

    start: int
    size: int
    blocks: int

    @property
    def end(self) -> int:
        return self.at(self.blocks)

    def at(self, block: int) -> int:
        return self.start + self.size * block

    def fit(self, sizes: Sequence[int]) -> list[int] | None:
        """Where in a block parts of these sizes begin; None where they are too large for it."""
        starts, end = [], 0
        for size in sizes:
            starts.append(end)
            end += _rounded(size, BYTES)
        return starts if end <= self.size else None


def pools(endpoint: Endpoint) -> tuple[Pool, Pool]:
    """For what this end sends, and for what it receives.

    2 capacity + 1 messages may be under way, the one before them may be being copied out, and the one after them is
    written before it has to wait.
    """
    blocks = 2 * endpoint.capacity + 3
    sends, receives = (f(endpoint.ticks) for f in (endpoint.sends_in, endpoint.receives_in))
    signals, costates = (sends, receives) if endpoint.forward else (receives, sends)
    forward = Pool(HEAD_BYTES, _size(signals), blocks)
    backward = Pool(forward.end, _size(costates), blocks)
    return (forward, backward) if endpoint.forward else (backward, forward)


class Blocks:
    """Which blocks hold what, as their sender sees it. A block is reserved when no other is free, and then kept.

    reserve: makes sure of its memory; False where there is none left.
    """

    def __init__(self, blocks: int, reserve: Callable[[int], bool]) -> None:
        self._unreserved = deque(range(blocks))
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

    def sent(self, block: int | None) -> None:
        """A message has gone: in the block that was found, or without one."""
        if block is not None:
            self._full.append((self._sent, self._free.pop()))
        self._sent += 1


def _note(block: int, sizes: Sequence[int]) -> bytes:
    """What goes before a message whose parts, of these sizes, lie in a block."""
    place, each = _PLACE.pack(block, len(sizes)), struct.pack(f"<{len(sizes)}Q", *sizes)
    return place + _CHECKSUM.pack(zlib.crc32(each, zlib.crc32(place))) + each


_NOWHERE = _note(-1, ())


def _noted(first: bytes) -> tuple[int, tuple[int, ...], bytes]:
    """What `_note` wrote, and what follows it. Raises ValueError where it cannot be right."""
    try:
        block, count = _PLACE.unpack_from(first)
        (checksum,) = _CHECKSUM.unpack_from(first, _PLACE.size)
        sizes = struct.unpack_from(f"<{count}Q", first, _SIZES_AT)
    except struct.error:
        raise ValueError("it is cut off") from None
    end = _SIZES_AT + 8 * count
    if checksum != zlib.crc32(first[_SIZES_AT:end], zlib.crc32(first[: _PLACE.size])):
        raise ValueError("where its parts lie is not what was sent: the checksum is another")
    return block, sizes, first[end:]


def _size(forms: Sequence[Form]) -> int:
    """Of a block for these tensors: each aligned, in whole pages."""
    return _rounded(sum(_rounded(form.size, BYTES) for form in forms), _PAGE_BYTES)


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
