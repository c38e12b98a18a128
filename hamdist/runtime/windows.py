"""A loss's metrics in windows, closed where an inline run would write a line of metrics.jsonl."""

from collections import deque
from dataclasses import dataclass

from hamdist.report.metrics import Cut, Scores


@dataclass(frozen=True)
class Window:
    """ticks: those done when it closed.  predicted: samples predicted until then.  cut: the sums since the last one."""

    ticks: int
    predicted: int
    cut: Cut

    def followed_by(self, later: "Window") -> "Window":
        """Both as one."""
        return Window(later.ticks, later.predicted, self.cut.plus(later.cut))


class Windows:
    """Closes one whenever as many samples as `every` have entered the network since.

    That follows from the ticks, since all batches but the last are full: `batch` rows for `hold` ticks each.
    """

    def __init__(self, scores: Scores, batch: int, hold: int, every: int) -> None:
        self._scores, self._batch, self._hold, self._every = scores, batch, hold, every
        self._next = every
        self._closed: deque[Window] = deque()

    def after(self, ticks: int) -> None:
        """To be called after every tick."""
        entered = ticks // self._hold * self._batch
        if entered >= self._next:
            self._next = (entered // self._every + 1) * self._every
            self.close(ticks)

    def close(self, ticks: int) -> None:
        """Closes the open one, where anything came."""
        cut = self._scores.cut()
        if cut is not None:
            self._closed.append(Window(ticks, self._scores.rows, cut))

    def take(self) -> list[Window]:
        """Those closed since the last call, from any thread."""
        taken = []
        while self._closed:
            taken.append(self._closed.popleft())
        return taken
