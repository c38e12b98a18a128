"""When the source announces a cut, and at which tick: far enough ahead that nobody has passed it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

FAR = 2**62  # ticks
OUTSTANDING = 2  # cuts announced of which nobody knows yet that they are whole


@dataclass(frozen=True)
class CutSchedule:
    """Ticks, and seconds, from one cut to the next; None: no cut for that reason."""

    every_ticks: int | None = None
    every_seconds: float | None = None


class Cutter:
    """The cuts of one generation, announced one after another.

    schedule: None: there are none.  origin: the tick it begins with, from which `step` counts: cuts fall on whole holds
    and chunks.  lead: ticks from an announcement to its cut, at least.  slack: ticks of a message, after which it looks
    again.  soon: set by whoever wants a cut out of turn.  pending: the tick announced and not reached; −1: none.
    """

    def __init__(
        self,
        schedule: CutSchedule | None,
        origin: int,
        step: int,
        lead: int,
        slack: int,
        soon: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on, self._every = schedule is not None, schedule or CutSchedule()
        self._origin, self._step = origin, step
        self._lead, self._slack, self._soon, self._clock = lead, slack, soon, clock
        self._last, self._since = origin, clock()
        self._open: set[int] = set()
        self._lock = threading.Lock()
        self.pending = -1

    def look(self, tick: int) -> int:
        """The cut that is announced at this tick, or was; −1: none is due."""
        if not self.on:
            return -1
        if self.pending < 0 and (self._soon.is_set() or (self._due(tick) and len(self._open) < OUTSTANDING)):
            self._soon.clear()
            self._announce(tick)
        return self.pending

    def reached(self, tick: int) -> bool:
        """Whether this is the tick that was announced; the next may be announced then."""
        if tick != self.pending:
            return False
        self.pending = -1
        return True

    def left(self, tick: int) -> int:
        """Ticks until the cut that was announced; very many where none was."""
        return FAR if self.pending < 0 else self.pending - tick

    def ended(self) -> bool:
        """Whether the cut that was asked for out of turn is done; never where there are none."""
        return self.on and self.pending < 0 and not self._soon.is_set()

    def void(self) -> None:
        """What was announced will not be reached."""
        with self._lock:
            self._open.discard(self.pending)
        self.pending = -1

    def whole(self, tick: int) -> None:
        """That cut, and so all before it, need not be waited for; from any thread."""
        with self._lock:
            self._open = {each for each in self._open if each > tick}

    def give_up(self, tick: int) -> None:
        """That cut will never be whole; from any thread."""
        with self._lock:
            self._open.discard(tick)

    def _due(self, tick: int) -> bool:
        ticks, seconds = self._every.every_ticks, self._every.every_seconds
        if ticks is not None and tick + self._lead + self._slack >= self._last + ticks:
            return True
        return seconds is not None and self._clock() - self._since >= seconds

    def _announce(self, tick: int) -> None:
        at = tick + self._lead
        if (ticks := self._every.every_ticks) is not None and at <= self._last + ticks <= at + self._slack:
            at = self._last + ticks
        self.pending = self._origin + -(-(at - self._origin) // self._step) * self._step
        self._last, self._since = self.pending, self._clock()
        with self._lock:
            self._open.add(self.pending)
