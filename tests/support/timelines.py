"""What a run tells its timeline, heard: every tick, and which ticks ran as one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise

from hamdist.engine.profiler import Timeline
from hamdist.report.profile import Kind, Profile

TOGETHER = "all layers"  # where the time of ticks goes that run as one


class AfterEveryTick(Timeline):
    """Calls `observe` with the number of a tick when the next one begins; nobody tells it of the last one."""

    def __init__(self, observe: Callable[[int], None]) -> None:
        self._observe = observe

    def begin(self, tick: int) -> None:
        if tick:
            self._observe(tick - 1)


class Together(Timeline):
    """Which ticks ran as one."""

    def __init__(self) -> None:
        self._begun: list[int] = []
        self._together: set[int] = set()  # of these

    def begin(self, tick: int) -> None:
        self._begun.append(tick)

    def span(self, kind: Kind, where: str = "") -> AbstractContextManager[None]:
        return _Note(self._note) if where == TOGETHER else super().span(kind, where)

    def lengths(self, ticks: int) -> list[int]:
        """How many ticks went in one go, each time that all layers ran as one, after so many ticks."""
        return [end - start for start, end in pairwise([*self._begun, ticks]) if start in self._together]

    def _note(self) -> None:
        self._together.add(self._begun[-1])


class _Note(AbstractContextManager[None]):
    """Calls a function whenever it is entered."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note

    def __enter__(self) -> None:
        self._note()

    def __exit__(self, *_: object) -> None:
        pass


def together(profile: Profile) -> list[int]:
    """As Together.lengths, of a recorded loop."""
    heard = Together()
    for span in profile.spans:
        heard.begin(span.tick)
        with heard.span(span.kind, span.where):
            pass
    return [length for length in heard.lengths(profile.ticks) if length]
