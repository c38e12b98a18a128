"""In which order a source that can reach any row presents them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hamdist.streams.settings import check_counts


@dataclass(frozen=True)
class RowOrder:
    """Round and round over `rows` rows until `samples` of them were presented, None: one pass.

    With `shuffle` every epoch has an order of its own, drawn from (seed, epoch): sample n is row
    permutation(n // rows)[n % rows]. Batches run across the ends of epochs, so that only the last of all may be
    short.
    """

    rows: int
    batch_size: int
    samples: int | None
    shuffle: bool
    seed: int

    def __post_init__(self) -> None:
        check_counts(batch_size=self.batch_size, samples=self.samples, seed=self.seed)

    @property
    def presented(self) -> int:
        """How many samples are presented in all."""
        return self.rows if self.samples is None or self.rows == 0 else self.samples

    def permutation(self, epoch: int) -> np.ndarray:
        """The rows of one epoch in the order presented, [rows] int64."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.rows)

    def batches(self, start: int = 0) -> Iterator[np.ndarray]:
        """The row numbers batch by batch, [R] int64, from sample `start` on."""
        permutation = lru_cache(maxsize=1)(self.permutation if self.shuffle else self._in_turn)
        for first in range(start, self.presented, self.batch_size):
            epoch, place = divmod(first, self.rows)
            left = min(self.batch_size, self.presented - first)
            rows = permutation(epoch)[place : place + left]
            while len(rows) < left:
                epoch += 1
                rows = np.concatenate([rows, permutation(epoch)[: left - len(rows)]])
            yield rows

    @property
    def facts(self) -> dict[str, int | bool]:
        """What tells which row a sample is."""
        return {"rows": self.rows, "shuffle": self.shuffle, "seed": self.seed if self.shuffle else 0}

    def _in_turn(self, _: int) -> np.ndarray:
        return np.arange(self.rows)


def in_turn(start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
    """The row numbers from `start` up to `stop`, batch by batch, as a hold-out is presented."""
    for first in range(start, stop, batch_size):
        yield np.arange(first, min(first + batch_size, stop))
