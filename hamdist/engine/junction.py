"""Where several edges meet: whose samples they bring together, and what counts while an edge is silent.

forward: per edge, whether it is a forward one; only these decide which samples are met. mixing: whether joins are out
of balance, so that samples mix: then an edge that falls silent before the others keeps its last signal, and the token
is that of the oldest samples still coming.
"""

from collections.abc import Sequence

from torch import Tensor

from hamdist.engine.message import INVALID, ZEROS, Costate, Signal, Token, meeting


class Meeting:
    """Finds the token of what several edges bring in one tick."""

    def __init__(self, forward: Sequence[bool], mixing: bool) -> None:
        self.forward = tuple(forward)
        self.mixing = mixing
        self._started = [False] * sum(self.forward)

    def token(self, tokens: Sequence[Token]) -> Token:
        coming = [token for token, forward in zip(tokens, self.forward, strict=True) if forward]
        if not self.mixing:
            return meeting(coming)
        self._started = [a or b.valid for a, b in zip(self._started, coming, strict=True)]
        still = [token for token in coming if token.valid]
        return meeting(still) if still and all(self._started) else INVALID


class InEdges:
    """The in-edges of a layer: what it hears."""

    def __init__(self, forward: Sequence[bool], mixing: bool) -> None:
        self._meeting = Meeting(forward, mixing)
        self._keeps = [mixing or not is_forward for is_forward in forward]
        self._kept: dict[int, Signal] = {}

    def hear(self, signals: list[Signal]) -> tuple[Token, list[Signal]]:
        """The token, and the signals to compute with."""
        token = self._meeting.token([signal.token for signal in signals])
        if token.valid and token.learn and any(self._keeps):
            signals = [self._last(index, signal) for index, signal in enumerate(signals)]
        return token, signals

    def heard(self, inputs: Sequence[Tensor]) -> None:
        """What came last, in a tick that learns."""
        self._kept |= {i: Signal(ZEROS, a) for i, a in enumerate(inputs) if self._keeps[i]}

    def _last(self, index: int, signal: Signal) -> Signal:
        """A sample that learns never hears a hold-out sample along feedback, but what came last before it."""
        if not self._keeps[index]:
            return signal
        if signal.value is not None and signal.token.learn:
            self._kept[index] = signal
        return self._kept.get(index, signal)


class OutEdges:
    """The out-edges of a layer: the costates that return."""

    def __init__(self, forward: Sequence[bool], mixing: bool) -> None:
        self._meeting = Meeting(forward, mixing)
        self._waiting: dict[int, Costate] = {}  # feedback's, which came when nothing else did

    def token(self, costates: list[Costate]) -> Token:
        return self._meeting.token([costate.token for costate in costates])

    def keep(self, costates: list[Costate]) -> None:
        """Holds what came along feedback until a costate of a sample comes."""
        for index, costate in enumerate(costates):
            if costate.value is not None and not self._meeting.forward[index]:
                self._waiting[index] = costate

    def heard(self, costates: list[Costate]) -> list[Costate]:
        """This tick's costates, with those that waited where nothing came."""
        if not self._waiting:
            return costates
        waiting, self._waiting = self._waiting, {}
        return [waiting.get(i, c) if c.value is None else c for i, c in enumerate(costates)]
