"""A layer as traced operations, alone as it would be in a stack: a lone layer runs as a stack of one.

It gives the bits that the same layer gives as one of many in a traced stack. Of a layer that looks back through a
window of time, a step back is traced, and may be machine code: windows of any length repeat it.
"""

from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.compiler.inductor import Compiling
from hamdist.compiler.trace import Traced, leaves
from hamdist.physics.bptt import Swept, stepped
from hamdist.physics.hamiltonian import Linearised, Partials, Pullback, Wanted, linearise
from hamdist.physics.layers import Layer, Point, Values
from hamdist.physics.numerics import differentiable
from hamdist.physics.pure_module import Context, Tensors
from hamdist.physics.stack import Stack

_NUMBERS = count()


class TracedLayer(Linearised):
    """stacks: whether it computes as a stack of one, so that it may join others of its structure.

    Traces are made when first needed, for the shapes they are needed with.
    """

    def __init__(self, layer: Layer, stacks: bool) -> None:
        super().__init__(layer.pure)
        self.layer = layer
        self.latency, self.remembers = layer.latency, layer.remembers
        self.stacks = stacks
        self.form: Layer = Stack(layer) if stacks else layer
        self._traces: dict[Any, Traced] = {}

    @property
    def family(self) -> int:
        """The same for all that were made `of` one another: they have the same structure."""
        return id(self._traces)

    @property
    def invertible(self) -> bool:
        return self.layer.invertible

    @property
    def retraceable(self) -> bool:
        return self.layer.retraceable

    def earlier(
        self, parameters: Tensors, buffers: Tensors, point: Point, after: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return self.layer.earlier(parameters, buffers, point, after)

    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return self.layer.initial_state(parameters, buffers, inputs)

    def restarted(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: tuple[Tensor, ...],
        restarts: Tensor,
    ) -> tuple[Tensor, ...]:
        return tuple(self._run("restarted", parameters, buffers, inputs, state, (restarts,)))

    def initial_sensitivity(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: tuple[Tensor, ...],
    ) -> Tensors:
        return self.layer.initial_sensitivity(parameters, buffers, inputs, state)

    def carried_sensitivity(
        self,
        parameters: Tensors,
        buffers: Tensors,
        point: Point,
        sensitivity: Tensors,
        costate: tuple[Tensor, ...],
    ) -> tuple[Tensors, Tensors]:
        met = point.inputs, point.state, _flags(point)
        found = iter(self._run("sensitivity", parameters, buffers, *met, sensitivity, costate))
        return {name: next(found) for name in sensitivity}, {name: next(found) for name in sensitivity}

    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        flags = _flags(point)
        output, *drift = self._run("values", dict(parameters), buffers, point.inputs, point.state, flags)
        return Values(output, tuple(drift), buffers)

    def linearise(
        self, parameters: Tensors, buffers: Tensors, point: Point, wanted: Wanted
    ) -> tuple[Values, Pullback]:
        """As hamiltonian.linearise; the pullback evaluates the layer once more."""
        ends = len(parameters) * wanted.weights, len(parameters) * wanted.weights + sum(wanted.inputs)

        def pullback(q: Tensor, p: tuple[Tensor, ...]) -> Partials:
            found = self._run(wanted, parameters, buffers, point.inputs, point.state, _flags(point), q, p)
            weights, inputs = found[: ends[0]], iter(found[ends[0] : ends[1]])
            returned = tuple(next(inputs) if want else None for want in wanted.inputs)
            return Partials(dict(zip(parameters, weights, strict=False)), returned, tuple(found[ends[1] :]))

        return self(parameters, buffers, point), pullback

    def inverse(self, parameters: Tensors, buffers: Tensors, output: Tensor, context: Context) -> Tensor:
        return self._run("inverse", parameters, buffers, (output,))[0]

    def of(self, layer: Layer) -> "TracedLayer":
        """Another layer of the same structure, in the same form, with the same traces: of its own code nothing runs."""
        other = TracedLayer(layer, self.stacks)
        other.form, other._traces = self.form, self._traces
        return other

    def code(self, inputs: tuple[Tensor, ...]) -> str:
        """The operations of y and f at such inputs.

        With a name that no other has where they use numbers that are not arguments, here and in what follows.
        """
        return self._code("values", inputs, self._first_state(inputs), ())

    def code_of_inverse(self, output: Tensor) -> str:
        """The operations of the inverse of such an output."""
        return self._code("inverse", (output,))

    def code_of_derivatives(self, inputs: tuple[Tensor, ...], output: Tensor, wanted: Wanted) -> str:
        """Those of the partial derivatives at such inputs, for a costate like the output."""
        state = self._first_state(inputs)
        return self._code(wanted, inputs, state, (), output, state)

    def _first_state(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.initial_state(self.pure.parameters(), self.pure.buffers(), inputs)

    def _code(self, what: Any, *rest: Any) -> str:
        graph = self._trace(what, self.pure.parameters(), self.pure.buffers(), *rest).graph
        own = any(node.op == "get_attr" for node in graph.graph.nodes)
        return graph.code + (f"# {next(_NUMBERS)}" if own else "")

    def _run(self, what: Any, parameters: Tensors, buffers: Tensors, *rest: Any) -> list[Tensor]:
        """The leaves of what the trace gives, the arguments taken apart as torch does."""
        traced = self._trace(what, parameters, buffers, *rest)
        return traced.flat(leaves((parameters, buffers, *rest)))

    def _trace(self, what: Any, *arguments: Any) -> Traced:
        key = (
            what,
            tuple(len(part) for part in arguments if isinstance(part, tuple)),
        )  # with restarts, or without
        if key not in self._traces:
            self._traces[key] = Traced(lambda *given: self._one(what, given), *arguments)
        return self._traces[key]

    def _one(self, what: Any, arguments: tuple[Any, ...]) -> Any:
        """One member's part: with the form's first dimension added, and taken off again."""
        if not self.stacks:
            return self._formed(what, *arguments)
        lifted = tree_map(lambda tensor: tensor.unsqueeze(0), arguments)
        return tree_map(lambda tensor: tensor.squeeze(0), self._formed(what, *lifted))

    def _formed(self, what: Any, parameters: Tensors, buffers: Tensors, *rest: Any) -> Any:
        if what == "inverse":
            return self.form.inverse(parameters, buffers, rest[0][0], Context())
        if what == "restarted":
            inputs, state, (restarts,) = rest
            return self.form.restarted(parameters, buffers, inputs, state, restarts)
        inputs, state, flags, *told = rest
        point = Point(inputs, state, restarts=flags[0] if flags else None)
        if what == "sensitivity":
            return self.form.carried_sensitivity(parameters, buffers, point, *told)
        # y and f too are traced as if derivatives were wanted: without, some operations choose other kernels.
        wanted = Wanted(True, tuple(differentiable(a.dtype) for a in inputs)) if what == "values" else what
        values, pullback = linearise(self.form, parameters, buffers, point, wanted)
        if what == "values":
            return values.output, values.drift
        partials = pullback(*told)
        return partials.weights, tuple(a for a in partials.inputs if a is not None), partials.state


def _flags(point: Point) -> tuple[Tensor, ...]:
    """The restarts of a point, as a tree: there, or not."""
    return () if point.restarts is None else (point.restarts,)


class TracedStep:
    """A `sweep.Step` of a layer that can be traced, by what is wanted of it and whether an episode may begin.

    compiles: whether to compile it.  name: of the layer.
    """

    def __init__(self, layer: Layer, tau: float, compiles: bool, name: str) -> None:
        self._layer, self._tau = layer, tau
        self._ready: dict[tuple[Wanted, bool], Traced] = {}
        self._compiling = Compiling(compiles, "windows of time are gone through", f"the windows of {name}")

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
