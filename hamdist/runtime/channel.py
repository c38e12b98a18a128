"""An edge in an executor: first in, first out, with d initial tokens in each direction. A delay is nothing else."""

from collections import deque

from torch import Tensor

from hamdist.network.graph import Edge
from hamdist.runtime.token import INVALID, NO_COSTATE, ZEROS, Costate, Signal


class Channel:
    """The two queues of one edge inside one process.

    initial: what a forward edge's d initial tokens hold (valid zeros), or None for invalid ones.
    """

    def __init__(self, edge: Edge, initial: Tensor | None = None) -> None:
        first = Signal(INVALID) if initial is None else Signal(ZEROS, initial)
        self.edge = edge
        self.signals: deque[Signal] = deque([first] * edge.ticks)
        self.costates: deque[Costate] = deque([NO_COSTATE] * edge.ticks)
