"""Losses that are not finite and are left out: the first are named, all are counted, and too many in a row are no
matter of samples any more.
"""

import logging

import torch
from torch import Tensor

from hamdist.engine.message import Token, numbers_of

NAMED = 5
IN_A_ROW = 1000  # ticks
_log = logging.getLogger(__name__)


class SkippedLosses:
    """Those of one loss.  name: what it is called.  endless: whether so many followed each other that it is not samples
    that are bad.
    """

    def __init__(self, name: str) -> None:
        self._name, self._told, self._in_a_row = name, 0, 0

    @property
    def endless(self) -> bool:
        return self._in_a_row >= IN_A_ROW

    def leaves_out(self, tick: int, token: Token, loss: Tensor, costate: Tensor) -> bool:
        """Whether a loss, or γ ∂loss/∂y, is not finite; the first are told of."""
        if torch.isfinite(loss) and bool(torch.isfinite(costate).all()):
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        if self._told < NAMED:
            self._told += 1
            self._tell(tick, token, loss)
        return True

    def _tell(self, tick: int, token: Token, loss: Tensor) -> None:
        value = loss.item()
        found = (
            f"is {value}" if not torch.isfinite(loss) else f"is {value:.3g}, and its derivative not finite,"
        )
        more = "; what follows is counted only" if self._told == NAMED else ""
        _log.warning(
            "the loss %s of %s %s at tick %d: it is left out, as on_bad says, and nothing is learnt from it%s",
            self._name, numbers_of(token), found, tick, more,
        )  # fmt: skip
