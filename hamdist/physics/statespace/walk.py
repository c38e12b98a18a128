"""A layer's module walked through in one step: memories stand in a sequence, alone, or inside a residual block."""

from abc import ABC, abstractmethod
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from hamdist.physics.layers import along
from hamdist.physics.modules import is_residual, is_sequence
from hamdist.physics.statespace.cells import CellView
from hamdist.physics.statespace.contract import State, StateSpace, advanced

Reads = Literal["new", "old"]
Memory = StateSpace | CellView


def memories(module: nn.Module) -> list[Memory]:
    """The memories of a module, in the order in which a signal meets them."""
    if isinstance(module, StateSpace):
        return [module]
    if isinstance(module, nn.RNNCellBase):
        return [CellView(module)]
    if is_sequence(module):
        return [memory for part in module for memory in memories(part)]
    return memories(module.body) if is_residual(module) else []


class Way(ABC):
    """A module gone through, with something done at every memory.

    reads: whether outputs are read from the state after a step, or before it.  tau: its length.
    """

    def __init__(self, tau: float, reads: Reads) -> None:
        self._tau, self._reads = tau, reads

    def __call__(self, module: nn.Module, *a: Tensor) -> Tensor:
        """The module's output."""
        met = memories(module)
        if not met:
            return module(*a)
        if is_sequence(module):
            for part in module:
                a = (self(part, *a),)
            return a[0]
        if is_residual(module):
            return module.added(a[0], self(module.body, *a))
        before, after = self.at(met[0], a[0])
        return met[0].output(a[0], after if self._reads == "new" else before)

    @abstractmethod
    def at(self, memory: Memory, a: Tensor) -> tuple[State, State]:
        """The states of a memory before and after a step with this input."""


class Walk(Way):
    """One step; afterwards `drift` and `initial` hold what all memories say, and `heard` what they hear, in order.

    state: the components of all memories; None where each is at its start.  restarts: the rows [B] that are at their
    start, so that it can learn.
    """

    def __init__(
        self, tau: float, reads: Reads, state: State | None = None, restarts: Tensor | None = None
    ) -> None:
        super().__init__(tau, reads)
        self._restarts = restarts
        self._state = None if state is None else iter(state)
        self.drift: list[Tensor] = []
        self.initial: list[Tensor] = []
        self.heard: list[Tensor] = []

    def at(self, memory: Memory, a: Tensor) -> tuple[State, State]:
        self.heard.append(a)
        before = self._before(memory, a)
        start = self._start(memory, a, before)
        state = added(before, start, 1.0)
        drift = added(memory.drift(a, state, self._tau), start, 1 / self._tau)
        self.drift += drift
        return state, advanced(before, drift, self._tau)

    def _before(self, memory: Memory, a: Tensor) -> State:
        if self._state is None:
            start = memory.initial_state(a)
            self.initial += start
            return start
        return tuple(islice(self._state, memory.components))

    def _start(self, memory: Memory, a: Tensor, before: State) -> State | None:
        """Zeros with the derivatives of where the memory starts, in the rows of restarts; None where nothing learns it.

        The state there is the start, and so is, but for its motion, the state a step later: both derivatives count.
        Where no episode begins they are zeros nevertheless, so that the derivatives of the state are summed in one
        order, to the same bits, whoever asks with restarts or without.
        """
        if self._state is None or not memory.learns_start:
            return None
        if self._restarts is None:
            return tuple(torch.zeros_like(xi) for xi in before)
        start = memory.initial_state(a)
        rows = along(self._restarts, start)
        return tuple(torch.where(row, xi - xi.detach(), 0.0) for row, xi in zip(rows, start, strict=True))


class StepForward(Way):
    """One step of a module on its own; afterwards `after` holds the states of all memories after it, in order.

    state: the components of all memories; None where each is at its start.  restarts: the rows [B] that begin anew.
    """

    def __init__(self, tau: float, reads: Reads, state: State | None, restarts: Tensor | None = None) -> None:
        super().__init__(tau, reads)
        self._state = None if state is None else iter(state)
        self._restarts = restarts
        self.after: list[Tensor] = []

    def at(self, memory: Memory, a: Tensor) -> tuple[State, State]:
        before = self._before(memory, a)
        after = advanced(before, memory.drift(a, before, self._tau), self._tau)
        self.after += after
        return before, after

    def _before(self, memory: Memory, a: Tensor) -> State:
        if self._state is None:
            return memory.initial_state(a)
        before = tuple(islice(self._state, memory.components))
        if self._restarts is None:
            return before
        rows = along(self._restarts, before)
        return tuple(map(torch.where, rows, memory.initial_state(a), before))


class Retrace(Way):
    """One step backward; afterwards `before` holds the states of all memories before it, in order.

    after: those after it.
    """

    def __init__(self, tau: float, reads: Reads, after: State) -> None:
        super().__init__(tau, reads)
        self._after = iter(after)
        self.before: list[Tensor] = []

    def at(self, memory: Memory, a: Tensor) -> tuple[State, State]:
        assert isinstance(memory, StateSpace), "a layer is asked whether it is retraceable before"
        after = tuple(islice(self._after, memory.components))
        before = memory.earlier(a, after, self._tau)
        self.before += before
        return before, after


def added(tensors: State, zeros: State | None, factor: float) -> State:
    """The tensors, with derivatives that come with zeros."""
    if zeros is None:
        return tensors
    return tuple(tensor + factor * zero for tensor, zero in zip(tensors, zeros, strict=True))
