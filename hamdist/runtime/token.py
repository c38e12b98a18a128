"""What travels along an edge: a token that says of which samples it speaks, and with it a signal or a costate."""

from typing import NamedTuple

from torch import Tensor


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
