"""A step of a window's sweep as traced operations, which may be machine code: windows of any length repeat it."""

import warnings
from functools import partial
from typing import Any

from torch import Tensor

from hamdist.physics.compiled import CompilerMissingError, to_machine_code
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Layer, Point, Tensors
from hamdist.physics.sweep import Swept, stepped
from hamdist.physics.tick import Carry
from hamdist.physics.traced import Traced


class TracedStep:
    """A `sweep.Step` of a layer that can be traced, by what is wanted of it and whether an episode may begin.

    compiles: whether to compile it.  seconds: that took.
    """

    def __init__(self, layer: Layer, tau: float, compiles: bool) -> None:
        self._layer, self._tau, self._compiles = layer, tau, compiles
        self._ready: dict[tuple[Wanted, bool], Traced] = {}
        self.seconds = 0.0

    def __call__(
        self, carry: Carry, point: Point, q: Tensor, so_far: Swept, wanted: Wanted
    ) -> tuple[Swept, tuple[Tensor | None, ...]]:
        flags = () if point.restarts is None else (point.restarts,)
        trees = (
            *(carry.parameters, carry.buffers, point.inputs, point.state, flags),
            *(q, so_far.costate, so_far.drive),
        )
        key = wanted, bool(flags)
        if key not in self._ready:
            self._ready[key] = self._made(wanted, trees)
        found = iter(self._ready[key].flat(_leaves(trees)))
        costate = tuple(next(found) for _ in so_far.costate)
        drive = {name: next(found) for name in so_far.drive}
        return Swept(costate, drive), tuple(next(found) if want else None for want in wanted.inputs)

    def _made(self, wanted: Wanted, trees: tuple[Any, ...]) -> Traced:
        step = partial(self._step, wanted)
        if self._compiles:
            traced = Traced(step, *trees, eager=False)
            try:
                self.seconds += to_machine_code(traced, _leaves(trees))
                return traced
            except CompilerMissingError as error:
                self._compiles = False
                warnings.warn(f"windows of time are gone through uncompiled: {error}", stacklevel=2)
        return Traced(step, *trees)

    def _step(
        self,
        wanted: Wanted,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: tuple[Tensor, ...],
        flags: tuple[Tensor, ...],
        q: Tensor,
        costate: tuple[Tensor, ...],
        drive: Tensors,
    ) -> tuple[Any, ...]:
        carry = Carry(parameters, {}, buffers, state, costate, {}, q)
        point = Point(inputs, state, restarts=flags[0] if flags else None)
        (costate, drive), told = stepped(
            self._layer, self._tau, carry, point, q, Swept(costate, drive), wanted
        )
        return costate, drive, tuple(a for a in told if a is not None)


def _leaves(trees: tuple[Any, ...]) -> list[Tensor]:
    """The tensors of trees, taken apart as torch does."""
    found: list[Tensor] = []
    for tree in trees:
        if isinstance(tree, Tensor):
            found.append(tree)
        else:
            found += tree.values() if isinstance(tree, dict) else tree
    return found
