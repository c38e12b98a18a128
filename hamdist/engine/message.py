"""What travels along an edge: tokens that say of which samples they speak, and with them signals or costates.

A message of several ticks has one tensor for all of them, so that what Python does for it does not grow with their
number.
"""

import math
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.report.wording import counted


class Token(NamedTuple):
    """tick: at which the samples entered.  first, rows: their numbers, first … first + rows − 1 (rows 0: none).

    repeat: which tick of its hold this is, from 0.  valid: an invalid token moves nothing.  learn: False for
    hold-out samples.  restarts: the rows in which an episode begins, as bits, the lowest for row 0.  unlabelled: how
    many of its rows have no target.  partly: whether another row lacks the target of one of several losses.
    """

    tick: int = -1
    first: int = -1
    rows: int = 0
    repeat: int = 0
    valid: bool = True
    learn: bool = True
    restarts: int = 0
    unlabelled: int = 0
    partly: bool = False

    @property
    def labelled(self) -> bool:
        """Whether every row has all its targets."""
        return not (self.unlabelled or self.partly)

    @property
    def teaches(self) -> bool:
        """Whether there is a target to learn from; samples without any pass, and no weight moves."""
        return not self.rows or self.unlabelled < self.rows


INVALID = Token(valid=False)
ZEROS = Token()


class Signal(NamedTuple):
    """One tick's state signal, forward along an edge.

    value: y [B, …]; None where the token is invalid.
    """

    token: Token
    value: Tensor | None = None


class Costate(NamedTuple):
    """One tick's costate signal, backward along an edge.

    value: ∂H/∂a [B, …], of a window of time [K, B, …]; None along edges that return nothing, such as integers.
    output: the input used [B, …], for a reversible neighbour to take as its own output.
    """

    token: Token
    value: Tensor | None = None
    output: Tensor | None = None


NO_COSTATE = Costate(INVALID)


