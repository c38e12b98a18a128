"""Where several edges meet: whose samples they bring together, and what counts while an edge is silent.

A junction is a rule; what it has met is part of a node's state, and is written into.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from hamdist.engine.message import INVALID, ZEROS, Costate, Signal, Token, meeting

Item = TypeVar("Item", bound=Signal | Costate)


class Met(NamedTuple, Generic[Item]):
    """started: per edge, whether anything valid has come yet.  last: what came last along an edge, by its place."""

    started: list[bool]
    last: dict[int, Item]


@dataclass(frozen=True)
class Junction:
    """forward: per edge, whether it is a forward one; only these decide which samples are met.

    mixing: whether joins are out of balance, so that samples mix: then an edge that falls silent before the others
    keeps its last signal, and the token is that of the oldest samples still coming.
    """

    forward: tuple[bool, ...]
    mixing: bool

    def empty(self) -> Met[Any]:
        """Before the first tick."""
        return Met([False] * len(self.forward), {})

    @property
    def plain(self) -> bool:
        """Whether what comes in a tick is all that counts in it."""
        return not self.mixing and all(self.forward)

    def token(self, met: Met[Any], tokens: Sequence[Token]) -> Token:
        """The token of what all edges bring in one tick."""
        if not self.mixing:
            return meeting([token for token, forward in zip(tokens, self.forward, strict=True) if forward])
        coming = [place for place, forward in enumerate(self.forward) if forward]
        for place in coming:
            met.started[place] |= tokens[place].valid
        still = [tokens[place] for place in coming if tokens[place].valid]
        return meeting(still) if still and all(met.started[place] for place in coming) else INVALID


def hear(junction: Junction, met: Met[Signal], signals: list[Signal]) -> tuple[Token, list[Signal]]:
    """The token of what a layer hears, and the signals to compute with.

    A sample that learns never hears a hold-out sample along feedback, but what came last before it.
    """
    if len(signals) == 1 and junction.plain:
        return signals[0].token, signals
    token = junction.token(met, [signal.token for signal in signals])
    if junction.plain or not (token.valid and token.learn):
        return token, signals
    return token, [_last(junction, met, place, signal) for place, signal in enumerate(signals)]


def heard(junction: Junction, met: Met[Signal], inputs: Sequence[Tensor]) -> None:
    """What a layer heard last, in a tick that learns and was done elsewhere."""
    for place, a in enumerate(inputs):
        if junction.mixing or not junction.forward[place]:
            met.last[place] = Signal(ZEROS, a)


def _last(junction: Junction, met: Met[Signal], place: int, signal: Signal) -> Signal:
    if junction.forward[place] and not junction.mixing:
        return signal
    if signal.value is not None and signal.token.learn:
        met.last[place] = signal
    return met.last.get(place, signal)


def returning(junction: Junction, met: Met[Costate], costates: list[Costate]) -> Token:
    """The token of what returns to a layer."""
    if len(costates) == 1 and junction.plain:
        return costates[0].token
    return junction.token(met, [costate.token for costate in costates])


def await_sample(junction: Junction, met: Met[Costate], costates: list[Costate]) -> None:
    """Holds what came along feedback until a costate of a sample comes."""
    for place, costate in enumerate(costates):
        if costate.value is not None and not junction.forward[place]:
            met.last[place] = costate


def with_waiting(met: Met[Costate], costates: list[Costate]) -> list[Costate]:
    """This tick's costates, with those that waited where nothing came; none waits afterwards."""
    if not met.last:
        return costates
    waiting = dict(met.last)
    met.last.clear()
    return [waiting.get(i, c) if c.value is None else c for i, c in enumerate(costates)]
