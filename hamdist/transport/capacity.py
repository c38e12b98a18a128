"""How many messages may be under way between two ends, by their own count of what was taken.

The socket's own limits won't do: a socket that is full stops reading, and then it misses the other end's signs of life.
So the socket is never full, and each message says how many of the other end's messages its sender has taken so far.
An end that takes many and says nothing itself says so in a message that holds the number alone.
"""

import struct

# Messages taken so far; parts of this one, 0 for a message that holds the stamp alone.
_STAMP = struct.Struct("<QH")
STAMP_BYTES = _STAMP.size


class Window:
    """One end's view: between capacity + 1 and 2 capacity + 1 of its messages are under way before it must wait."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sent = 0
        self.sent_and_taken = 0  # by the other end
        self._held = 0  # arrived, and not yet taken
        self._taken = 0
        self._told = 0  # of those taken, what the other end knows

    @property
    def open(self) -> bool:
        """Whether another message may be sent."""
        return self._sent - self.sent_and_taken <= 2 * self._capacity

    def stamp(self, parts: int) -> bytes:
        """What goes before the next message."""
        return _STAMP.pack(self._taken, parts)

    def sent(self, parts: int) -> None:
        """A message has gone, with the stamp as it is now."""
        self._told = self._taken
        self._sent += parts > 0

    def arrived(self, first: bytes) -> int:
        """Reads the stamp before a message: of how many parts. Raises ValueError where it cannot be right."""
        if len(first) < STAMP_BYTES:
            raise ValueError("it is cut off")
        taken, parts = _STAMP.unpack_from(first)
        if not self.sent_and_taken <= taken <= self._sent:
            raise ValueError(f"it says that {taken} of {self._sent} frames were taken")
        self.sent_and_taken = taken
        self._held += parts > 0
        if self._held > 2 * self._capacity + 1:
            raise ValueError(f"it is one more than the {2 * self._capacity + 1} that may be under way")
        return parts

    def took(self) -> bool:
        """A message was handed out; whether the other end may be waiting to hear of it."""
        self._held -= 1
        self._taken += 1
        return self._taken - self._told > self._capacity
