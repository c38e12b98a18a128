"""Writes down what comes of a run, wherever it runs: lines of metrics on its way, then its weights and its summary."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any

from torch import Tensor

from hamdist.report.metrics import Window
from hamdist.report.progress import Snapshot
from hamdist.runs.record import RunDirectory
from hamdist.runs.results import Results, summarise

OnProgress = Callable[[Snapshot], None]
SECONDS_BETWEEN_SNAPSHOTS = 0.25


class Recorder:
    """total: samples that the stream promises, None where it does not.

    batch, hold: rows of a full batch, and the ticks for which it is presented.  every: samples between two lines.
    """

    def __init__(
        self,
        directory: RunDirectory,
        on_progress: OnProgress | None,
        total: int | None,
        batch: int,
        hold: int,
        every: int,
    ) -> None:
        self.directory = directory
        self.total = total
        self.started = time.perf_counter()
        self._on_progress = on_progress
        self._latest: dict[str, float] = {}
        self._next_snapshot = SECONDS_BETWEEN_SNAPSHOTS
        self._batch, self._hold, self._every = batch, hold, every
        self._next_line = every
        self._waiting: deque[Window] = deque()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def add(self, windows: Iterable[Window], entered_ticks: int, entered: int) -> None:
        """A line for every window in which samples entered; those that closed later belong to the last line.

        entered_ticks: in which samples entered, and how many did, as far as is known.
        """
        self._waiting.extend(windows)
        while self._waiting and self._waiting[0].ticks <= entered_ticks:
            samples = min(self._waiting[0].ticks // self._hold * self._batch, entered)
            if samples < self._next_line:  # the last batch was short
                return
            self._next_line = (samples // self._every + 1) * self._every
            window = self._waiting.popleft()
            self._write(samples, window.ticks, window)

    def close(self, samples: int, ticks: int) -> None:
        """The last line."""
        if self._waiting:
            self._write(samples, ticks, reduce(Window.followed_by, self._waiting))
            self._waiting.clear()

    def _write(self, samples: int, ticks: int, window: Window) -> None:
        """A line of metrics: the means since the one before."""
        self._latest = window.cut.means()
        where = {"samples": samples, "predicted": window.predicted, "ticks": ticks}
        self.directory.add_metrics({**where, "seconds": round(self.elapsed, 3), **self._latest})

    def snapshot(self, ticks: int, samples: int, metrics: Callable[[], Mapping[str, float]]) -> None:
        """Shows how far the run is, now and then; metrics: what to show before the first line."""
        if self._on_progress is None or self.elapsed < self._next_snapshot:
            return
        elapsed = self.elapsed
        self._next_snapshot = elapsed + SECONDS_BETWEEN_SNAPSHOTS
        shown = self._latest or metrics()
        self._on_progress(Snapshot(ticks, samples, self.total, shown, samples / elapsed, elapsed))

    def finish(
        self,
        results: Results,
        status: str,
        weights: Iterable[tuple[str, Mapping[str, Tensor]]],
        error: Exception | None = None,
    ) -> dict[str, Any]:
        """The last line, the weights layer by layer, and the summary, which is returned."""
        self.close(results.samples, results.ticks)
        summary = summarise(results, status, self.elapsed, error)
        self.directory.finish(summary, weights, results.profiles)
        return {**summary, "directory": str(self.directory.path)}
