"""A layer whose module has a memory: its state and state costate are integrated with everything else."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hamdist.physics.layers import Layer, Point, Values, along
from hamdist.physics.modules import Merging, Residual, forward_of, is_residual, is_sequence, unhooked
from hamdist.physics.pure_module import Context, Join, PureModule, Tensors, joined, padded
from hamdist.physics.randomness import BEYOND_TORCH, seeded
from hamdist.physics.statespace.apart import apart, blocks_of
from hamdist.physics.statespace.contract import State, StateSpace
from hamdist.physics.statespace.sensitivity import advanced_sensitivity, past_drive, reached, stray_weights
from hamdist.physics.statespace.walk import Reads, Retrace, Walk, memories


class PureMemory(PureModule):
    """A module with memories as pure functions; as one of its inputs alone, it answers from where it starts."""

    def __init__(self, module: nn.Module, join: Join, tau: float, reads: Reads) -> None:
        super().__init__(module, join)
        self.tau, self.reads = tau, reads
        self._walked = _Walked(module, tau, reads)
        self._alone = _Alone(module, tau)
        self._renamed = {name: f"module.{name}" for name in self._names}

    def initial(
        self, parameters: Mapping[str, Tensor], buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> State:
        """ξ before the first inputs."""
        return self._walk(parameters, buffers, inputs, None, None, Context(training=False)).initial

    def step(
        self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point
    ) -> tuple[Tensor, State, Tensors]:
        """Output, drift, and the buffers afterwards."""
        inputs, state, context, restarts = point
        walked = self._walk(parameters, buffers, inputs, state, restarts, context)
        return walked.output, walked.drift, walked.buffers

    def heard(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> State:
        """What each memory hears at a point, in the order in which a signal meets them."""
        inputs, state, context, restarts = point
        return self._walk(parameters, buffers, inputs, state, restarts, context).heard

    def alone(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Tensors,
        a: Tensor,
        state: State,
        restarts: Tensor | None,
    ) -> State:
        """The state after a step of its only memory, which hears a, with the derivatives of units apart."""
        return functional_call(self._alone, self._called(parameters, buffers), (a, state, restarts))

    def materialise(self, inputs: tuple[Tensor, ...]) -> None:
        if self._lazy:
            self._set_training(False)
            self._walked(joined(inputs, self.join), None, None)

    def earlier(
        self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point, after: State
    ) -> State:
        """The state that a step with the inputs of a point turned into `after`."""
        tensors = self._called(parameters, self._prepared(buffers, point.context))
        retraced = _Retraced(self.module, self.tau, self.reads)
        return functional_call(retraced, tensors, (joined(point.inputs, self.join), after))

    def _called(self, parameters: Mapping[str, Tensor], buffers: Tensors) -> Tensors:
        return {self._renamed[name]: tensor for name, tensor in (*parameters.items(), *buffers.items())}

    def __call__(
        self, parameters: Mapping[str, Tensor], buffers: Tensors, inputs: tuple[Tensor, ...], context: Context
    ) -> tuple[Tensor, Tensors]:
        walked = self._walk(parameters, buffers, inputs, None, None, context)
        return walked.output, walked.buffers

    def _walk(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: State | None,
        restarts: Tensor | None,
        context: Context,
    ) -> "_Step":
        buffers = self._prepared(buffers, context)
        tensors = self._called(parameters, buffers)
        rows, batch = context.rows, len(inputs[0])
        arguments = joined(tuple(a[:rows] for a in inputs), self.join)
        known = None if state is None else tuple(xi[:rows] for xi in state)
        flags = None if restarts is None else restarts[:rows]
        with seeded(context.seed, inputs[0].device, context.beyond):
            output, *others = functional_call(self._walked, tensors, (arguments, known, flags))
        after = {name: tensors[self._renamed[name]] for name in buffers}
        drift, initial, heard = (tuple(padded(t, batch) for t in tensors) for tensors in others)
        return _Step(padded(output, batch), drift, initial, heard, after)


class _Step(NamedTuple):
    """What a walk says: the output, and of all memories the drift, where they start, and what they hear; the buffers
    afterwards."""

    output: Tensor
    drift: State
    initial: State
    heard: State
    buffers: Tensors


class StateSpaceLayer(Layer):
    """dξ/dt = f(a, ξ; θ), y = g(a, ξ; θ), with ξ before this step (`old`: Hamiltonian Learning as published), or
    after it (`new`: what PyTorch's cells give)."""

    remembers = True
    pure: PureMemory

    def __init__(self, pure: PureMemory) -> None:
        super().__init__(pure)

    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return self.pure.initial(parameters, buffers, inputs)

    def restarted(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: State,
        restarts: Tensor,
    ) -> State:
        first = self.initial_state(parameters, buffers, inputs)
        rows = along(restarts, state)
        return tuple(torch.where(row, new, old) for row, new, old in zip(rows, first, state, strict=True))

    @property
    def retraceable(self) -> bool:
        return all(memory.invertible for memory in memories(self.pure.module))

    def earlier(
        self, parameters: Tensors, buffers: Tensors, point: Point, after: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return self.pure.earlier(parameters, buffers, point, after)

    def initial_sensitivity(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...], state: State
    ) -> Tensors:
        blocks = blocks_of(*memories(self.pure.module))
        point, shape = _beginning(inputs, state), blocks.of(state).shape[:-1]
        moving = reached(lambda weights: self(weights, buffers, point).drift, parameters)
        return {name: state[0].new_zeros(*shape, *parameters[name].shape) for name in moving}

    def weights_before(self, inputs: tuple[Tensor, ...]) -> tuple[str, ...]:
        """The weights that what its memories hear depends on."""
        parameters, buffers = self.pure.parameters(), self.pure.buffers()
        point = _beginning(inputs, self.initial_state(parameters, buffers, inputs))
        return reached(lambda weights: self.pure.heard(weights, buffers, point), parameters)

    def stray_weights(self, inputs: tuple[Tensor, ...]) -> tuple[str, ...]:
        """The weights of its only memory that move other units than those of their rows."""
        parameters, buffers = self.pure.parameters(), self.pure.buffers()
        state = self.initial_state(parameters, buffers, inputs)
        point = _beginning(inputs, state)
        weights = {n: parameters[n] for n in self.initial_sensitivity(parameters, buffers, inputs, state)}
        (a,) = self.pure.heard(parameters, buffers, point)
        step = partial(self._alone, parameters, buffers)
        met = a[:1], tuple(xi[:1] for xi in state), torch.ones_like(a[:1, 0], dtype=torch.bool)
        return stray_weights(blocks_of(*memories(self.pure.module)), step, weights, met)

    def carried_sensitivity(
        self,
        parameters: Tensors,
        buffers: Tensors,
        point: Point,
        sensitivity: Tensors,
        costate: State,
    ) -> tuple[Tensors, Tensors]:
        blocks = blocks_of(*memories(self.pure.module))
        (a,) = self.pure.heard(parameters, buffers, point)
        weights = {name: parameters[name] for name in sensitivity}
        step = partial(self._alone, parameters, buffers)
        met = a, point.state, point.restarts
        drive = past_drive(blocks, sensitivity, costate)
        return drive, advanced_sensitivity(blocks, step, weights, met, sensitivity)

    def _alone(
        self,
        parameters: Tensors,
        buffers: Tensors,
        weights: Tensors,
        a: Tensor,
        state: State,
        restarts: Tensor | None,
    ) -> State:
        return self.pure.alone(parameters | weights, buffers, a, state, restarts)

    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        return Values(*self.pure.step(parameters, buffers, point))


def _beginning(inputs: tuple[Tensor, ...], state: State) -> Point:
    """Where every row begins anew."""
    rows = torch.ones(len(inputs[0]), dtype=torch.bool, device=inputs[0].device)
    return Point(inputs, state, Context(False, 0, beyond=BEYOND_TORCH), rows)


class _Walked(nn.Module):
    """A module's step as a forward, so that it can be called functionally."""

    def __init__(self, module: nn.Module, tau: float, reads: Reads) -> None:
        super().__init__()
        self.module = module
        self._tau, self._reads = tau, reads

    def forward(
        self, arguments: tuple[Tensor, ...], state: State | None, restarts: Tensor | None
    ) -> tuple[Tensor, State, State, State]:
        walk = Walk(self._tau, self._reads, state, restarts)
        return walk(self.module, *arguments), tuple(walk.drift), tuple(walk.initial), tuple(walk.heard)


class _Alone(nn.Module):
    """A step of a module's only memory, its units apart, as a forward."""

    def __init__(self, module: nn.Module, tau: float) -> None:
        super().__init__()
        self.module = module
        self._tau = tau

    def forward(self, a: Tensor, state: State, restarts: Tensor | None) -> State:
        (memory,) = memories(self.module)
        return Walk(self._tau, "new", state, restarts).at(apart(memory), a)[1]


class _Retraced(nn.Module):
    """A module's step backward, as a forward."""

    def __init__(self, module: nn.Module, tau: float, reads: Reads) -> None:
        super().__init__()
        self.module = module
        self._tau, self._reads = tau, reads

    def forward(self, arguments: tuple[Tensor, ...], after: State) -> State:
        retrace = Retrace(self._tau, self._reads, after)
        retrace(self.module, *arguments)
        return tuple(retrace.before)


def remembers(module: nn.Module) -> bool:
    """Whether a module has a memory."""
    return bool(memories(module))


def unwalked(module: nn.Module) -> str:
    """What would not run of a module whose memories are gone through one by one; empty where all does."""
    for part in module.modules():
        name = type(part).__name__
        if _is_more(part) and any(isinstance(inner, StateSpace | nn.RNNCellBase) for inner in part.modules()):
            return (
                f"has a memory inside a {name} with hooks, or tensors of its own, which would be left out, since "
                "it is gone through part by part: put them into a part"
            )
        if isinstance(part, StateSpace) and not unhooked(part):
            return f"has hooks on a memory ({name}), which would not run: put them on what stands before or after it"
        if isinstance(part, StateSpace) and forward_of(part) is not StateSpace.forward:
            return f"has a memory ({name}) with a forward of its own, which would not run: write drift and output"
    return ""


def _is_more(part: nn.Module) -> bool:
    """Whether a part has a sequence's or a residual block's forward, and something else."""
    walked = nn.Sequential.forward, Merging.forward, Residual.forward
    return forward_of(part) in walked and not (is_sequence(part) or is_residual(part))
