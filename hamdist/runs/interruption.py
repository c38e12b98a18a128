"""Ctrl-C or SIGTERM at a moment that loses nothing: between two batches, or while a stream is being waited for."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")


class Interruption:
    """asked: whether the user has asked for the end."""

    def __init__(self) -> None:
        self.asked = False
        self._waiting = False

    def until_asked(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, until the user asks for the end; the item in work is finished first."""
        iterator = iter(items)
        try:
            while True:
                self._waiting = True  # before the look at `asked`, or a signal between them would go unheard
                if self.asked:
                    return
                item = next(iterator)
                self._waiting = False
                yield item
        except (StopIteration, KeyboardInterrupt):
            return
        finally:
            self._waiting = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The first signal asks for the end; a second one, or one that finds us waiting, breaks off."""
        again, self.asked = self.asked, True
        if again or self._waiting:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within it Ctrl-C and SIGTERM are requests; outside the main thread signals are left alone."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {
        number: signal.signal(number, interruption.handle) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
