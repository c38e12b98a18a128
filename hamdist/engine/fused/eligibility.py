"""Which layers can run as traced operations, and which of them as a stack: found by trying, before the first tick.

A layer stacks if one member gives the same bits alone as among others, its update included: then a run does not depend
on who shares an actor with whom.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from hamdist.compiler.trace import Traced
from hamdist.engine.fused.layer import TracedLayer
from hamdist.engine.fused.state import along, apart, together
from hamdist.engine.fused.users_code import class_place, error_place
from hamdist.errors import first_line
from hamdist.network.survey import Facts
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.hamiltonian import Wanted, linearise
from hamdist.physics.layers import Layer, Point
from hamdist.physics.numerics import differentiable
from hamdist.physics.pure_module import Context, Tensors
from hamdist.physics.rates import Rate
from hamdist.physics.step import Carry, Motion, Pattern, evaluate, initial_carry, react, valued

ASKS_FOR_VALUES = ("DataDependentOutputException", "GuardOnDataDependentSymNode")
"""What torch raises where a trace is asked for a number; by name, since to import the latter brings SymPy."""
TRIED = 5  # members of the stack that is compared with lone ones
COUNTS = 256  # of updates, for which a rate that varies with their number is tried
REGULAR = Pattern(buffers=False)  # a tick that is traced: a layer whose buffers move in it is not
Structure = tuple[tuple[str, ...], tuple[str, ...], tuple, str]  # code, names of tensors, shapes, dynamics
Given = tuple[Carry, tuple[Tensor, ...], Tensor]  # what a layer carries, hears and is told


class Fit(NamedTuple):
    """The form in which a layer runs: as traced operations, None where only plain Python gives what it means.

    untraced, unstacked: why it is not traced, or does not stack, with the place in its code; empty where it does.
    """

    traced: TracedLayer | None
    untraced: str = ""
    unstacked: str = ""

    def of(self, layer: Layer) -> "Fit":
        """That of another layer of the same structure."""
        return self._replace(traced=self.traced and self.traced.of(layer))


PLAIN_FORM = Fit(None)


class Fitter:
    """Tries layers; what it found of one it knows of all that have the same structure."""

    def __init__(self) -> None:
        self._found: dict[Structure, Fit] = {}

    def fit(self, layer: Layer, facts: Facts, dynamics: Dynamics) -> Fit:
        """The layer as traced operations, stacking if it can.

        It cannot be traced where it draws random numbers, lets rows depend on each other, behaves otherwise when
        evaluated, or asks for the value of a tensor.
        """
        if why := _unfit(facts):
            return Fit(None, untraced=why + class_place(layer.pure.module))
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")
            single = TracedLayer(layer, stacks=False)
            try:
                structure = structure_of(single, facts, dynamics)
            except Exception as error:  # of a module of anybody's
                return Fit(None, untraced=in_words(error))
            if structure not in self._found:
                self._found[structure] = _tried(single, facts, dynamics)
        return self._found[structure].of(layer)


def structure_of(single: TracedLayer, facts: Facts, dynamics: Dynamics) -> Structure:
    """What layers have in common that may compute as one: their operations, shapes and laws of motion.

    The derivatives of torch's own operations follow from these; those of other code may be of its making.
    """
    carry = initial_carry(single.layer, facts.inputs, dynamics)
    shapes = tuple((tuple(t.shape), str(t.dtype), str(t.device)) for t in tree_leaves((carry, facts.inputs)))
    bare = replace(dynamics, rate=replace(dynamics.rate, delay_factor=1.0, factors={}, spread=None))
    values = single.code(facts.inputs)
    inverse = single.code_of_inverse(facts.output) if single.invertible else ""
    own = not single.pure.bare
    derivatives = single.code_of_derivatives(facts.inputs, facts.output, _all_wanted(facts)) if own else ""
    return (values, inverse, derivatives), (*carry.parameters, *carry.buffers), shapes, repr(bare)


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


def _unfit(facts: Facts) -> str:
    """What the survey knows against a trace."""
    if facts.shows_weights:
        return "it says its own weights"
    if facts.random:
        return "it draws random numbers"
    return "its rows depend on each other, as in batch statistics" if facts.batch_statistics else ""


def _tried(single: TracedLayer, facts: Facts, dynamics: Dynamics) -> Fit:
    if why := _why_not(lambda: _strays(single, facts)):
        return Fit(None, untraced=why)
    if dynamics.rate.adaptive is not None and not dynamics.rate.adaptive.stacks:
        return Fit(single, unstacked="its rate looks at whole matrices")
    several = TracedLayer(single.layer, stacks=True)
    if why := _why_not(lambda: _strays(several, facts) or _depends_on_others(several, facts, dynamics)):
        return Fit(single, unstacked=why)
    return Fit(several)


def _why_not(attempt: Callable[[], str]) -> str:
    """What an attempt to trace a module of anybody's finds against it, or what it raised, and where."""
    try:
        return attempt()
    except Exception as error:
        return in_words(error)


def in_words(error: Exception) -> str:
    """Why what raised this in a trace cannot be traced, and where in the user's code."""
    words = first_line(error)
    if type(error).__name__ in ASKS_FOR_VALUES:
        words = "it asks for the value of a tensor, as by .item() or an if"
    elif isinstance(error, Warning):
        words = f"it warns: {words}"
    return f"{words}{error_place(error)}"


