"""Prequential metrics: loss, accuracy and mean absolute error, added up on the device and fetched seldom.

A loss's metrics go to metrics.jsonl in windows, closed where a run in one process would write a line.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


class TargetClasses(NamedTuple):
    """How targets are classes.  dim: that of the output along which they lie.  none: those that say there is none."""

    dim: int
    none: tuple[int, ...]


def logit_accuracy(output: Tensor, target: Tensor) -> Tensor:
    """The number of rows whose output is above 0 where the target is 1: a logit.

    Shapes: output [R, …] with target [R, …], or [R, 1] with [R], of 0s and 1s; of several in a row the mean counts.
    """
    right = (output.reshape(len(output), -1) > 0) == (target.reshape(len(target), -1) > 0.5)
    return right.double().mean(dim=1).sum()


def accuracy(classes: TargetClasses, output: Tensor, target: Tensor) -> Tensor:
    """The number of rows whose largest output is at the target's class.

    Shapes: output [R, C, …], or with the classes along another dimension, and target [R, …]; of several positions in a
    row the mean counts, over those that have a target.
    """
    right = output.argmax(dim=classes.dim) == target
    if target.dim() == 1:
        return right.double().sum()
    known = torch.ones_like(right)
    for none in classes.none:
        known = known & (target != none)
    known = known.reshape(len(known), -1)
    counted = right.reshape(known.shape) & known
    return (counted.double().sum(dim=1) / known.double().sum(dim=1).clamp(min=1)).sum()


def absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """The sum over rows of the mean absolute difference."""
    return (output - target).abs().reshape(len(output), -1).double().mean(dim=1).sum()


LOGITS = ("bce_with_logits", "binary_cross_entropy_with_logits", "BCEWithLogitsLoss")


def metrics_for(
    loss: str, output: Tensor, target: Tensor, classes: TargetClasses | None = None
) -> dict[str, Metric]:
    """Accuracy where the targets are classes, the mean absolute error where they are numbers like the output.

    classes: how the loss reads them; None where that is not known: then as the shapes say, where they say it.
    """
    if loss in LOGITS:
        return {"accuracy": logit_accuracy}
    if target.is_floating_point():
        return {"mae": absolute_error} if output.shape == target.shape else {}
    if classes is None and (output.shape == target.shape or output.shape[1:] == (1,)):
        return {"accuracy": logit_accuracy}
    if classes is None and (dim := only_dim(output, target)) is not None:
        classes = TargetClasses(dim, ())
    return {} if classes is None else {"accuracy": partial(accuracy, classes)}


def only_dim(output: Tensor, target: Tensor) -> int | None:
    """The dimension without which an output has the shape of a target; None where there is none, or more than one."""
    shape = tuple(output.shape)
    found = [dim for dim in range(1, output.dim()) if shape[:dim] + shape[dim + 1 :] == tuple(target.shape)]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Cut:
    """Sums over `rows` rows, by metric.  unlabelled: rows beside them that had no target.  skipped: rows whose loss is
    not finite and was left out.
    """

    rows: int
    sums: dict[str, float]
    unlabelled: int = 0
    skipped: int = 0

    def plus(self, other: "Cut") -> "Cut":
        return Cut(
            self.rows + other.rows,
            {name: s + other.sums[name] for name, s in self.sums.items()},
            self.unlabelled + other.unlabelled,
            self.skipped + other.skipped,
        )

    def means(self) -> dict[str, float]:
        """The means, where there are rows, and how many were unlabelled, or skipped, if any were."""
        means = {name: total / self.rows for name, total in self.sums.items()} if self.rows else {}
        beside = {"unlabelled": self.unlabelled, "skipped": self.skipped}
        return means | {name: rows for name, rows in beside.items() if rows}


class Sums(NamedTuple):
    """Over rows, since the start and since the last cut: how many rows, and the sums [1 + number of metrics], float64.

    Both are added up apart, so that no total depends on where the cuts were. The tensors are written into.
    unlabelled: rows beside them that had no target.  skipped: those whose loss was left out.
    """

    rows: int = 0
    window_rows: int = 0
    total: Tensor | None = None
    window: Tensor | None = None
    unlabelled: int = 0
    window_unlabelled: int = 0
    skipped: int = 0
    window_skipped: int = 0


class Scores:
    """Adds up metrics.  state: the sums, which are all that moves."""

    def __init__(self, metrics: dict[str, Metric]) -> None:
        self.metrics = metrics
        self.state = Sums()

    @property
    def rows(self) -> int:
        """Those scored since the start."""
        return self.state.rows

    @property
    def predicted(self) -> int:
        """These, those without a target, and those whose loss was left out."""
        return self.state.rows + self.state.unlabelled + self.state.skipped

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

    def count(self, rows: int, unlabelled: int = 0, skipped: int = 0) -> None:
        """Rows whose sums somebody else added to `sums`, and those that have none."""
        before = self.state
        self.state = before._replace(
            rows=before.rows + rows,
            window_rows=before.window_rows + rows,
            unlabelled=before.unlabelled + unlabelled,
            window_unlabelled=before.window_unlabelled + unlabelled,
            skipped=before.skipped + skipped,
            window_skipped=before.window_skipped + skipped,
        )

    def sums(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The tensors [1 + number of metrics] that hold the sums since the start and since the last cut."""
        total, window = self.state.total, self.state.window
        if total is None:
            total = torch.zeros(1 + len(self.metrics), dtype=torch.float64, device=device)
        if window is None:
            window = torch.zeros_like(total)
            self.state = self.state._replace(total=total, window=window)
        return total, window

    def cut(self) -> Cut | None:
        """The sums since the last cut; None if nothing came."""
        rows, window = self.state.window_rows, self.state.window
        beside = self.state.window_unlabelled, self.state.window_skipped
        self.state = self.state._replace(window_rows=0, window=None, window_unlabelled=0, window_skipped=0)
        if not rows and not any(beside):
            return None
        return Cut(
            rows, self._named(torch.zeros(1 + len(self.metrics)) if window is None else window), *beside
        )

    def window(self) -> dict[str, float]:
        """The means since the last cut, which this one is then; {} if nothing came."""
        cut = self.cut()
        return {} if cut is None else cut.means()

    def total(self) -> dict[str, float]:
        """The means since the start, and how many rows were unlabelled, or skipped, if any; {} if nothing ever came."""
        state = self.state
        sums = {} if state.total is None or not state.rows else self._named(state.total)
        return Cut(state.rows, sums, state.unlabelled, state.skipped).means()

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

    def go_on(self, ticks: int) -> None:
        """So many were done before; what closed in them is told already."""
        self._next = (ticks // self._hold * self._batch // self._every + 1) * self._every

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
            self._closed.append(Window(ticks, self._scores.predicted, cut))

    def take(self) -> list[Window]:
        """Those closed since the last call, from any thread."""
        taken = []
        while self._closed:
            taken.append(self._closed.popleft())
        return taken
