"""A stream read ahead, in a thread of its own."""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
GLANCE_SECONDS = 0.1  # between two looks at whether the end was asked for


class Ahead(Generic[Item]):
    """Reads an iterator in a thread of its own, so that nobody who waits for it is deaf.

    count: items that it is ahead. It goes on when half of them are taken, and hands over what there is: between two
    threads that take turns at every item, Python spends more than most items are worth.
    """

    def __init__(self, items: Iterator[Item], count: int) -> None:
        self.count = count
        self._read: deque[Item] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._pull, args=(items,), daemon=True, name="hamdist-stream").start()

    def _pull(self, items: Iterator[Item]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                with self._changed:
                    if self._ended:
                        return
                    self._read.append(item)
                    self._changed.notify()
                    if len(self._read) >= self.count:
                        self._changed.wait_for(self._may_go_on)
        except BaseException as raised:
            error = raised
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def _may_go_on(self) -> bool:
        return self._ended or len(self._read) <= self.count // 2

    def take(self, asked: threading.Event, most: int, seconds: float = math.inf) -> list[Item]:
        """The next items, as many as are there and at most so many; none at the end. No more are read once `asked` is
        set.

        Raises what the iterator raised, and TimeoutError where nothing came for so many seconds.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (self._read or self._ended or asked.is_set()):
                if not self._changed.wait(min(GLANCE_SECONDS, seconds)) and time.monotonic() > deadline:
                    raise TimeoutError
            self._ended |= asked.is_set()
            taken = [self._read.popleft() for _ in range(min(most, len(self._read)))]
            self._changed.notify()
            if not taken and self._error is not None:
                raise self._error
            return taken

    def give_back(self, item: Item) -> None:
        """It is the next to be taken, again."""
        with self._changed:
            self._read.appendleft(item)

    def close(self) -> None:
        """Nothing more is read, but for what is being read just now; what was read is dropped."""
        with self._changed:
            self._ended = True
            self._read.clear()
            self._changed.notify()
