"""Which layers can run as traced operations, and which of them as a stack: found by trying, before the first tick.

A layer stacks if one member gives the same bits alone as among others, its update included: then a run does not depend
on who shares an actor with whom.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from hamdist.compiler.trace import Traced
from hamdist.engine.fused.layer import TracedLayer
from hamdist.engine.fused.state import along, apart, together
from hamdist.network.survey import Facts
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Context, Layer, Point, Tensors
from hamdist.physics.step import Carry, advance_state, evaluate, initial_carry, react, restarted

TRIED = 5  # members of the stack that is compared with lone ones
Structure = tuple[str, str, tuple[str, ...], tuple, str]
Given = tuple[Carry, tuple[Tensor, ...], Tensor]  # what a layer carries, hears and is told


class Fitter:
    """Tries layers; what it found of one it knows of all that have the same structure."""

    def __init__(self) -> None:
        self._found: dict[Structure, TracedLayer | None] = {}

    def fit(self, layer: Layer, facts: Facts, dynamics: Dynamics) -> TracedLayer | None:
        """The layer as traced operations, stacking if it can; None where only plain Python gives what it means.

        That is where it draws random numbers, lets rows depend on each other, behaves otherwise when evaluated, or asks
        for the value of a tensor.
        """
        if facts.random or facts.batch_statistics or facts.shows_weights:
            return None
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")
            single = TracedLayer(layer, stacks=False)
            if not _succeeds(lambda: bool(single.code(facts.inputs))):
                return None
            structure = structure_of(single, facts, dynamics)
            if structure not in self._found:
                self._found[structure] = _tried(single, facts, dynamics)
        found = self._found[structure]
        return found and found.of(layer)


def structure_of(single: TracedLayer, facts: Facts, dynamics: Dynamics) -> Structure:
    """What layers have in common that may compute as one: their operations, shapes and laws of motion."""
    carry = initial_carry(single.layer, facts.inputs, dynamics)
    shapes = tuple((tuple(t.shape), str(t.dtype), str(t.device)) for t in tree_leaves((carry, facts.inputs)))
    bare = replace(dynamics, rate=replace(dynamics.rate, delay_factor=1.0, factors={}, spread=None))
    inverse = single.code(facts.inputs, facts.output) if single.invertible else ""
    return single.code(facts.inputs), inverse, tuple(carry.parameters), shapes, repr(bare)


def _tried(single: TracedLayer, facts: Facts, dynamics: Dynamics) -> TracedLayer | None:
    if not _succeeds(lambda: _traces(single, facts)):
        return None
    several = TracedLayer(single.layer, stacks=True)
    if dynamics.rate.varies or not _succeeds(lambda: _alone_as_among_others(several, facts, dynamics)):
        return single
    return several


def spread_rates(dynamics: Dynamics, parameters: Tensors) -> Dynamics:
    """The same rates as tensors, so that layers may differ in them and yet compute as one."""
    return with_rates(
        dynamics,
        {
            name: torch.tensor(dynamics.rate.factor(name), dtype=torch.float64, device=theta.device)
            for name, theta in parameters.items()
        },
    )


def with_rates(dynamics: Dynamics, spread: Mapping[str, Tensor] | None) -> Dynamics:
    return replace(dynamics, rate=replace(dynamics.rate, spread=spread))


def _succeeds(attempt: Callable[[], bool]) -> bool:
    """Whether an attempt to trace a module of anybody's says yes; whatever it raises is a no."""
    try:
        return attempt()
    except Exception:
        return False


def _traces(traced: TracedLayer, facts: Facts) -> bool:
    """Whether the trace says what the layer says, in training and evaluation."""
    generator = torch.Generator(facts.says.device).manual_seed(0)
    carry, inputs, q = _example(traced, facts, Dynamics(), generator)
    point = Point(inputs, carry.state)
    ours, _ = evaluate(traced, carry, point, None)
    for training in (True, False):
        theirs, _ = evaluate(traced.layer, carry, point._replace(context=Context(training)), None)
        if not torch.allclose(ours.output, theirs.output, rtol=1e-3, atol=1e-4, equal_nan=True):
            return False
    if traced.remembers:
        carry, point = restarted(traced, carry, point._replace(restarts=_some_rows(facts)))
    _, pullback = evaluate(traced, carry, point, _all_wanted(facts))
    assert pullback is not None
    pullback(q, carry.state_costate)
    return True


def _some_rows(facts: Facts) -> Tensor:
    """Restarts in every second row."""
    return torch.arange(facts.says.shape[0], device=facts.says.device) % 2 == 0


def _alone_as_among_others(traced: TracedLayer, facts: Facts, dynamics: Dynamics) -> bool:
    """Whether members of a stack end a tick with the bits that they have alone."""
    if not traced.pure.parameters():
        return False
    generator = torch.Generator(facts.says.device).manual_seed(0)
    examples = [_example(traced, facts, dynamics, generator) for _ in range(TRIED)]
    given = together(examples)
    tick = partial(_tick, dynamics, _all_wanted(facts))
    spread = dynamics.rate.spread
    rates = (
        None
        if spread is None
        else {n: along(f.expand(TRIED), given[0].parameters[n]) for n, f in spread.items()}
    )
    among = Traced(partial(tick, traced.form), rates, *given)(rates, *given)
    lone = [tick(traced, spread, *example) for example in examples]
    return all(
        torch.equal(a, b)
        for alone, one in zip(lone, apart(among, TRIED), strict=True)
        for a, b in zip(tree_leaves(alone), tree_leaves(one), strict=True)
    )


def _tick(
    dynamics: Dynamics,
    wanted: Wanted,
    layer: Layer,
    rates: Mapping[str, Tensor] | None,
    carry: Carry,
    inputs: tuple[Tensor, ...],
    q: Tensor,
) -> tuple[Carry, Tensor, list[Tensor]]:
    """A tick of one layer, or of a stack: what it carries afterwards, says, and returns."""
    dynamics = with_rates(dynamics, rates)
    values, pullback = evaluate(layer, carry, Point(inputs, carry.state), wanted)
    assert pullback is not None
    partials = pullback(q, carry.state_costate)
    carry = react(advance_state(carry, values, dynamics), partials, dynamics, costate=True, weights=True)
    return carry, values.output, [a for a in partials.inputs if a is not None]


def _example(traced: TracedLayer, facts: Facts, dynamics: Dynamics, generator: torch.Generator) -> Given:
    """A member at work: what it carries, hears and is told, at random."""
    carry = initial_carry(traced.layer, facts.inputs, dynamics)
    drawn = partial(_drawn, generator)
    carry = carry._replace(
        weight_costate=tree_map(drawn, carry.weight_costate),
        state=tree_map(drawn, carry.state),
        state_costate=tree_map(drawn, carry.state_costate),
    )
    return carry, tree_map(drawn, facts.inputs), drawn(facts.output)


def _drawn(generator: torch.Generator, like: Tensor) -> Tensor:
    """Random numbers of the same form; integers stay."""
    if not like.is_floating_point():
        return like.clone()
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _all_wanted(facts: Facts) -> Wanted:
    return Wanted(True, tuple(heard.dtype.is_floating_point for heard in facts.hears))
