"""The layer contract: y = g(a, ξ; θ) and, for a layer with a state, the drift f(a, ξ; θ), as pure functions.

Shapes: a_B…: inputs, B rows first; y_B…: output; ξ: one tensor per component of the state.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from hamdist.physics.modules import invertible
from hamdist.physics.randomness import seeded

Tensors = dict[str, Tensor]
Join = Literal["sum", "concat", "arguments"]


class Context(NamedTuple):
    """The circumstances of one evaluation, which a recomputation repeats."""

    training: bool = True
    seed: int | None = None  # what a random layer draws from
    rows: int | None = None  # rows that are real, for batch statistics over a padded batch


class Point(NamedTuple):
    """Where a layer is evaluated, and under which circumstances.

    restarts: the rows [B] whose state is where it starts; None where there are none, or nobody wants to know.
    """

    inputs: tuple[Tensor, ...]
    state: tuple[Tensor, ...] = ()
    context: Context = Context()
    restarts: Tensor | None = None


class Values(NamedTuple):
    """What one evaluation gives: y, f (one tensor per component of ξ) and the buffers after it."""

    output: Tensor
    drift: tuple[Tensor, ...]
    buffers: Tensors


class PureModule:
    """Any nn.Module that maps tensors to a tensor, as a function of its parameters, buffers and inputs."""

    def __init__(self, module: nn.Module, join: Join = "sum") -> None:
        self.module = module
        self.join = join
        self._awake = [part for part in module.modules() if part.training]  # what its author froze stays so
        self._training = True
        self._mutable = frozenset(name for name, _ in module.named_buffers())
        self._names = _first_names(module)
        self._tied = any(name != first for name, first in self._names.items())

    def parameters(self) -> Tensors:
        """What learns: copies of the parameters that require a gradient."""
        return {n: p.detach().clone() for n, p in self.module.named_parameters() if p.requires_grad}

    def buffers(self) -> Tensors:
        """What does not learn: copies of the buffers and of the frozen parameters."""
        frozen = {n: p.detach().clone() for n, p in self.module.named_parameters() if not p.requires_grad}
        return frozen | {n: b.detach().clone() for n, b in self.module.named_buffers()}

    def __call__(
        self, parameters: Mapping[str, Tensor], buffers: Tensors, inputs: tuple[Tensor, ...], context: Context
    ) -> tuple[Tensor, Tensors]:
        """Returns (output [B, …], buffers afterwards); the arguments stay as they are."""
        buffers = self._prepared(buffers, context)
        arguments = joined(tuple(a[: context.rows] for a in inputs), self.join)
        tensors = {**parameters, **buffers}
        with seeded(context.seed, inputs[0].device):
            output = functional_call(self.module, tensors, arguments, tie_weights=self._tied)
        after = {name: tensors[name] for name in buffers}  # a module may assign a buffer anew
        return (output if context.rows is None else padded(output, len(inputs[0]))), after

    def state_dict(self, parameters: Tensors, buffers: Tensors) -> Tensors:
        """The module's state_dict with these tensors; weights tied inside it stand under each of their names."""
        current = parameters | buffers
        return {name: current[self._names[name]].clone() for name in self.module.state_dict()}

    def inverse(self, parameters: Tensors, buffers: Tensors, output: Tensor, context: Context) -> Tensor:
        """The input that these parameters map to `output`."""
        tensors = parameters | self._prepared(buffers, context)
        renamed = {f"module.{name}": tensor for name, tensor in tensors.items()}
        back = functional_call(_Inverse(self.module), renamed, (output[: context.rows],))
        return padded(back, len(output))

    def materialise(self, inputs: tuple[Tensor, ...]) -> None:
        """Lazy modules take their shapes from a first plain call, in evaluation mode: no statistics move."""
        if self._lazy:
            self._set_training(False)
            self.module(*joined(inputs, self.join))

    @property
    def _lazy(self) -> bool:
        return any(is_lazy(t) for t in (*self.module.parameters(), *self.module.buffers()))

    def _set_training(self, training: bool) -> None:
        for part in self._awake if training != self._training else ():
            part.training = training
        self._training = training

    def _prepared(self, buffers: Tensors, context: Context) -> Tensors:
        """Puts the module in the mode asked for; buffers that it may overwrite become copies."""
        self._set_training(context.training)
        return {n: b.clone() if n in self._mutable else b for n, b in buffers.items()}


