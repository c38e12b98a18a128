"""A stream as messages of the source, tick by tick: holds, numbers, short batches filled up, silence."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.message import INVALID, Message, Token, bits, every_row
from hamdist.engine.state import SourceState
from hamdist.errors import StreamError
from hamdist.network.entrance import Entrance

OPEN = Entrance()
INPUTS, TARGETS = 0, 1
"""Which tensor of the source's messages goes to the layers that read it, and which to the losses."""


class Rows(NamedTuple):
    """A batch as it is presented, inputs [B, …] and targets [B, …], of which the first `known` rows are samples.

    restarts, unlabelled, partly: as a token's.
    """

    inputs: Tensor
    targets: Tensor
    known: int
    restarts: int
    unlabelled: int
    partly: bool


Given = (
    tuple[Tensor, Tensor]
    | tuple[Tensor, Tensor, Tensor | None]
    | tuple[Tensor, Tensor, Tensor | None, Tensor | None]
)
"""A batch: inputs [R, …], targets [R, …]; where episodes begin in it, flags [R]; the same targets on the host, where
one can look at them without waiting for a GPU."""


class Source:
    """Gives messages of two tensors, the inputs and the targets of every tick, [B, …] each.

    tick: how many ticks were given.  samples: how many samples entered, hold-out not counted.
    batch: the rows of a full batch, those of the first one.  hold: ticks for which a batch is presented.  most: ticks
    of a message, which ends where so many times any number were given since `origin`, the tick at which it began, or
    goes on from a cut.  entrance: what targets are looked at for.  recalls: the last ticks of which it knows what
    entered.
    """

    def __init__(
        self, batch: int, hold: int, most: int = 1, entrance: Entrance = OPEN, recalls: int = 0
    ) -> None:
        self.batch, self.hold, self._most, self._entrance = batch, hold, most, entrance
        self.tick = self.origin = 0
        self.samples = 0
        self._begins = True
        self._recent: deque[Token] = deque(maxlen=recalls)

    @property
    def state(self) -> SourceState:
        """All that moves of it; of edges it knows nothing."""
        return SourceState(self.tick, self.samples, self._begins, tuple(self._recent))

    @state.setter
    def state(self, state: SourceState) -> None:
        self.tick, self.samples, self._begins, recent, _ = state
        self.origin = self.tick
        self._recent = deque(recent, self._recent.maxlen)

    def present(self, batches: Iterable[Given], learn: bool = True) -> Iterator[Message]:
        """Gives copies of them, R at most `batch`, a shorter one filled with its last row. What they hold must stay
        until all is given, where a message has several ticks.

        Where one cannot be had, or does not fit, those before it are given all the same. Raises StreamError.
        """
        ready: list[Rows] = []
        sample = self.samples
        try:
            for inputs, targets, *flags in batches:
                ready.append(self._rows(sample, inputs, targets, *flags))
                sample += ready[-1].known
        finally:
            yield from self._messages(ready, learn)

    def _messages(self, ready: Sequence[Rows], learn: bool) -> Iterator[Message]:
        ticks = deque((rows, repeat) for rows in ready for repeat in range(self.hold))
        while ticks:
            tokens, piece = [], []
            for _ in range(min(len(ticks), self._most - (self.tick - self.origin) % self._most)):
                rows, repeat = ticks.popleft()
                piece.append(rows)
                restarts = 0 if repeat else self._restarts(rows)
                lacking = rows.unlabelled, rows.partly
                tokens.append(
                    Token(self.tick, self.samples, rows.known, repeat, True, learn, restarts, *lacking)
                )
                self.tick += 1
                if learn and repeat == self.hold - 1:
                    self.samples += rows.known
            self._recent.extend(tokens)
            inputs, targets = (
                self._together(each) for each in zip(*(rows[:2] for rows in piece), strict=True)
            )
            yield Message(tuple(tokens), (inputs, targets))

    def begin_episode(self) -> None:
        """The next batch begins one in every row, as the first does."""
        self._begins = True

    def _restarts(self, rows: Rows) -> int:
        """Where episodes begin."""
        first, self._begins = self._begins, False
        return every_row(self.batch) if first else rows.restarts

    def silence(self, ticks: int) -> Iterator[Message]:
        """Ticks in which the source gives nothing, one by one."""
        for _ in range(ticks):
            self.tick += 1
            self._recent.append(INVALID)
            yield SILENCE

    def _together(self, each: tuple[Tensor, ...]) -> Tensor:
        """A copy, of several ticks [ticks, …]."""
        return aligned(torch.stack(each) if len(each) > 1 else self._copy(each[0]))

    def _copy(self, tensor: Tensor) -> Tensor:
        """Of a tensor for ticks given one by one, which share the copy that was made at once."""
        return tensor if self._most == 1 else tensor.clone()

    def _rows(
        self,
        sample: int,
        inputs: Tensor,
        targets: Tensor,
        restarts: Tensor | None = None,
        told: Tensor | None = None,
    ) -> Rows:
        """sample: the number of the first.  Raises StreamError where the rows do not fit."""
        known = inputs.shape[0]
        if targets.shape[0] != known:
            raise StreamError(f"{known} rows came with {len(targets)} targets at sample {sample}")
        if known > self.batch:
            raise StreamError(
                f"a batch of {known} rows came at sample {sample}, but the first had {self.batch}"
            )
        if not known:
            raise StreamError(f"a batch of 0 rows came at sample {sample}; expected one at least")
        lacking = self._entrance.look(targets if told is None else told, sample)
        said = 0 if restarts is None else bits(restarts), *lacking
        if known < self.batch:
            return Rows(self._filled(inputs), self._filled(targets), known, *said)
        if self._most > 1:
            return Rows(inputs, targets, known, *said)
        return Rows(aligned(inputs.clone()), aligned(targets.clone()), known, *said)

    def _filled(self, rows: Tensor) -> Tensor:
        return torch.cat([rows, rows[-1:].expand(self.batch - len(rows), *rows.shape[1:])])


SILENCE = Message((INVALID,), (None, None))
