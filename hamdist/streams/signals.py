"""Online signals: predict a signal's value some steps ahead from its last values."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from hamdist.errors import Problem, StreamError
from hamdist.streams.position import Counted, Reading, counted
from hamdist.streams.settings import check_counts, is_count
from hamdist.streams.stream import Batch, make_batch
from hamdist.streams.waves import parse_waves

BLOCK = 1024
"""About how many samples are computed at once, for speed; it does not show in their values."""


class Signals(Counted):
    """Channels of signals, sampled every `step`: value k is taken at the time t = step · k.

    Sample n has the values n, …, n + window − 1 for its input, oldest first, channel after channel [R,
    channels · window], and the value n + window − 1 + ahead for its target [R, channels]. The rows of a batch
    are consecutive. Times come from the integer number of the value, never from a running sum.

    signal: see `hamdist.streams.waves.ACCEPTED`; a list gives several channels
    """

    def __init__(
        self,
        signal: Any,
        step: float = 0.1,
        window: int = 1,
        ahead: int = 1,
        batch_size: int = 1,
        samples: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_counts(batch_size=batch_size, samples=samples)
        _check_sampling(step, window, ahead)
        self._waves = parse_waves(signal)
        self._step, self._window, self._ahead = step, window, ahead
        self._batch_size, self._dtype = batch_size, dtype
        self.samples = samples

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        return counted(self._batches(start.taken), start)

    def _batches(self, first: int) -> Iterator[Batch]:
        last = math.inf if self.samples is None else self.samples
        block = self._batch_size * max(1, BLOCK // self._batch_size)
        while first < last:
            rows = self.rows(first, int(min(first + block, last)))
            assert rows.targets is not None
            yield from map(Batch, rows.inputs.split(self._batch_size), rows.targets.split(self._batch_size))
            first += block

    def rows(self, first: int, end: int) -> Batch:
        """The samples numbered from `first` up to, but without, `end`."""
        rows = end - first
        values = self._values(first, rows + self._window - 1 + self._ahead)
        windows = np.lib.stride_tricks.sliding_window_view(values, self._window, axis=1)[:, :rows]
        inputs = windows.transpose(1, 0, 2).reshape(rows, -1)
        return make_batch(torch.tensor(inputs), torch.tensor(values[:, -rows:].T), self._dtype)

    def _values(self, first: int, length: int) -> np.ndarray:
        """[channels, length] float64."""
        t = self._step * np.arange(first, first + length, dtype=np.float64)
        return np.stack([wave(t) for wave in self._waves])


def _check_sampling(step: float, window: int, ahead: int) -> None:
    problems = []
    if isinstance(step, bool) or not (isinstance(step, int | float) and 0 < step < math.inf):
        problems.append(Problem("step", f"must be a finite number above 0, not {step!r}"))
    if not is_count(window, 1):
        problems.append(Problem("window", f"must be a whole number of at least 1, not {window!r}"))
    if not is_count(ahead, 0):
        problems.append(Problem("ahead", f"must be a whole number of at least 0, not {ahead!r}"))
    if problems:
        raise StreamError(*problems)
