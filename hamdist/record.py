"""What a run tells while it goes: lines of metrics.jsonl in its directory, and snapshots for whoever watches."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import reduce

from hamdist.report.progress import Snapshot
from hamdist.run_directory import RunDirectory
from hamdist.runtime.windows import Window

OnProgress = Callable[[Snapshot], None]
SECONDS_BETWEEN_SNAPSHOTS = 0.25


class Record:
    """total: samples that the stream promises, None where it does not."""

    def __init__(self, directory: RunDirectory, on_progress: OnProgress | None, total: int | None) -> None:
        self.directory = directory
        self.total = total
        self.started = time.perf_counter()
        self._on_progress = on_progress
        self._latest: dict[str, float] = {}
        self._next_snapshot = SECONDS_BETWEEN_SNAPSHOTS

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def line(self, samples: int, predicted: int, ticks: int, means: Mapping[str, float]) -> None:
        """A line of metrics: the means since the last one."""
        self._latest = dict(means)
        where = {"samples": samples, "predicted": predicted, "ticks": ticks}
        self.directory.add_metrics({**where, "seconds": round(self.elapsed, 3), **means})

    def snapshot(self, ticks: int, samples: int, metrics: Callable[[], Mapping[str, float]]) -> None:
        """Shows how far the run is, now and then; metrics: what to show before the first line."""
        if self._on_progress is None or self.elapsed < self._next_snapshot:
            return
        elapsed = self.elapsed
        self._next_snapshot = elapsed + SECONDS_BETWEEN_SNAPSHOTS
        shown = self._latest or metrics()
        self._on_progress(Snapshot(ticks, samples, self.total, shown, samples / elapsed, elapsed))


class WindowRecord:
    """Windows of metrics that come from an actor, as the lines that a run in one process writes.

    A window that closed after the last sample had entered belongs to the last line.
    """

    def __init__(self, record: Record, batch: int, hold: int) -> None:
        self._record, self._batch, self._hold = record, batch, hold
        self._waiting: deque[Window] = deque()

    def add(self, windows: Iterable[Window], entered_ticks: int, entered: int) -> None:
        """entered_ticks: in which samples entered, and how many did, as far as is known."""
        self._waiting.extend(windows)
        while self._waiting and self._waiting[0].ticks <= entered_ticks:
            window = self._waiting.popleft()
            samples = min(window.ticks // self._hold * self._batch, entered)
            self._record.line(samples, window.predicted, window.ticks, window.cut.means())

    def close(self, samples: int, ticks: int) -> None:
        """The last line."""
        if self._waiting:
            last = reduce(Window.followed_by, self._waiting)
            self._record.line(samples, last.predicted, ticks, last.cut.means())
            self._waiting.clear()
