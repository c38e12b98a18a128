"""Ctrl-C and SIGTERM at moments that lose nothing.

Before there is anything to lose, either ends the program at once. While a run learns, Ctrl-C asks for its end: what has
entered is learnt, and the hold-out tested. SIGTERM, or Ctrl-C again, breaks off: what has entered is learnt within
GRACE_SECONDS or not at all, nothing is tested. What was learnt is written in either case, and a file in work is ended.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from hamdist.errors import RunError
from hamdist.leaving import NAMES
from hamdist.signal_mask import ENDING, signals_wait

Item = TypeVar("Item")
GRACE_SECONDS = 2.0  # for what has entered to be learnt
ASKED = "%s: what has entered is learnt, then the run ends; once more breaks off"
_log = logging.getLogger(__name__)
_current: "Interruption | None" = None  # of this process


class Signalled(KeyboardInterrupt):
    """A signal, and not a KeyboardInterrupt that the user's own code raises."""


class BrokenOff(Signalled):
    """It ended what was under way.  saved: what is left of it, in words; "" where there was nothing."""

    def __init__(self, number: int, saved: str = "") -> None:
        super().__init__(number)
        self.number, self.saved = number, saved

    def __str__(self) -> str:
        name = NAMES.get(self.number, "interrupted")
        return f"{name}; {self.saved}" if self.saved else name


class Asked(Signalled):
    """It wakes whoever waits for the next item."""


class Interruption:
    """asked: whether the user has asked for the end.  broken: the signal that breaks off, None while there is none.
    insisted: whether another one came after it, since writing began.  saved: what has been written, in words.
    asking: the signals that ask for the end when they come first.  grace_seconds: for what has entered to be learnt
    when a signal breaks off.
    """

    def __init__(self, asking: Sequence[int] = (signal.SIGINT,)) -> None:
        self.asked, self.insisted = False, False
        self._asking, self.grace_seconds = asking, GRACE_SECONDS
        self.broken: int | None = None
        self.saved = ""
        self._stage = "starting"
        self._waiting = False
        self._again: threading.Timer | None = None
        self._repeated = False  # whether the next signal is only the last one again

    # For whoever is at work

    @property
    def ending(self) -> bool:
        """Whether a signal asks for the end, or breaks off."""
        return self.asked or self.broken is not None

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Within it the first Ctrl-C is a request. Raises BrokenOff at its end where a signal breaks off."""
        self.check()
        self._stage = "learning"
        try:
            yield
        finally:
            if self._stage == "learning":
                self._stage = "starting"
        self.check()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within it nothing is broken off, nor afterwards: what follows only clears up.

        Where a signal breaks off, a RunError, which says what could not be written, becomes a BrokenOff that says it.
        """
        self._stage, self.insisted = "writing", False
        try:
            yield
        except RunError as error:
            self.saved = str(error)
            self.check()
            raise
        finally:
            self._stage = "closing"

    def until_asked(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, until a signal asks for the end; the item in work is finished first."""
        iterator = iter(items)
        try:
            while True:
                self._waiting = True  # before this look, or a signal between them would go unheard
                if self.asked or self.broken:
                    return
                item = next(iterator)
                self._waiting = False
                yield item
        except (StopIteration, Asked):
            return
        finally:
            self._waiting = False

    def unless_insisted(self, fetch: Callable[[], Item]) -> Item:
        """What is to be written next. Raises RunError where a signal came after the one that breaks off."""
        if self.insisted:
            raise RunError("another signal came before it was written")
        return fetch()

    def check(self) -> None:
        """Raises BrokenOff where a signal breaks off."""
        if self.broken is not None:
            self._stage = "closing"
            raise BrokenOff(self.broken, self.saved)

    # For signals

    def handle(self, number: int, frame: FrameType | None) -> None:
        """A signal came."""
        again, self._repeated = self._repeated, False
        first, waiting = self.broken is None, self._waiting
        if first and number in self._asking and self._stage == "learning" and not self.asked:
            self.asked = True
            _log.warning(ASKED, "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        else:
            self.broken = self.broken or number
            self.insisted |= not (first or again)
            self._break_off(number, first)
        if waiting:
            raise Asked

    def _break_off(self, number: int, first: bool) -> None:
        """At once where nothing is lost by it, or where it is the second time that a signal says so."""
        if self._stage == "learning" and first:
            self._later(number)
        elif self._stage in ("starting", "learning"):
            self.check()

    def _later(self, number: int) -> None:
        """The same signal comes again, so that what takes long is left in its midst."""
        main = threading.main_thread().ident
        assert main is not None
        self._again = threading.Timer(self.grace_seconds, self._repeat, (main, number))
        self._again.daemon = True
        self._again.start()

    def _repeat(self, main: int, number: int) -> None:
        if self._stage == "learning":
            self._repeated = True
            signal.pthread_kill(main, number)

    def close(self) -> None:
        """No signal comes from here any more."""
        if self._again is not None:
            self._again.cancel()
            self._again.join()


@contextmanager
def interruptible(asking: Sequence[int] = (signal.SIGINT,)) -> Iterator[Interruption]:
    """Within it Ctrl-C and SIGTERM are requests; outside the main thread signals are left alone. Within another one it
    is that one. Raises BrokenOff at its end where a signal came too late to break anything off.  asking: as of an
    Interruption.
    """
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield _current or Interruption()
        return
    _current = interruption = Interruption(asking)
    before = {number: signal.signal(number, interruption.handle) for number in ENDING}
    try:
        yield interruption
        interruption.check()
    finally:
        _current = None
        interruption.close()
        with signals_wait():
            for number, handler in before.items():
                signal.signal(number, handler)
