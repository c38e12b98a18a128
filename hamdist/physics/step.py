"""One layer, one tick: its carry, and the two halves of a step, as pure functions: `evaluate`, then `react`.

They are two because at delay 0 the costate that comes back depends on this tick's own output:

    evaluate(motion, carry, point, pattern)    → the carry with ξ one step on, y, and where y was evaluated
    react(motion, carry, met, q, pattern)      → the carry with p, ω and θ one step on, and ∂H by all that was wanted

These two are all there is: plain ticks run them, stacks of layers run them over stacked carries, traces write them
down. Everything a layer keeps is its Carry, a tree of tensors; nothing here knows of neighbours, delays or devices.
What a function consumes, the caller must not use again: its memory is written over.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.physics.averaging import RunningMean, initial_mean, moved_mean
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Partials, Pullback, Wanted, linearise
from hamdist.physics.integrators import Motion as Move
from hamdist.physics.layers import Layer, Point, Values, along
from hamdist.physics.numerics import per_member, plus, plus_
from hamdist.physics.pure_module import Tensors
from hamdist.physics.rates import MOST_MOMENTS, Adaptive, Moments

NO_SPAN: AbstractContextManager[None] = nullcontext()


class Carry(NamedTuple):
    """What a layer carries from tick to tick: θ, ω, ξ, p, its buffers, n updates with their moments, and ∂ξ/∂θ where
    its dynamics are exact."""

    parameters: Tensors
    weight_costate: Tensors
    buffers: Tensors
    state: tuple[Tensor, ...]
    state_costate: tuple[Tensor, ...]
    moments: Tensors
    updates: Tensor  # 0-dimensional
    sensitivity: Tensors
    mean: RunningMean  # of θ and its buffers, of nothing where none is kept

    @property
    def averaged(self) -> "Weights":
        """θ and buffers as they are judged and handed on: their mean, where one is kept."""
        mean = self.mean.tensors
        own = self.parameters, self.buffers
        return Weights(*({name: mean.get(name, t) for name, t in tensors.items()} for tensors in own))


def initial_carry(layer: Layer, inputs: tuple[Tensor, ...], dynamics: Dynamics) -> Carry:
    """A layer at rest: θ from its module, all costates zero, ξ as the layer starts for such inputs."""
    parameters, buffers = layer.pure.parameters(), layer.pure.buffers()
    state = layer.initial_state(parameters, buffers, inputs)
    device = inputs[0].device
    return Carry(
        parameters=parameters,
        weight_costate=_zeros(parameters),
        buffers=buffers,
        state=state,
        state_costate=tuple(torch.zeros_like(xi) for xi in state),
        moments=_initial_moments(parameters, dynamics.rate.adaptive),
        updates=torch.zeros((), dtype=torch.float64, device=device),
        sensitivity=layer.initial_sensitivity(parameters, buffers, inputs, state) if dynamics.exact else {},
        mean=initial_mean(_averaged(layer, parameters, buffers) if dynamics.average else {}, device),
    )


def _averaged(layer: Layer, parameters: Tensors, buffers: Tensors) -> Tensors:
    """What a mean is of: all that moves."""
    return parameters | {name: buffers[name] for name in layer.pure.moving if name in buffers}


class Weights(NamedTuple):
    """Of one layer: what learns, and what does not."""

    parameters: Tensors
    buffers: Tensors


class Evaluation(NamedTuple):
    """Where a layer that learns was evaluated.

    pullback: None where it is to be made when it is needed.  then: the weights that a pullback which is kept was made
    with, so that it can be made anew.  number: orders the evaluations.  entered: the state before episodes began there.
    """

    point: Point
    pullback: Pullback | None = None
    then: Weights | None = None
    number: int = -1
    entered: tuple[Tensor, ...] = ()


class Pattern(NamedTuple):
    """What is static of one layer's tick, so that there is one trace each.

    linearises: whether the pullback at the point is made at once.  buffers: whether its buffers move, as they do once a
    sample.  costate: whether one came, so that p moves.  weights: whether the gate is open, so that ω and θ do.
    keep: whether pullbacks of earlier ticks need the tensors of θ as they are.

    Whether episodes begin, and how many rows are real, the point says by what it has.
    """

    linearises: bool = True
    buffers: bool = True
    costate: bool = True
    weights: bool = True
    keep: bool = False


@dataclass(frozen=True)
class Motion:
    """One layer, or a stack of them, and how it moves.

    wanted: the partial derivatives that its neighbours and its weights need.  computing, integrating: what measures the
    time that goes into evaluations, and into steps of the equations of motion.
    """

    layer: Layer
    dynamics: Dynamics
    wanted: Wanted
    computing: AbstractContextManager[None] = NO_SPAN
    integrating: AbstractContextManager[None] = NO_SPAN


def evaluate(
    motion: Motion, carry: Carry, point: Point, pattern: Pattern
) -> tuple[Carry, Tensor, Evaluation]:
    """y and f at a point, ξ one step on: the first half of a tick."""
    entered = carry.state
    carry, point = restarted(motion.layer, carry, point)
    with motion.computing:
        values, pullback = valued(motion, carry, point, pattern.linearises)
    if pattern.buffers:
        carry = carry._replace(buffers=values.buffers)
    if point.state:
        with motion.integrating:
            carry = advance_state(carry, values, motion.dynamics)
    return carry, values.output, Evaluation(point, pullback, entered=entered)


def react(
    motion: Motion, carry: Carry, met: Evaluation, q: Tensor, pattern: Pattern
) -> tuple[Carry, Partials]:
    """∂H at the point that the costate q meets, p, ω and θ one step on: the second half; consumes its carry."""
    if carry.state:
        carry = carry._replace(state_costate=forgotten(carry.state_costate, met.point.restarts))
    with motion.computing:
        pullback = met.pullback or _made_anew(motion, carry, met)
        partials = pullback(q, carry.state_costate)
        if carry.sensitivity:
            carry, partials = with_past(motion.layer, carry, met.point, partials)
    with motion.integrating:
        if pattern.weights:
            carry = learn(carry, partials, motion.dynamics, pattern.keep)
        if pattern.costate and carry.state and not motion.dynamics.exact:
            carry = advance_costate(carry, partials, motion.dynamics)
    return carry, partials


def with_past(layer: Layer, carry: Carry, point: Point, partials: Partials) -> tuple[Carry, Partials]:
    """∂ξ/∂θ one step on from a point, and the derivatives by the weights with what the past did, ∂H/∂ξ ∂ξ/∂θ."""
    names, tensors = tuple(carry.sensitivity), tuple(carry.sensitivity.values())
    before = dict(zip(names, forgotten(tensors, point.restarts), strict=True))
    drive, after = layer.carried_sensitivity(carry.parameters, carry.buffers, point, before, partials.state)
    weights = {name: g + drive[name] if name in drive else g for name, g in partials.weights.items()}
    # The order of a sum, and so its bits, depends on the order in memory.
    after = {name: s.contiguous() for name, s in after.items()}
    return carry._replace(sensitivity=after), partials._replace(weights=weights)


def _made_anew(motion: Motion, carry: Carry, met: Evaluation) -> Pullback:
    """The pullback at a point, with the weights of then where they were kept."""
    parameters, buffers = met.then or (carry.parameters, carry.buffers)
    return linearise(motion.layer, parameters, buffers, met.point, motion.wanted)[1]


def valued(
    motion: Motion, carry: Carry, point: Point, linearises: bool = True
) -> tuple[Values, Pullback | None]:
    """y and f at a point, with the pullback if partial derivatives will be wanted there."""
    if linearises:
        return linearise(motion.layer, carry.parameters, carry.buffers, point, motion.wanted)
    return motion.layer(carry.parameters, carry.buffers, point), None


def restarted(layer: Layer, carry: Carry, point: Point) -> tuple[Carry, Point]:
    """ξ in the rows of the point's restarts is where it starts, both in the carry and at the point."""
    if point.restarts is None:
        return carry, point
    state = layer.restarted(carry.parameters, carry.buffers, point.inputs, carry.state, point.restarts)
    return carry._replace(state=state), point._replace(state=state)


