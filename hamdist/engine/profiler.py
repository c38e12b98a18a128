"""Where an actor's time goes, span by span: a recording of it, or silence, chosen once before the loop.

What takes time holds its span from the start, and enters it whenever it happens:

    self._computing = timeline.span("compute", "block1")
    ...
    with self._computing:
        ...

Code that knows its own times says them: `timeline.record("compute", start, end, tick)`. Spans of one timeline must not
overlap, and all belong to one thread.
"""

from collections import deque
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter_ns, time_ns
from types import TracebackType

from hamdist.report.profile import KINDS, Kind, Profile, Span

LAST_TICKS = 2000  # of which a recording keeps the spans
LAST_SPANS = 50_000  # that it keeps at most
READINGS = 5  # of two clocks side by side

_NOTHING = nullcontext()


class Timeline:
    """Silence: it keeps nothing."""

    def start(self) -> None:
        """The loop begins."""

    def begin(self, tick: int) -> None:
        """The spans to come belong to this tick."""

    def span(self, kind: Kind, where: str = "") -> AbstractContextManager[None]:
        """What to enter whenever this happens.  where: the layer, the loss, or the edge."""
        return _NOTHING

    def record(self, kind: Kind, start: int, end: int, tick: int, where: str = "") -> None:
        """A span that has ended.  start, end: by time.perf_counter_ns."""

    def profile(self, ticks: int) -> Profile | None:
        """What the loop, which ends now after so many ticks, came to; None of silence."""
        return None


SILENT = Timeline()


class Recording(Timeline):
    """Sums of all the loop, and the spans of its last ticks, so that its memory is bounded however long it goes on."""

    def __init__(self) -> None:
        self.tick = 0
        self._spent: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self._spans: deque[Span] = deque(maxlen=LAST_SPANS)
        self.start()

    def start(self) -> None:
        self._epoch = epoch()
        self._started = perf_counter_ns()

    def begin(self, tick: int) -> None:
        self.tick = tick

    def span(self, kind: Kind, where: str = "") -> AbstractContextManager[None]:
        return _Recorded(self, kind, where)

    def record(self, kind: Kind, start: int, end: int, tick: int, where: str = "") -> None:
        self._spent[kind] += end - start
        self._spans.append(Span(kind, tick, start + self._epoch, end - start, where))

    def profile(self, ticks: int) -> Profile:
        took = perf_counter_ns() - self._started
        kept = tuple(span for span in self._spans if span.tick >= ticks - LAST_TICKS)
        return Profile(ticks, took, dict(self._spent), kept)


class _Recorded:
    """One kind of span at one place."""

    def __init__(self, recording: Recording, kind: Kind, where: str) -> None:
        self._recording, self._kind, self._where = recording, kind, where
        self._start = 0

    def __enter__(self) -> None:
        self._start = perf_counter_ns()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._recording.record(self._kind, self._start, perf_counter_ns(), self._recording.tick, self._where)


def timeline_of(profile: bool) -> Timeline:
    """A recording if the run is to be profiled, else silence."""
    return Recording() if profile else SILENT


def epoch() -> int:
    """What to add to time.perf_counter_ns for nanoseconds since the epoch.

    Of several readings the one that took least, since between its two clocks another process may have run.
    """
    readings = []
    for _ in range(READINGS):
        before, wall, after = perf_counter_ns(), time_ns(), perf_counter_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]
