"""When a loss speaks, where costates go back through time: at the end of a block of ticks, or of every tick alone."""

import torch

from hamdist.network.locality import Horizon
from hamdist.runtime.aligned import aligned
from hamdist.runtime.token import NO_COSTATE, Costate


class Window:
    """Costates of one tick each become costates [K, B, …] of a window.

    Blocked: those of K ticks, once in K ticks, or of fewer where samples to learn from stop coming. Slid: that of
    every tick, in the last place, with zeros before it.
    """

    def __init__(self, horizon: Horizon) -> None:
        self._horizon = horizon
        self._held: list[Costate] = []

    def take(self, costate: Costate) -> Costate:
        """What the loss says in a tick, NO_COSTATE where it has nothing to learn from; returns what goes back."""
        if costate.value is not None:
            self._held.append(costate)
        most = 1 if self._horizon.slid else self._horizon.ticks
        if not self._held or (costate.value is not None and len(self._held) < most):
            return NO_COSTATE
        held, self._held = self._held, []
        values = [c.value for c in held if c.value is not None]
        missing = self._horizon.ticks - len(values)
        window = torch.stack([*[torch.zeros_like(values[0])] * missing, *values])
        return Costate(held[-1].token, aligned(window))
