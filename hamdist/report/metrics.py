"""Prequential metrics: loss, accuracy and mean absolute error, added up on the device and fetched seldom.

A loss's metrics go to metrics.jsonl in windows, closed where a run in one process would write a line.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """The number of rows whose largest output is at the target's class; one output is a logit of class 1.

    Shapes: output [R, C, …] with target [R, …] of classes, or output [R] or [R, 1] with target of 0s and 1s.
    """
    if output.shape == target.shape or output.shape[1:] == (1,):
        right = (output.reshape(len(output), -1) > 0) == (target.reshape(len(target), -1) > 0.5)
    else:
        right = output.argmax(dim=1) == target
    return right.reshape(len(right), -1).double().mean(dim=1).sum()


def absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """The sum over rows of the mean absolute difference."""
    return (output - target).abs().reshape(len(output), -1).double().mean(dim=1).sum()


LOGITS = ("bce_with_logits", "binary_cross_entropy_with_logits", "BCEWithLogitsLoss")


def metrics_for(loss: str, output: Tensor, target: Tensor) -> dict[str, Metric]:
    """Accuracy where the targets are classes, the mean absolute error where they are numbers like the output."""
    if loss in LOGITS or not target.is_floating_point():
        return {"accuracy": accuracy}
    return {"mae": absolute_error} if output.shape == target.shape else {}


@dataclass(frozen=True)
class Cut:
    """Sums over `rows` rows, by metric."""

    rows: int
    sums: dict[str, float]

    def plus(self, other: "Cut") -> "Cut":
        return Cut(self.rows + other.rows, {name: s + other.sums[name] for name, s in self.sums.items()})

    def means(self) -> dict[str, float]:
        return {name: total / self.rows for name, total in self.sums.items()}


class Sums(NamedTuple):
    """Over rows, since the start and since the last cut: how many rows, and the sums [1 + number of metrics], float64.

    Both are added up apart, so that no total depends on where the cuts were. The tensors are written into.
    """

    rows: int = 0
    window_rows: int = 0
    total: Tensor | None = None
    window: Tensor | None = None


class Scores:
    """Adds up metrics.  state: the sums, which are all that moves."""

    def __init__(self, metrics: dict[str, Metric]) -> None:
        self.metrics = metrics
        self.state = Sums()

    @property
    def rows(self) -> int:
        """Those counted since the start."""
        return self.state.rows

    def add(self, loss: Tensor, output: Tensor, target: Tensor) -> None:
        """loss: mean over the rows; output, target: those rows."""
        self.count(len(output))
        each = self.of(loss, output, target)
        for added in self.sums(each.device):
            added.add_(each)

    def of(self, loss: Tensor, output: Tensor, target: Tensor) -> Tensor:
        """What these rows add to the sums."""
        rows = [metric(output, target) for metric in self.metrics.values()]
        return torch.stack([loss.detach().double() * len(output), *rows])

    def count(self, rows: int) -> None:
        """Rows whose sums somebody else added to `sums`."""
        rows_before, window_rows, *_ = self.state
        self.state = self.state._replace(rows=rows_before + rows, window_rows=window_rows + rows)

    def sums(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The tensors [1 + number of metrics] that hold the sums since the start and since the last cut."""
        _, _, total, window = self.state
        if total is None:
            total = torch.zeros(1 + len(self.metrics), dtype=torch.float64, device=device)
        if window is None:
            window = torch.zeros_like(total)
            self.state = self.state._replace(total=total, window=window)
        return total, window

    def cut(self) -> Cut | None:
        """The sums since the last cut; None if nothing came."""
        _, rows, _, window = self.state
        self.state = self.state._replace(window_rows=0, window=None)
        return Cut(rows, self._named(window)) if window is not None and rows else None

    def window(self) -> dict[str, float]:
        """The means since the last cut, which this one is then; {} if nothing came."""
        cut = self.cut()
        return {} if cut is None else cut.means()

    def total(self) -> dict[str, float]:
        """The means since the start; {} if nothing ever came."""
        rows, _, total, _ = self.state
        return self._named(total / rows) if total is not None and rows else {}

    def _named(self, sums: Tensor) -> dict[str, float]:
        return dict(zip(("loss", *self.metrics), sums.tolist(), strict=True))


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