def forgotten(costate: tuple[Tensor, ...], restarts: Tensor | None) -> tuple[Tensor, ...]:
    """p, zero in the rows of `restarts`: what comes of another episode does not speak of this one."""
    if restarts is None:
        return costate
    return tuple(torch.where(row, 0.0, p) for row, p in zip(along(restarts, costate), costate, strict=True))


def advance_state(carry: Carry, values: Values, dynamics: Dynamics) -> Carry:
    """ξ' = ξ + τ f."""
    state = tuple(plus(xi, f, dynamics.tau) for xi, f in zip(carry.state, values.drift, strict=True))
    return carry._replace(state=state)


def advance_costate(carry: Carry, partials: Partials, dynamics: Dynamics) -> Carry:
    """p' = a p − s c ∂H/∂ξ, clipped where it is asked for."""
    a, c = dynamics.state_coefficients
    costate = tuple(
        plus(p * a, gradient, -dynamics.sign * c)
        for p, gradient in zip(carry.state_costate, partials.state, strict=True)
    )
    if dynamics.clip is not None:
        costate = tuple(p.clamp(-dynamics.clip, dynamics.clip) for p in costate)
    return carry._replace(state_costate=costate)


def learn(carry: Carry, partials: Partials, dynamics: Dynamics, keep: bool = False) -> Carry:
    """One update of ω, θ, the moments and the mean by the drive G = ∂H/∂θ + λθ; consumes those of the carry.

    keep: leaves the tensors of θ as they are, for those who still need them.
    """
    parameters: Tensors = {}
    costates: Tensors = {}
    moments: Tensors = {}
    updates = carry.updates + 1
    for name, gradient in partials.weights.items():
        beta = dynamics.rate(name, per_member(carry.updates, gradient))
        theta, drive = _decayed(carry.parameters[name], gradient, beta, dynamics, keep)
        drive = dynamics.dampened(drive, per_member(carry.updates, gradient))
        weight = _Weight(theta, carry.weight_costate[name], drive, _moments_of(carry.moments, name))
        weight = _updated(weight, beta, per_member(updates, gradient), dynamics, plus if keep else plus_)
        parameters[name], costates[name] = weight.theta, weight.omega
        moments |= _named(name, weight.moments)
    carry = carry._replace(parameters=parameters, weight_costate=costates, moments=moments, updates=updates)
    if dynamics.average is None:
        return carry
    return carry._replace(mean=moved_mean(carry.mean, parameters, carry.buffers, dynamics.average))


