"""The two halves of a layer's tick, as pure functions: `evaluate`, then `react`.

They are two because at delay 0 the costate that comes back depends on this tick's own output:

    evaluate(layer, carry, point)       → y, f and the pullback that will give the partial derivatives of H
    react(carry, partials, dynamics)    → the carry one tick later, made of `advance_costate` and `learn`

Everything a layer keeps is its Carry, a tree of tensors; nothing here knows of neighbours, delays or devices. What a
function consumes, the caller must not use again: its memory is written over.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Partials, Pullback, Wanted, linearise
from hamdist.physics.layers import Layer, Point, Tensors, Values, along
from hamdist.physics.numerics import plus, plus_


class Carry(NamedTuple):
    """What a layer carries from tick to tick: θ, ω, ξ, p, its buffers, and n updates with their moments."""

    parameters: Tensors
    weight_costate: Tensors
    buffers: Tensors
    state: tuple[Tensor, ...]
    state_costate: tuple[Tensor, ...]
    moments: Tensors
    updates: Tensor  # 0-dimensional


def initial_carry(layer: Layer, inputs: tuple[Tensor, ...], dynamics: Dynamics) -> Carry:
    """A layer at rest: θ from its module, all costates zero, ξ as the layer starts for such inputs."""
    parameters, buffers = layer.pure.parameters(), layer.pure.buffers()
    state = layer.initial_state(parameters, buffers, inputs)
    adaptive = dynamics.rate.adaptive is not None
    return Carry(
        parameters=parameters,
        weight_costate=_zeros(parameters),
        buffers=buffers,
        state=state,
        state_costate=tuple(torch.zeros_like(xi) for xi in state),
        moments=_zeros(parameters) if adaptive else {},
        updates=torch.zeros((), dtype=torch.float64, device=inputs[0].device),
    )


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


def evaluate(
    layer: Layer, carry: Carry, point: Point, wanted: Wanted | None
) -> tuple[Values, Pullback | None]:
    """y and f at a point, with the pullback if partial derivatives will be wanted there."""
    if wanted is None:
        return layer(carry.parameters, carry.buffers, point), None
    return linearise(layer, carry.parameters, carry.buffers, point, wanted)


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
    """One update of ω, θ and the moments by the drive G = ∂H/∂θ + λθ; consumes those of the carry.

    keep: leaves the tensors of θ as they are, for those who still need them.
    """
    parameters: Tensors = {}
    costates: Tensors = {}
    moments: Tensors = {}
    updates = carry.updates + 1
    coefficients, step = dynamics.weight_coefficients, dynamics.integrator.step
    move = plus if keep else plus_
    for name, gradient in partials.weights.items():
        beta = dynamics.rate(name, carry.updates)
        theta, drive = _decayed(carry.parameters[name], gradient, beta, dynamics, keep)
        adapted: Tensor | float = 1.0
        if dynamics.rate.adaptive is not None:
            drive, moments[name], adapted = dynamics.rate.adaptive(drive, carry.moments[name], updates)
        gain = dynamics.gain(beta, adapted)
        parameters[name], costates[name] = step(
            theta, carry.weight_costate[name], drive, gain, coefficients, dynamics.sign, move
        )
    return carry._replace(parameters=parameters, weight_costate=costates, moments=moments, updates=updates)


def react(
    carry: Carry,
    partials: Partials,
    dynamics: Dynamics,
    *,
    costate: bool,
    weights: bool,
    keep: bool = False,
) -> Carry:
    """The second half; consumes its carry, but for the tensors of θ under `keep`.

    p moves if a costate came in, ω and θ if the gate is open; ∂H/∂a are in the partials.
    """
    if weights:
        carry = learn(carry, partials, dynamics, keep)
    if costate and carry.state:
        carry = advance_costate(carry, partials, dynamics)
    return carry


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


def _zeros(tensors: Tensors) -> Tensors:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
