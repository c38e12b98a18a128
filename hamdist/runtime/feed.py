"""A stream as the source says it, tick by tick: holds, numbers, short batches filled up, silence."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.runtime.aligned import aligned
from hamdist.runtime.stretch import Stretch
from hamdist.runtime.token import INVALID, Token


class Said(NamedTuple):
    """What the source says in some ticks: the inputs to the layers that read it, and the targets to the losses."""

    inputs: Stretch
    targets: Stretch

    def pieces(self, ticks: int) -> "Iterator[Said]":
        """The same, of at most so many ticks at a time."""
        inputs, targets = self
        while inputs.ticks > ticks:
            (first, inputs), (judged, targets) = inputs.cut(ticks), targets.cut(ticks)
            yield Said(first, judged)
        yield Said(inputs, targets)


class Rows(NamedTuple):
    """A batch as it is presented, inputs [B, …] and targets [B, …], of which the first `known` rows are samples."""

    inputs: Tensor
    targets: Tensor
    known: int


class Feed:
    """tick: how many ticks were said.  samples: how many samples entered, hold-out not counted.

    batch: the rows of a full batch, those of the first one.  hold: ticks for which a batch is presented.
    """

    def __init__(self, batch: int, hold: int) -> None:
        self.batch, self.hold = batch, hold
        self.tick = 0
        self.samples = 0

    def present(self, batches: Iterable[tuple[Tensor, Tensor]], learn: bool = True) -> Iterator[Said]:
        """Says copies of them, all at once: inputs [R, …] and targets [R, …], R at most `batch`, a shorter one filled
        with its last row; says nothing where there are none.

        Where one cannot be had, or does not fit, those before it are said all the same. Raises StreamError.
        """
        ready: list[Rows] = []
        sample = self.samples
        try:
            for inputs, targets in batches:
                ready.append(self._rows(inputs, targets, sample))
                sample += ready[-1].known
        finally:
            if ready:
                yield self._said(ready, learn)

    def _said(self, ready: Sequence[Rows], learn: bool) -> Said:
        tokens: list[Token] = []
        tick, first = self.tick, self.samples
        for rows in ready:
            for repeat in range(self.hold):
                tokens.append(Token(tick, first, rows.known, repeat, True, learn))
                tick += 1
            first += rows.known if learn else 0
        self.tick, self.samples = tick, first
        told = tuple(tokens)
        return Said(
            Stretch(told, (self._held([rows.inputs for rows in ready]),)),
            Stretch(told, (self._held([rows.targets for rows in ready]),)),
        )

    def silence(self, ticks: int) -> Iterator[Said]:
        """Ticks in which the source says nothing, one by one."""
        for _ in range(ticks):
            self.tick += 1
            yield SILENCE

    def _held(self, tensors: Sequence[Tensor]) -> Tensor:
        """A copy, of all ticks [ticks, …], each tensor as often as it is held; of a single tick as it is."""
        each = [tensor for tensor in tensors for _ in range(self.hold)]
        return torch.stack(each) if len(each) > 1 else aligned(each[0].clone())

    def _rows(self, inputs: Tensor, targets: Tensor, sample: int) -> Rows:
        """sample: the number of the first.  Raises StreamError where the rows do not fit."""
        known = inputs.shape[0]
        if targets.shape[0] != known:
            raise StreamError(f"{known} rows came with {len(targets)} targets at sample {sample}")
        if known == self.batch:
            return Rows(inputs, targets, known)
        if not 0 < known < self.batch:
            raise StreamError(
                f"a batch of {known} rows came at sample {sample}, but the first had {self.batch}"
            )
        return Rows(self._filled(inputs), self._filled(targets), known)

    def _filled(self, rows: Tensor) -> Tensor:
        return torch.cat([rows, rows[-1:].expand(self.batch - len(rows), *rows.shape[1:])])


_NOTHING = Stretch((INVALID,), (None,))
SILENCE = Said(_NOTHING, _NOTHING)
