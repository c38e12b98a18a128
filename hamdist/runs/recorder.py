"""Writes down what comes of a run, wherever it runs: lines of metrics on its way, then its weights and its summary."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any

from hamdist.engine.kept import Kept
from hamdist.errors import RunError
from hamdist.report.metrics import Cut, Window
from hamdist.report.progress import Snapshot
from hamdist.runs.answers import Answers
from hamdist.runs.record import RunDirectory, weights_file
from hamdist.runs.results import Results, summarise

OnProgress = Callable[[Snapshot], None]
SECONDS_BETWEEN_SNAPSHOTS = 0.25
NOTHING: dict[str, Any] = {"seconds": 0.0, "ticks": 0, "lines": 0, "told": 0, "waiting": [], "answered": -1}
"""The position of a run that begins: seconds, ticks, lines of metrics and the samples at the last of them, windows that
wait for their line, and the last sample whose prediction has left."""


class Recorder:
    """total: samples that the stream promises, None where it does not.  answers: where predictions go, if anywhere.
    begun: when the command or the call began, by time.perf_counter; None: now.

    batch, hold: rows of a full batch, and the ticks for which it is presented.  every: samples between two lines.
    before: what a run that goes on had written down, as `position` has it.

    A window that comes again, since ticks were done again, is left out.
    """

    def __init__(
        self,
        directory: RunDirectory,
        on_progress: OnProgress | None,
        total: int | None,
        batch: int,
        hold: int,
        every: int,
        answers: Answers | None = None,
        begun: float | None = None,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory, self.answers = directory, answers
        self.total = total
        self.started = time.perf_counter()
        self._begun = self.started if begun is None else begun
        known = {**NOTHING, **(before or {})}
        self._seconds_before = known["seconds"]
        self._on_progress = on_progress
        self._latest: dict[str, float] = {}
        self._next_snapshot = self.elapsed + SECONDS_BETWEEN_SNAPSHOTS
        self._batch, self._hold, self._every = batch, hold, every
        self._lines, self._told = known["lines"], known["told"]
        self._next_line = (self._told // every + 1) * every
        self._waiting = deque(_window(*told) for told in known["waiting"])
        self._heard_of = known["ticks"]
        self._recent: deque[tuple[int, int]] = deque()  # ticks and samples of lines since the last position

    @property
    def elapsed(self) -> float:
        """Seconds since the start, those of before included."""
        return self._seconds_before + time.perf_counter() - self.started

    def position(self, tick: int) -> dict[str, Any]:
        """What is written down of the ticks before this one, which a run that goes on from it is told; as JSON has it.

        Ticks do not fall from one call to the next.
        """
        while self._recent and self._recent[0][0] <= tick:
            self._lines, self._told = self._lines + 1, self._recent.popleft()[1]
        waiting = [window for window in self._waiting if window.ticks <= tick]
        return {
            "seconds": self.elapsed,
            "ticks": tick,
            "lines": self._lines,
            "told": self._told,
            "waiting": [
                [w.ticks, w.predicted, w.cut.rows, w.cut.sums, w.cut.unlabelled, w.cut.skipped]
                for w in waiting
            ],
            "answered": -1 if self.answers is None else self.answers.last,
        }

    def add(self, windows: Iterable[Window], entered_ticks: int, entered: int) -> None:
        """A line for every window in which samples entered; those that closed later belong to the last line.

        entered_ticks: in which samples entered, and how many did, as far as is known.
        """
        for window in windows:
            if window.ticks > self._heard_of:
                self._heard_of = window.ticks
                self._waiting.append(window)
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
        self._recent.append((ticks, samples))

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
        weights: Mapping[str, Callable[[], Kept]],
        error: Exception | None = None,
        lost: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The last line, the weights layer by layer, and the summary, which is returned.

        weights: what gives those of a layer, by its name.  lost: the layers whose weights nobody has.
        Whatever fails, the rest is written, and the summary says what is missing; raises RunError then. An interruption
        leaves the weights that were not written yet, and is raised again after the summary.
        """
        learnt = time.perf_counter()
        self.close(results.samples, results.ticks)
        if self.answers is not None and self.answers.problem:
            self.directory.missing[self.answers.path] = self.answers.problem
        interruption: BaseException | None = None
        try:
            self.directory.write(weights, results.profiles)
        except (KeyboardInterrupt, SystemExit) as raised:
            interruption = raised
        summary = summarise(results, status, self._phases(learnt), error) | self._written(lost)
        self.directory.write_summary(summary)
        if interruption is not None:
            raise interruption
        if incomplete := self.directory.incomplete:
            raise RunError(incomplete if error is None else f"{error}; {incomplete}") from error
        return {**summary, "directory": str(self.directory.path)}

    def _phases(self, learnt: float) -> dict[str, float]:
        """Seconds until the first tick, until the last one, and since; and of before, where a run goes on.

        learnt: when the last tick had ended.
        """
        now = time.perf_counter()
        before = {"before": self._seconds_before} if self._seconds_before else {}
        now_on = {"start": self.started - self._begun, "learning": learnt - self.started, "end": now - learnt}
        return before | now_on

    def _written(self, lost: Iterable[str]) -> dict[str, Any]:
        """Which tensors were written, by layer, and what is missing of the run directory, where anything is."""
        gone = {weights_file(name): "lost with its actor" for name in lost}
        missing, told = gone | self.directory.missing, {}
        if self.answers is not None:
            told = self.answers.told()
        return {**told, "weights": self.directory.weights, **({"missing": missing} if missing else {})}


def _window(
    ticks: int, predicted: int, rows: int, sums: dict[str, float], unlabelled: int, skipped: int
) -> Window:
    """As a position tells it."""
    return Window(ticks, predicted, Cut(rows, sums, unlabelled, skipped))