def _strays(traced: TracedLayer, facts: Facts) -> str:
    """In what the trace is not the layer, in training, evaluation and derivatives; nothing if it is."""
    generator = torch.Generator(facts.says.device).manual_seed(0)
    carry, inputs, q = _example(traced, facts, Dynamics(), generator)
    point, motion = Point(inputs, carry.state), Motion(traced, Dynamics(), _all_wanted(facts))
    for training in (True, False):
        ours, _ = valued(
            motion, carry, point, linearises=False
        )  # each time: a trace that draws says other things
        theirs = traced.layer(carry.parameters, carry.buffers, point._replace(context=Context(training)))
        if not torch.allclose(ours.output, theirs.output, rtol=1e-3, atol=1e-4, equal_nan=True):
            when = "in training" if training else "when evaluated"
            return f"its operations, written down once, give other numbers {when}{class_place(traced.pure.module)}"
    if traced.remembers:
        point = point._replace(restarts=_some_rows(facts))
    carry, _, met = evaluate(motion, carry, point, REGULAR)
    if not _same_derivatives(traced, carry, met.point, q, motion.wanted):
        return f"its derivatives, written down once, are others{class_place(traced.pure.module)}"
    react(motion, carry, met, q, REGULAR)
    return ""


def _same_derivatives(traced: TracedLayer, carry: Carry, point: Point, q: Tensor, wanted: Wanted) -> bool:
    """Whether the trace has the derivatives of the layer: its code may do something else in them."""
    ours, theirs = (
        tree_leaves(
            linearise(layer, carry.parameters, carry.buffers, point, wanted)[1](q, carry.state_costate)
        )
        for layer in (traced, traced.layer)
    )
    return all(
        torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().amax()), equal_nan=True)
        for a, b in zip(ours, theirs, strict=True)
        if isinstance(b, Tensor) and b.numel()
    )


def _some_rows(facts: Facts) -> Tensor:
    """Restarts in every second row."""
    return torch.arange(facts.says.shape[0], device=facts.says.device) % 2 == 0


def _depends_on_others(traced: TracedLayer, facts: Facts, dynamics: Dynamics) -> str:
    """Whether members of a stack end a tick with other bits than they have alone; nothing if they do not."""
    if not traced.pure.parameters():
        return "it has no weights"
    generator = torch.Generator(facts.says.device).manual_seed(0)
    if not _rates_alike(dynamics.rate, facts, generator):
        return "its rate has other last bits for one number of updates than for several at once"
    examples = [_example(traced, facts, dynamics, generator) for _ in range(TRIED)]
    given, spread = together(examples), dynamics.rate.spread
    tick = partial(_tick, dynamics, _all_wanted(facts))
    rates = None if spread is None else _side_by_side(spread, given[0].parameters)
    among = Traced(partial(tick, traced.form), rates, *given)(rates, *given)
    lone = [tick(traced, spread, *example) for example in examples]
    alike = all(map(_same_bits, lone, apart(among, TRIED)))
    return "" if alike else f"one of {TRIED} ends a tick with other last bits than alone"


def _rates_alike(rate: Rate, facts: Facts, generator: torch.Generator) -> bool:
    """Whether β and what adapts it have the same bits for many numbers of updates at once as for each alone."""
    if not rate.varies:
        return True
    counts = _drawn_counts(generator, (COUNTS, 1), facts.says.device)
    drive = torch.ones((COUNTS, 1), dtype=facts.output.dtype, device=facts.says.device)

    def found(n: Tensor, drive: Tensor) -> list[Any]:
        beta = rate.beta(n) if callable(rate.beta) else 1.0
        adapted = tree_leaves(rate.adaptive(drive, (drive.clone(),), n)) if rate.adaptive is not None else ()
        return [torch.as_tensor(value).expand(drive.shape) for value in (beta, *adapted)]

    lone = [found(n.squeeze(), one) for n, one in zip(counts, drive, strict=True)]
    return _same_bits([torch.stack(each) for each in zip(*lone, strict=True)], found(counts, drive))


def _side_by_side(spread: Mapping[str, Tensor], parameters: Tensors) -> dict[str, Tensor]:
    return {name: along(factor.expand(TRIED), parameters[name]) for name, factor in spread.items()}


def _same_bits(one: Any, other: Any) -> bool:
    """Of two trees."""
    return all(map(torch.equal, tree_leaves(one), tree_leaves(other)))


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
    motion = Motion(layer, with_rates(dynamics, rates), wanted)
    carry, output, met = evaluate(motion, carry, Point(inputs, carry.state), REGULAR)
    carry, partials = react(motion, carry, met, q, REGULAR)
    return carry, output, [a for a in partials.inputs if a is not None]


def _example(traced: TracedLayer, facts: Facts, dynamics: Dynamics, generator: torch.Generator) -> Given:
    """A member at work: what it carries, hears and is told, at random."""
    carry = initial_carry(traced.layer, facts.inputs, dynamics)
    drawn = partial(_drawn, generator)
    carry = carry._replace(
        weight_costate=tree_map(drawn, carry.weight_costate),
        state=tree_map(drawn, carry.state),
        state_costate=tree_map(drawn, carry.state_costate),
        sensitivity=tree_map(drawn, carry.sensitivity),
        updates=_drawn_counts(generator, (), carry.updates.device),
    )
    return carry, tree_map(drawn, facts.inputs), drawn(facts.output)


def _drawn(generator: torch.Generator, like: Tensor) -> Tensor:
    """Random numbers of the same form; integers stay."""
    if not differentiable(like.dtype):
        return like.clone()
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _drawn_counts(generator: torch.Generator, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Numbers of updates, each of any order of magnitude up to a million, as often few as many."""
    order = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
    return torch.floor(10 ** (6 * order))


def _all_wanted(facts: Facts) -> Wanted:
    return Wanted(True, tuple(differentiable(heard.dtype) for heard in facts.hears))
