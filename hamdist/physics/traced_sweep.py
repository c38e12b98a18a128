"""A step of a window's sweep as traced operations, which may be machine code: windows of any length repeat it."""

from functools import partial
from typing import Any

from torch import Tensor

from hamdist.physics.compiled import Compiling
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Layer, Point, Tensors
from hamdist.physics.sweep import Swept, stepped
from hamdist.physics.traced import Traced, leaves


class TracedStep:
    """A `sweep.Step` of a layer that can be traced, by what is wanted of it and whether an episode may begin.

    compiles: whether to compile it.
    """

    def __init__(self, layer: Layer, tau: float, compiles: bool) -> None:
        self._layer, self._tau = layer, tau
        self._ready: dict[tuple[Wanted, bool], Traced] = {}
        self._compiling = Compiling(compiles, "windows of time are gone through")

    @property
    def seconds(self) -> float:
        """What compiling took."""
        return self._compiling.seconds

    def __call__(
        self, parameters: Tensors, buffers: Tensors, point: Point, q: Tensor, so_far: Swept, wanted: Wanted
    ) -> tuple[Swept, tuple[Tensor | None, ...]]:
        flags = () if point.restarts is None else (point.restarts,)
        trees = (parameters, buffers, point.inputs, point.state, flags, q, *so_far)
        flat, key = leaves(trees), (wanted, bool(flags))
        if key not in self._ready:
            step = partial(self._step, wanted)
            self._ready[key] = self._compiling(lambda eager: Traced(step, *trees, eager=eager), flat)
        found = iter(self._ready[key].flat(flat))
        costate = tuple(next(found) for _ in so_far.costate)
        drive = {name: next(found) for name in so_far.drive}
        return Swept(costate, drive), tuple(next(found) if want else None for want in wanted.inputs)

    def _step(
        self,
        wanted: Wanted,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: tuple[Tensor, ...],
        flags: tuple[Tensor, ...],
        q: Tensor,
        *so_far: Any,
    ) -> tuple[Any, ...]:
        point = Point(inputs, state, restarts=flags[0] if flags else None)
        swept, told = stepped(self._layer, self._tau, parameters, buffers, point, q, Swept(*so_far), wanted)
        return *swept, tuple(a for a in told if a is not None)