def _first_names(module: nn.Module) -> dict[str, str]:
    """For every name of a parameter or buffer, the first name under which that tensor stands."""
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


class _Inverse(nn.Module):
    """A module's inverse as a forward, so that it can be called functionally."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, y: Tensor) -> Tensor:
        return self.module.inverse(y)  # type: ignore[operator]


def padded(rows: Tensor, batch: int) -> Tensor:
    """The rows, followed by zeros up to the batch size."""
    if len(rows) == batch:
        return rows
    return torch.cat([rows, rows.new_zeros(batch - len(rows), *rows.shape[1:])])


def along(rows: Tensor, state: tuple[Tensor, ...]) -> list[Tensor]:
    """Flags of rows [B], or [N, B], as they broadcast to every component of a state."""
    return [rows.view(*rows.shape, *[1] * (xi.dim() - rows.dim())) for xi in state]


def joined(inputs: tuple[Tensor, ...], join: Join) -> tuple[Tensor, ...]:
    """The arguments a module gets from several in-edges: their sum in edge order, their concatenation, or all."""
    if join == "arguments" or len(inputs) == 1:
        return inputs
    if join == "concat":
        return (torch.cat(inputs, dim=1),)
    total = inputs[0]
    for a in inputs[1:]:
        if a.shape != total.shape:
            raise ValueError(f"a sum needs signals of one shape, not {list(total.shape)} and {list(a.shape)}")
        total = total + a
    return (total,)


class Layer(ABC):
    """One layer of the network, stateless itself: parameters, buffers and state are handed in.

    latency: how many ticks pass before an input shows in the output (0: y depends on a; 1: only through ξ).
    remembers: whether its state is a memory of what was, and starts anew where an episode does.
    """

    latency: int = 0
    remembers: bool = False

    def __init__(self, pure: PureModule) -> None:
        self.pure = pure

    @property
    def invertible(self) -> bool:
        """Whether the reversible pairing can reconstruct this layer's input from its output."""
        return False

    def inverse(self, parameters: Tensors, buffers: Tensors, output: Tensor, context: Context) -> Tensor:
        """The input that an invertible layer maps to `output` with these parameters."""
        return self.pure.inverse(parameters, buffers, output, context)

    @abstractmethod
    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """ξ before the first input, for inputs of these shapes; of a layer that remembers, for these inputs."""

    def restarted(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: tuple[Tensor, ...],
        restarts: Tensor,
    ) -> tuple[Tensor, ...]:
        """ξ as it is before a first input in the rows of `restarts` [B]; as it is where nothing is remembered."""
        return state

    @property
    def retraceable(self) -> bool:
        """Whether its state can be integrated backward, from what it is after an input."""
        return False

    def earlier(
        self, parameters: Tensors, buffers: Tensors, point: Point, after: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """The state that the inputs of a point turned into `after`; of a layer that is retraceable."""
        raise NotImplementedError("this layer cannot be integrated backward")

    @abstractmethod
    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        """y and f at a point."""


class Instant(Layer):
    """No state: y = φ(a; θ)."""

    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        output, buffers = self.pure(parameters, buffers, point.inputs, point.context)
        return Values(output, (), buffers)

    @property
    def invertible(self) -> bool:
        return invertible(self.pure.module)


class Relaxing(Layer):
    """A leaky state that relaxes to what the module says: dξ/dt = (φ(a; θ) − ξ)/T, y = ξ (T > τ/2).

    With T = τ it is a delay of one tick; at equilibrium p/T = Jᵀ p_next/T_next, so that the costates are the
    backpropagated gradients for any T (arXiv 2409.12038, Section 3).
    """

    latency = 1

    def __init__(self, pure: PureModule, time_constant: float) -> None:
        super().__init__(pure)
        self.time_constant = time_constant

    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        target, _ = self.pure(parameters, buffers, inputs, Context(training=False, seed=0))
        return (torch.zeros_like(target),)

    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        target, buffers = self.pure(parameters, buffers, point.inputs, point.context)
        (xi,) = point.state
        return Values(xi, ((target - xi) / self.time_constant,), buffers)
