"""What travels along an edge: tokens that say of which samples they speak, and with them signals or costates.

A piece of several ticks has one tensor for all of them, so that what Python does for it does not grow with its length;
a queue takes and gives pieces of any length.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned


class Token(NamedTuple):
    """tick: at which the samples entered.  first, rows: their numbers, first … first + rows − 1 (rows 0: none).

    repeat: which tick of its hold this is, from 0.  valid: an invalid token moves nothing.  learn: False for
    hold-out samples.  restarts: the rows in which an episode begins, as bits, the lowest for row 0.
    """

    tick: int = -1
    first: int = -1
    rows: int = 0
    repeat: int = 0
    valid: bool = True
    learn: bool = True
    restarts: int = 0


INVALID = Token(valid=False)
ZEROS = Token()


class Signal(NamedTuple):
    """A state signal y, forward along an edge; no value where the token is invalid."""

    token: Token
    value: Tensor | None = None


class Costate(NamedTuple):
    """A costate signal ∂H/∂a, backward along an edge; None along edges that return nothing, such as integers.

    output: the input used, for a reversible neighbour to take as its own output.
    """

    token: Token
    value: Tensor | None = None
    output: Tensor | None = None


NO_COSTATE = Costate(INVALID)


class Form(NamedTuple):
    """Shape and dtype of one tensor of a frame."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def holds(self, other: "Form") -> bool:
        """Whether the other is this one with as many rows, or fewer, but some."""
        same = (self.dtype, self.shape[1:]) == (other.dtype, other.shape[1:])
        return same and len(self.shape) == len(other.shape) > 0 and 0 < other.shape[0] <= self.shape[0]


def meeting(tokens: list[Token]) -> Token:
    """The token of a join: valid if all are, that of the oldest samples, and one that learns if all do."""
    first = tokens[0]
    for token in tokens:
        if not token.valid:
            return INVALID
        if token.first < first.first:
            first = token
    return first if all(token.learn for token in tokens) else first._replace(learn=False)


def bits(flags: Tensor) -> int:
    """Flags of rows [R] as bits."""
    return sum(1 << row for row, flag in enumerate(flags.tolist()) if flag)


def every_row(rows: int) -> int:
    """The bits of so many rows."""
    return (1 << rows) - 1


def flags_of(restarts: int, rows: int) -> list[bool]:
    """Bits as flags of so many rows."""
    return [bool(restarts >> row & 1) for row in range(rows)]


Item = TypeVar("Item", bound=Signal | Costate)


class Stretch(NamedTuple):
    """tokens: one a tick.  tensors: those of a signal or a costate, each of all ticks [ticks, …], of a single tick as
    it is; None where no tick has any."""

    tokens: tuple[Token, ...]
    tensors: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, item: Signal | Costate) -> "Stretch":
        """A single tick."""
        return cls(item[:1], item[1:])

    @property
    def ticks(self) -> int:
        return len(self.tokens)

    def cut(self, ticks: int) -> "tuple[Stretch, Stretch]":
        """The first so many ticks, and the others."""
        pieces = [_cut(tensor, ticks, self.ticks) for tensor in self.tensors]
        return (
            Stretch(self.tokens[:ticks], tuple(first for first, _ in pieces)),
            Stretch(self.tokens[ticks:], tuple(rest for _, rest in pieces)),
        )

    def single(self) -> "list[Stretch]":
        """Tick by tick."""
        if self.ticks == 1:
            return [self]
        absent = [None] * self.ticks
        apart = [absent if t is None else map(aligned, t.unbind()) for t in self.tensors]
        each = zip(*apart, strict=True) if apart else [()] * self.ticks
        return [Stretch((token,), tensors) for token, tensors in zip(self.tokens, each, strict=True)]


def joined(pieces: Sequence[Stretch]) -> Stretch:
    """Several as one; they are alike: either all of them have a tensor, or none has."""
    tokens = tuple(token for piece in pieces for token in piece.tokens)
    single = [piece.ticks == 1 for piece in pieces]
    places = zip(*(piece.tensors for piece in pieces), strict=True)
    return Stretch(tokens, tuple(_joined(tensors, single) for tensors in places))


class Queue(Generic[Item]):
    """First in, first out. kind: of what is taken tick by tick.  keeps: False where nobody takes anything."""

    def __init__(self, kind: type[Item], items: Iterable[Item] = (), keeps: bool = True) -> None:
        self._kind = kind
        self._held: deque[Stretch] = deque(maxlen=None if keeps else 0)
        self.refill(items)

    def __len__(self) -> int:
        """In ticks."""
        return sum(len(held.tokens) for held in self._held)

    def __iter__(self) -> Iterator[Item]:
        """All that it holds, tick by tick."""
        return (self._item(tick) for held in self._held for tick in held.single())

    def append(self, item: Item, /) -> None:
        self.add(Stretch.of(item))

    def add(self, stretch: Stretch, /) -> None:
        self._held.append(stretch)

    def popleft(self) -> Item:
        first = self._held.popleft()
        if len(first.tokens) > 1:
            first, *rest = first.single()
            self._held.extendleft(reversed(rest))
        return self._item(first)

    def tokens(self, ticks: int) -> Sequence[Token]:
        """Those of the next so many ticks, which it holds."""
        first = self._held[0].tokens
        if len(first) >= ticks:
            return first[:ticks]
        return list(islice((token for held in self._held for token in held.tokens), ticks))

    def ahead(self, ticks: int) -> Stretch:
        """The next so many ticks, which it holds, and which are alike; they stay."""
        self._cut(ticks)
        if self._held[0].ticks < ticks:
            pieces = [self._held.popleft()]
            while (missing := ticks - sum(piece.ticks for piece in pieces)) > 0:
                self._cut(missing)
                pieces.append(self._held.popleft())
            self._held.appendleft(joined(pieces))
        return self._held[0]

    def skip(self, ticks: int) -> None:
        """Leaves out the next so many, which it holds."""
        while ticks:
            self._cut(ticks)
            ticks -= self._held.popleft().ticks

    def refill(self, items: Iterable[Item]) -> None:
        """Holds these and nothing else."""
        self._held.clear()
        for item in items:
            self.append(item)

    def _cut(self, ticks: int) -> None:
        """The first piece is no longer than so many ticks."""
        if len(self._held[0].tokens) > ticks:
            self._held.extendleft(reversed(self._held.popleft().cut(ticks)))

    def _item(self, tick: Stretch) -> Item:
        return self._kind(tick.tokens[0], *tick.tensors)


def _cut(tensor: Tensor | None, at: int, ticks: int) -> tuple[Tensor | None, Tensor | None]:
    if tensor is None:
        return None, None
    first = tensor[0] if at == 1 else tensor[:at]
    return aligned(first), aligned(tensor[at] if ticks - at == 1 else tensor[at:])


def _joined(tensors: Sequence[Tensor | None], single: Sequence[bool]) -> Tensor | None:
    known = [tensor for tensor in tensors if tensor is not None]
    assert len(known) in (0, len(tensors)), "ticks are joined that are alike"
    if not known:
        return None
    return aligned(
        torch.cat([t.unsqueeze(0) if alone else t for t, alone in zip(known, single, strict=True)])
    )
