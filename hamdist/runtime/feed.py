"""A stream as the source says it, tick by tick: holds, numbers, short batches filled up, silence."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.runtime.aligned import aligned
from hamdist.runtime.token import INVALID, Signal, Token


class Said(NamedTuple):
    """What the source says in one tick: the inputs to the layers that read it, and the targets to the losses."""

    inputs: Signal
    targets: Signal


SILENCE = Said(Signal(INVALID), Signal(INVALID))


class Feed:
    """tick: how many ticks were said.  samples: how many samples entered, hold-out not counted.

    batch: the rows of a full batch, those of the first one.  hold: ticks for which a batch is presented.
    """

    def __init__(self, batch: int, hold: int) -> None:
        self.batch, self.hold = batch, hold
        self.tick = 0
        self.samples = 0

    def present(self, inputs: Tensor, targets: Tensor, learn: bool = True) -> Iterator[Said]:
        """One batch, inputs [R, …] and targets [R, …], R at most `batch`: a shorter one is filled with its last row.

        Raises StreamError where the rows do not fit.
        """
        rows = inputs.shape[0]
        if targets.shape[0] != rows:
            raise StreamError(f"{rows} rows came with {len(targets)} targets at sample {self.samples}")
        inputs, targets = self._filled(inputs), self._filled(targets)
        for repeat in range(self.hold):
            token = Token(self.tick, self.samples, rows, repeat, learn=learn)
            self.tick += 1
            yield Said(Signal(token, inputs), Signal(token, targets))
        if learn:
            self.samples += rows

    def silence(self, ticks: int) -> Iterator[Said]:
        """Ticks in which the source says nothing."""
        for _ in range(ticks):
            self.tick += 1
            yield SILENCE

    def _filled(self, rows: Tensor) -> Tensor:
        """A copy of the rows, up to the batch size: whoever made them may use the memory again."""
        missing = self.batch - rows.shape[0]
        if missing == 0:
            return aligned(rows.clone())
        if missing < 0 or len(rows) == 0:
            raise StreamError(
                f"a batch of {len(rows)} rows came at sample {self.samples}, but the first had {self.batch}"
            )
        return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])