class _Weight(NamedTuple):
    """Of one parameter: θ, ω, the drive G, and its moments where the rate adapts."""

    theta: Tensor
    omega: Tensor
    drive: Tensor
    moments: Moments

    def each(self, function: Callable[[Tensor], Tensor]) -> "_Weight":
        """The same with a function of every tensor."""
        moments = tuple(map(function, self.moments))
        return _Weight(function(self.theta), function(self.omega), function(self.drive), moments)


def _updated(weight: _Weight, beta: float | Tensor, n: Tensor, dynamics: Dynamics, move: Move) -> _Weight:
    """θ and ω one step on. A rate adapts to real and imaginary parts each by themselves, as torch.optim does."""
    apart = dynamics.rate.adaptive is not None and weight.theta.is_complex()
    if apart:
        weight = weight.each(lambda t: torch.view_as_real(t.resolve_conj()))
        beta = beta.unsqueeze(-1) if isinstance(beta, Tensor) and beta.dim() else beta
        n = n.unsqueeze(-1) if n.dim() else n
    theta, omega, drive, moments = weight
    adapted: Tensor | float = 1.0
    if dynamics.rate.adaptive is not None:
        drive, moments, adapted = dynamics.rate.adaptive(drive, moments, n)
    gain, coefficients = dynamics.gain(beta, adapted), dynamics.weight_coefficients
    theta, omega = dynamics.integrator.step(theta, omega, drive, gain, coefficients, dynamics.sign, move)
    weight = _Weight(theta, omega, drive, moments)
    return weight.each(torch.view_as_complex) if apart else weight


def _decayed(
    theta: Tensor, drive: Tensor, beta: float | Tensor, dynamics: Dynamics, keep: bool
) -> tuple[Tensor, Tensor]:
    """Weight decay: λθ enters the drive or, decoupled, shrinks θ by 1 − βλ."""
    if not dynamics.weight_decay:
        return theta, drive
    adaptive = dynamics.rate.adaptive
    if adaptive is not None and adaptive.decoupled:
        left = 1 - beta * dynamics.weight_decay
        return theta * left if keep else theta.mul_(left), drive
    return theta, plus(drive, theta, dynamics.weight_decay)


def _initial_moments(parameters: Tensors, adaptive: Adaptive | None) -> Tensors:
    if adaptive is None:
        return {}
    return {
        k: t for name, theta in parameters.items() for k, t in _named(name, adaptive.moments(theta)).items()
    }


def _named(name: str, moments: Moments) -> Tensors:
    return dict(zip(_names(name), moments, strict=False))


def _moments_of(moments: Tensors, name: str) -> Moments:
    return tuple(moments[key] for key in _names(name) if key in moments)


def _names(name: str) -> tuple[str, ...]:
    """Under which a parameter's moments go: the first by the parameter's own, others by that and their number."""
    return (name, *(f"{name}/{number}" for number in range(1, MOST_MOMENTS)))


def _zeros(tensors: Tensors) -> Tensors:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
