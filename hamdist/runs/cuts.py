"""The cuts of a run over actors, as their parts come: those that are whole become checkpoints."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hamdist.cluster.cut_keeper import PartNews
from hamdist.cluster.source_part import SourcePart

OLDER = 4  # whole ones that are remembered beside the newest
_log = logging.getLogger(__name__)
Commit = Callable[[SourcePart, Sequence[Any]], None]
"""Makes a checkpoint of the source's part and of what the actors' writers returned. Raises OSError, RunError."""


@dataclass
class CutCounts:
    """written, failed: cuts.  tick: of the newest that is whole.  paused: the longest time for which ticks stood still
    for one, in seconds.  seconds: the longest it took to write one.
    """

    written: int = 0
    failed: int = 0
    tick: int = 0
    paused: float = 0.0
    seconds: float = 0.0

    def told(self) -> dict[str, Any]:
        """Of a summary."""
        return {
            "written": self.written,
            "failed": self.failed,
            "last_tick": self.tick,
            "longest_pause_seconds": round(self.paused, 4),
            "longest_write_seconds": round(self.seconds, 3),
        }


class Cuts:
    """actors: how many there are.  commit: what makes a checkpoint.  abandon: leaves nothing of one that cannot be.

    newest: the source's part of the newest cut that is whole, at first of that which the run goes on from; None while
    there is none.  reached: the tick that the run has come to, as far as is known.
    """

    def __init__(
        self, actors: int, commit: Commit, abandon: Callable[[int], None], newest: SourcePart | None = None
    ) -> None:
        self._actors, self._commit, self._abandon = actors, commit, abandon
        self._whole: list[SourcePart] = [] if newest is None else [newest]
        self.reached = 0
        self.counts = CutCounts(tick=newest.tick if newest else 0)
        self._sources: dict[int, SourcePart] = {}
        self._parts: dict[int, dict[int, PartNews]] = {}
        self._given_up: list[int] = []

    @property
    def newest(self) -> SourcePart | None:
        """The source's part."""
        return self._whole[-1] if self._whole else None

    def spoilt(self) -> None:
        """The newest cannot be gone back to: the one before it is the newest."""
        self._whole.pop()

    @property
    def awaited(self) -> bool:
        """Whether parts of a cut are under way."""
        return bool(self._sources)

    def entered(self, sources: Sequence[SourcePart]) -> None:
        """Cuts that the source has made."""
        self._sources |= {source.tick: source for source in sources}

    def add(self, news: Mapping[int, Sequence[PartNews]]) -> int | None:
        """Parts of actors, by number; the tick of the newest cut that is whole by them, if any is."""
        for number, parts in news.items():
            for part in parts:
                self._parts.setdefault(part.tick, {})[number] = part
        ready = [tick for tick in self._sources if len(self._parts.get(tick, ())) == self._actors]
        whole = [tick for tick in sorted(ready) if self._is_whole(tick)]
        return whole[-1] if whole else None

    def given_up(self) -> list[int]:
        """Cuts since the last call that cannot be gone back to."""
        ticks, self._given_up = self._given_up, []
        return ticks

    def go_back(self, tick: int) -> None:
        """What came after it never was."""
        self._sources, self._parts, self._given_up = {}, {}, []
        self.counts.tick = tick

    def _is_whole(self, tick: int) -> bool:
        """Makes the checkpoint of a cut of which all parts have come; whether it could be."""
        source, parts = self._sources.pop(tick), self._parts.pop(tick)
        self._sources = {known: part for known, part in self._sources.items() if known > tick}
        self._parts = {known: part for known, part in self._parts.items() if known > tick}
        problems = dict.fromkeys(part.problem for part in parts.values() if part.problem)
        try:
            if not problems:
                self._commit(source, [file for part in parts.values() for file in part.files])
        except Exception as error:
            problems = {str(error): None}
        self._count(parts.values(), tick, not problems)
        if problems:
            self._abandon(tick)
            _log.warning("no checkpoint at tick %d: %s; the run goes on", tick, "; ".join(problems))
            self._given_up.append(tick)
            return False
        self._whole = [*self._whole[-OLDER:], source]
        return True

    def _count(self, parts: Any, tick: int, whole: bool) -> None:
        counts = self.counts
        counts.paused = max(counts.paused, *(part.paused for part in parts))
        counts.seconds = max(counts.seconds, *(part.seconds for part in parts))
        counts.written, counts.failed = counts.written + whole, counts.failed + (not whole)
        counts.tick = tick if whole else counts.tick
