"""Lines as they come through a pipe, each with the moment at which it was there."""

import os
import select
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import NamedTuple

from hamdist.errors import StreamError

ROOM = 2**20  # bytes read ahead; what is more waits in the pipe, and its writer with it
LONGEST = 2**26  # bytes of a line


class Line(NamedTuple):
    """arrived: by time.perf_counter."""

    text: str
    arrived: float


class LiveLines:
    """The lines of a file descriptor.

    A line that comes while nobody looks counts from the last look before it, so that no wait is told too short.
    Raises UnicodeDecodeError, StreamError for a line without end.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor, self._encoding = descriptor, encoding
        self._lines: deque[tuple[bytes, float]] = deque()
        self._begun: list[bytes] = []  # parts of a line whose end has not come
        self._held = 0
        self._ended = False
        self._looked = perf_counter()

    def __iter__(self) -> Iterator[Line]:
        while True:
            self._look()
            while not self._lines and not self._ended:
                self._wait()
            if not self._lines:
                return
            line, arrived = self._lines.popleft()
            self._held -= len(line)
            yield Line(line.decode(self._encoding), arrived)

    def _look(self) -> None:
        """Takes what is there."""
        if self._ended or self._held >= ROOM:
            return
        before, self._looked = self._looked, perf_counter()
        if select.select([self._descriptor], [], [], 0)[0]:
            self._take(before)

    def _wait(self) -> None:
        """Until something comes."""
        select.select([self._descriptor], [], [])
        self._looked = perf_counter()
        self._take(self._looked)

    def _take(self, arrived: float) -> None:
        found = os.read(self._descriptor, ROOM)
        self._ended = not found
        if found and not self._may_end_a_line(found):
            self._begun.append(found)
            self._check_length()
            return
        text, self._begun = b"".join([*self._begun, found]), []
        lines = text.splitlines(keepends=True)
        if found and not text.endswith(b"\n"):
            self._begun = [lines.pop()]
        self._lines.extend((line, arrived) for line in lines)
        self._held += sum(map(len, lines))

    def _may_end_a_line(self, found: bytes) -> bool:
        """Or begin one, after the mere "\\r" that ended the line before."""
        return b"\n" in found or b"\r" in found or any(part.endswith(b"\r") for part in self._begun[-1:])

    def _check_length(self) -> None:
        if sum(map(len, self._begun)) > LONGEST:
            raise StreamError(f"a line of standard input has more than {LONGEST:,} bytes")
