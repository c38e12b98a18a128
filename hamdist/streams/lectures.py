"""The signal school's lectures: signals to be brought forth from a description, one after another, and exams on them.

The protocol of arXiv 2409.12038: a lecture is a signal, some rounds of it from the start; then comes the next.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from hamdist.errors import Problem, StreamError, did_you_mean
from hamdist.streams.listing import listed
from hamdist.streams.position import Counted, Reading, counted
from hamdist.streams.settings import check_counts, is_count
from hamdist.streams.stream import Batch, make_batch
from hamdist.streams.waves import DESCRIPTIONS, SIGNAL_SCHOOL

TAUGHT = tuple(name for name in SIGNAL_SCHOOL if name != "squLfLa")


class Lectures(Counted):
    """One sample at a time: the description of a signal [1, 6], its words weighed to 1, and its value [1, 1] at t =
    step · index.

    Every round begins an episode, at index 0. The hold-out is an exam on each signal of `exams`, an episode each, in
    which the network is told its description and nothing else.

    signals: names of the signal school, in the order taught.  length: samples in a round, and in an exam.
    cycles: times that the whole curriculum is gone through.
    """

    def __init__(
        self,
        signals: Sequence[str] = TAUGHT,
        exams: Sequence[str] = tuple(SIGNAL_SCHOOL),
        rounds: int = 3,
        length: int = 1000,
        cycles: int = 1,
        step: float = 0.1,
        batch_size: int = 1,
        samples: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_counts(batch_size=batch_size, samples=samples)
        _check(signals, exams, batch_size, rounds=rounds, length=length, cycles=cycles)
        self._signals, self._exams = tuple(signals), tuple(exams)
        self._rounds, self._length, self._cycles = rounds, length, cycles
        self._step, self._dtype = step, dtype
        self._whole = cycles * len(signals) * rounds * length
        self.samples: int = self._whole if samples is None else min(samples, self._whole)

    @property
    def available(self) -> int | None:
        return self._whole

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        return counted(islice(self._lessons(start.taken), self.samples - start.taken), start)

    def _facts(self) -> dict[str, Any]:
        return {"signals": list(self._signals), "rounds": self._rounds, "length": self._length}

    def _lessons(self, first: int) -> Iterator[Batch]:
        """All samples from this one on."""
        begun, index = divmod(first, self._length)
        rounds = (name for _ in range(self._cycles) for name in self._signals for _ in range(self._rounds))
        for name in islice(rounds, begun, None):
            yield from self._told(name, index)
            index = 0

    def holdout(self) -> Iterator[Batch] | None:
        return (batch for name in self._exams for batch in self._told(name)) if self._exams else None

    def _told(self, name: str, first: int = 0) -> Iterator[Batch]:
        """A signal from its start, or from a later sample on."""
        values = SIGNAL_SCHOOL[name](self._step * np.arange(self._length))
        described = normalised(DESCRIPTIONS[name], self._dtype)
        targets = torch.tensor(values, dtype=self._dtype).view(-1, 1, 1)
        for index in range(first, self._length):
            begins = torch.tensor([True]) if index == 0 else None
            yield make_batch(described, targets[index], self._dtype, begins)


def normalised(words: Sequence[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A description as a network hears it, [1, 6]."""
    return torch.tensor([words], dtype=dtype) / sum(words)


def _check(signals: Sequence[str], exams: Sequence[str], batch_size: int, **counts: int) -> None:
    problems = [
        Problem(name, f"must be a whole number of at least 1, not {value!r}")
        for name, value in counts.items()
        if not is_count(value, 1)
    ]
    if batch_size != 1:
        problems.append(Problem("batch_size", f"lectures are heard one sample at a time, not {batch_size}"))
    if not signals:
        problems.append(Problem("signals", "an empty list; a lecture is needed at least"))
    for key, names in (("signals", signals), ("exams", exams)):
        for name in names:
            if name not in SIGNAL_SCHOOL:
                known = f"the signal school has {listed(SIGNAL_SCHOOL)}"
                problems.append(
                    Problem(key, f"no signal is called {name!r}; {known}{did_you_mean(name, SIGNAL_SCHOOL)}")
                )
    if problems:
        raise StreamError(*problems)