class Form(NamedTuple):
    """Shape and dtype of a tensor of one tick, [B, …]."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def of(self, ticks: int) -> "Form":
        """That of so many ticks in one tensor, [ticks, B, …]; of a single tick as it is."""
        return self if ticks == 1 else Form((ticks, *self.shape), self.dtype)


def meeting(tokens: list[Token]) -> Token:
    """The token of a join: valid if all are, that of the oldest samples, and one that learns if all do.

    Of costates of the same samples it teaches if one does: a loss that is left out takes nothing from the others.
    """
    first = tokens[0]
    for token in tokens:
        if not token.valid:
            return INVALID
        if token.first < first.first or (token.first == first.first and token.unlabelled < first.unlabelled):
            first = token
    return first if all(token.learn for token in tokens) else first._replace(learn=False)


def numbers_of(token: Token) -> str:
    """The samples of a token, in words."""
    first, last = token.first, token.first + token.rows - 1
    if not token.learn:
        return counted(token.rows, "hold-out sample")
    return f"sample {first:,}" if token.rows == 1 else f"samples {first:,} to {last:,}"


def bits(flags: Tensor) -> int:
    """Flags of rows [R] as bits."""
    return sum(1 << row for row, flag in enumerate(flags.tolist()) if flag)


def every_row(rows: int) -> int:
    """The bits of so many rows."""
    return (1 << rows) - 1


def flags_of(restarts: int, rows: int) -> list[bool]:
    """Bits as flags of so many rows."""
    return [bool(restarts >> row & 1) for row in range(rows)]


class Message(NamedTuple):
    """What goes along an edge in one tick, or in several that follow each other.

    tokens: one a tick.  tensors: those of a signal (y,) or of a costate (∂H/∂a, the input used); of a single tick as
    they are, [B, …], of several [ticks, B, …]; None where no tick has any.
    tick: the first one, as its sender counts from 0.  final: the run's last tick, once the sender knows it.  cut: the
    tick before which every actor copies all that moves in it, the latest one that the sender knows of.  All are −1
    where the message stays in its process.
    there: where ticks differ, which tensors each of them has, as bits, the lowest for the first; what a tensor holds
    for the other ticks says nothing.  () where all are alike.
    """

    tokens: tuple[Token, ...]
    tensors: tuple[Tensor | None, ...]
    tick: int = -1
    final: int = -1
    cut: int = -1
    there: tuple[int, ...] = ()

    @classmethod
    def of(cls, item: Signal | Costate) -> "Message":
        """A single tick."""
        return cls(item[:1], item[1:])

    @property
    def ticks(self) -> int:
        return len(self.tokens)

    @property
    def marks(self) -> tuple[int, ...]:
        """As `there`, also where all are alike."""
        return self.there or (_present(self.tensors),) * len(self.tokens)

    def only(self, place: int) -> "Message":
        """With one of its tensors alone; its ticks are alike."""
        return Message(self.tokens, self.tensors[place : place + 1])

    def first(self, places: int) -> "Message":
        """With so many of its tensors alone."""
        known = (1 << places) - 1
        there = tuple([mark & known for mark in self.there])
        return self._replace(tensors=self.tensors[:places], there=_unless_alike(there))

    def filled(self, tensors: Sequence[Tensor | None]) -> "Message":
        """With these tensors, of which it keeps those that any tick has; `there` says so of every tick."""
        tokens, _, tick, final, cut, marks = self
        if len(marks) > 1 and (there := _unless_alike(marks)):
            return Message(tokens, _kept(tensors, reduce(or_, marks)), tick, final, cut, there)
        return Message(tokens, _kept(tensors, marks[0]), tick, final, cut)

    def split(self, ticks: int) -> "tuple[Message, Message]":
        """The first so many ticks, and the others; its ticks are alike."""
        pieces = [_split(tensor, ticks, self.ticks) for tensor in self.tensors]
        return (
            Message(self.tokens[:ticks], tuple(first for first, _ in pieces)),
            Message(self.tokens[ticks:], tuple(rest for _, rest in pieces)),
        )

    def single(self) -> "list[Message]":
        """Tick by tick."""
        if self.ticks == 1:
            return [self]
        absent = [None] * self.ticks
        apart = [absent if t is None else list(map(aligned, t.unbind())) for t in self.tensors]
        each = zip(*apart, strict=True) if apart else [()] * self.ticks
        return [
            Message((token,), tuple(t if mark >> place & 1 else None for place, t in enumerate(tensors)))
            for token, tensors, mark in zip(self.tokens, each, self.marks, strict=True)
        ]


def joined(messages: Sequence[Message]) -> Message:
    """One message of several, whose ticks follow each other."""
    if len(messages) == 1:
        return messages[0]
    ticks = [message.ticks for message in messages]
    places = zip(*(message.tensors for message in messages), strict=True)
    return Message(
        tuple(token for message in messages for token in message.tokens),
        tuple(_together(tensors, ticks) for tensors in places),
        there=_unless_alike(tuple(mark for message in messages for mark in message.marks)),
    )


def latest(messages: Sequence[Message], ticks: int) -> tuple[Message, ...]:
    """The last so many ticks of these, which have no fewer; the oldest first."""
    found: list[Message] = []
    for message in reversed(messages):
        if ticks <= 0:
            break
        found += _end(message, ticks)[::-1]
        ticks -= message.ticks
    return tuple(reversed(found))


def _end(message: Message, ticks: int) -> Sequence[Message]:
    """The last so many ticks of a message, or all there are."""
    if message.ticks <= ticks:
        return (message,)
    return message.single()[-ticks:] if message.there else message.split(message.ticks - ticks)[1:]


def _present(tensors: Sequence[Tensor | None]) -> int:
    """Which there are, as bits."""
    return sum(1 << place for place, tensor in enumerate(tensors) if tensor is not None)


def _kept(tensors: Sequence[Tensor | None], known: int) -> tuple[Tensor | None, ...]:
    """Those of the bits alone."""
    return tuple([tensor if known >> place & 1 else None for place, tensor in enumerate(tensors)])


def _unless_alike(marks: tuple[int, ...]) -> tuple[int, ...]:
    return () if len(set(marks)) < 2 else marks


def _split(tensor: Tensor | None, at: int, ticks: int) -> tuple[Tensor | None, Tensor | None]:
    if tensor is None:
        return None, None
    first = tensor[0] if at == 1 else tensor[:at]
    return aligned(first), aligned(tensor[at] if ticks - at == 1 else tensor[at:])


def _together(tensors: Sequence[Tensor | None], ticks: Sequence[int]) -> Tensor | None:
    """[ticks, …] of all; zeros where there is none."""
    each = [t if t is None or n > 1 else t.unsqueeze(0) for t, n in zip(tensors, ticks, strict=True)]
    example = next((t for t in each if t is not None), None)
    if example is None:
        return None
    filled = [
        example.new_zeros((n, *example.shape[1:])) if t is None else t
        for t, n in zip(each, ticks, strict=True)
    ]
    return aligned(torch.cat(filled))
