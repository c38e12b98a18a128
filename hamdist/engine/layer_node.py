"""One layer at work: the two halves of its tick, as functions of its state and of what its edges bring.

A node knows only its own edges. `evaluate` takes a signal from every in-edge and gives the one for all out-edges;
`react` takes a costate from every out-edge and gives one for every in-edge. What a tick does to the layer itself is
`physics/step.py`; which point a costate meets, `physics/memory.py`; here stands what tokens decide.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hamdist.engine.aligned import aligned
from hamdist.engine.fused.layer import TracedStep
from hamdist.engine.junction import await_sample, hear, heard, returning, with_waiting
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import INVALID, NO_COSTATE, ZEROS, Costate, Signal, Token, flags_of
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.state import NodeState, Settling
from hamdist.engine.window import sweep
from hamdist.errors import RunError
from hamdist.physics import step
from hamdist.physics.layers import Point
from hamdist.physics.memory import Pairing, Returned, WindowMemory, gate_open
from hamdist.physics.pure_module import Context
from hamdist.physics.randomness import derive_seed
from hamdist.physics.step import Carry, Evaluation, Pattern, Weights, initial_carry

NOTHING = Signal(INVALID)
TRIAL = Pattern(linearises=False, buffers=False)


def initial_state(spec: NodeSpec) -> NodeState:
    """A layer at rest, before the first tick."""
    return NodeState(
        carry=initial_carry(spec.layer, spec.facts.inputs, spec.dynamics),
        kept=spec.memory.empty(),
        hearing=spec.inward.empty(),
        returning=spec.outward.empty(),
        shown=ZEROS if spec.warm else INVALID,
        held=INVALID,
    )


def resumed(spec: NodeSpec, state: NodeState, tick: int, latest: Point, remembered: list[Point]) -> NodeState:
    """A node that goes on at a tick after regular ones that were done elsewhere.

    latest: what it was evaluated at in the last of them.  remembered: what its memory would keep, the latest first.
    """
    assert isinstance(spec.memory, Pairing)
    heard(spec.inward, state.hearing, latest.inputs)
    spec.memory.restore(state.kept, tick, remembered)
    return state._replace(present=None, trial=None, latest=latest if spec.needs_latest else None)


# First half


def evaluate(spec: NodeSpec, state: NodeState, tick: int, signals: list[Signal]) -> tuple[NodeState, Signal]:
    """Takes one signal per in-edge and returns the one for every out-edge."""
    before, output = state, None
    token, signals = hear(spec.inward, state.hearing, signals)
    if token.valid:
        inputs = _inputs(spec, signals)
        state, output = (_learn_from if token.learn else _try)(spec, state, tick, token, inputs)
    spec.memory.remember(state.kept, tick, state.present)
    if isinstance(spec.memory, Pairing) and spec.memory.reconstructs:
        state = state._replace(present=None)  # its activations would last until the costate comes
    if spec.latency:
        return state._replace(shown=token), _shown_late(before)
    return state, NOTHING if output is None else Signal(token, aligned(output))


def _inputs(spec: NodeSpec, signals: list[Signal]) -> tuple[Tensor, ...]:
    """What the edges bring; zeros where a feedback edge has brought nothing yet."""
    return tuple(
        hears.zeros() if signal.value is None else signal.value
        for signal, hears in zip(signals, spec.facts.hears, strict=True)
    )


def _shown_late(before: NodeState) -> Signal:
    """What a layer with latency shows: ξ as it was, with the token of the samples that made it."""
    shown = before.shown
    if not shown.valid:
        return NOTHING
    xi = before.carry.state if shown.learn or before.trial is None else before.trial
    return Signal(shown, xi[0])


def _learn_from(
    spec: NodeSpec, state: NodeState, tick: int, token: Token, inputs: tuple[Tensor, ...]
) -> tuple[NodeState, Tensor]:
    memory, before = spec.memory, state.carry
    pattern = Pattern(memory.linearises, token.rows > 0 and token.repeat == 0)
    point = _point(spec, token, inputs, before.state)
    carry, output, present = step.evaluate(spec.motion_at(tick), before, point, pattern)
    if memory.keeps_graphs:
        present = present._replace(then=Weights(before.parameters, before.buffers))
    if spec.horizon is not None:
        present = present._replace(number=token.tick)
        state = state._replace(undriven=(*state.undriven, token))
    latest = present.point if spec.needs_latest else None
    state = state._replace(carry=carry, present=present, trial=None, latest=latest)
    return _held(state, token, output) if spec.holds_output else (state, _lasting(spec, output))


def _held(state: NodeState, token: Token, output: Tensor) -> tuple[NodeState, Tensor]:
    """What a layer says whose state moves at the first tick of a hold alone."""
    if token.repeat and state.said is not None:
        return state, state.said
    said = output.clone()
    return state._replace(said=said), said


def _try(
    spec: NodeSpec, state: NodeState, tick: int, token: Token, inputs: tuple[Tensor, ...]
) -> tuple[NodeState, Tensor]:
    """A hold-out sample: nothing of the layer moves, not even ξ, of which a copy does."""
    weights, buffers = state.carry.averaged
    trial = state.carry._replace(parameters=weights, buffers=buffers)
    trial = trial if state.trial is None else trial._replace(state=state.trial)
    point = _point(spec, token, inputs, trial.state)
    point = point._replace(context=point.context._replace(training=False))
    trial, output, _ = step.evaluate(spec.motion_at(tick), trial, point, TRIAL)
    return state._replace(trial=trial.state), _lasting(spec, output)


def _lasting(spec: NodeSpec, output: Tensor) -> Tensor:
    """What neighbours may keep: not the weights themselves, which move."""
    return output.clone() if spec.facts.shows_weights else output


# Second half


def react(
    spec: NodeSpec, state: NodeState, tick: int, costates: list[Costate]
) -> tuple[NodeState, list[Costate]]:
    """Takes one costate per out-edge and returns one per in-edge."""
    present, token = state.present, returning(spec.outward, state.returning, costates)
    state = state._replace(present=None)  # the activations it holds last no longer than this half
    driving = token
    if spec.latency:
        driving, state = state.held, state._replace(held=token)
    if not (token.valid or driving.valid):
        await_sample(spec.outward, state.returning, costates)
        return state, spec.silence
    costates = with_waiting(state.returning, costates)
    q = _total(spec, costates)
    if isinstance(spec.memory, WindowMemory):
        return sweep(spec, spec.memory, state, token, q)
    state, drives = _gate(spec, state, tick, q, driving)
    met = _met(spec, state, tick, _returned(spec, state, driving, costates), present)
    if spec.skips and not driving.teaches:
        return state, _costates(spec, driving, met.point, _nothing(spec, met.point))
    pattern = Pattern(costate=token.valid, weights=drives, keep=spec.memory.keeps_graphs)
    carry, partials = step.react(spec.motion_at(tick), state.carry, met, q, pattern)
    ledger = state.ledger.drove(driving) if drives else state.ledger
    state = state._replace(carry=carry, ledger=ledger)
    return state, _costates(spec, driving, met.point, partials.inputs) if driving.valid else spec.silence


def _total(spec: NodeSpec, costates: list[Costate]) -> Tensor:
    """q, the sum of the costates in edge order; zeros where nothing returns."""
    total: Tensor | None = None
    for costate in costates:
        if costate.value is not None:
            total = costate.value if total is None else total + costate.value
    return spec.quiet if total is None else total


def _returned(spec: NodeSpec, state: NodeState, driving: Token, costates: list[Costate]) -> Returned:
    """What came back, for a memory that reconstructs."""
    outputs = [costate.output for costate in costates if costate.output is not None]
    return Returned(outputs[0] if outputs else None, _context(spec, driving), spec.computes, state.carry)


def _met(
    spec: NodeSpec, state: NodeState, tick: int, returned: Returned, present: Evaluation | None
) -> Evaluation:
    """This tick's evaluation, or what the memory recalls. Raises RunError where there is nothing."""
    memory = spec.memory
    assert isinstance(memory, Pairing)
    if memory.meets_present and present is not None:
        return present
    met = memory.recall(state.kept, tick, returned)
    if met is None and spec.latency:  # p takes up q one tick before the point that it drives
        met = state.latest and Evaluation(state.latest)
    if met is None:
        raise RunError(
            f"layer {spec.name!r}: a costate came at tick {tick}, before what it speaks of was evaluated"
        )
    return met


def _nothing(spec: NodeSpec, point: Point) -> list[Tensor | None]:
    """∂H/∂a where q is zero: not 0 · ∞, which is no number, where the samples that were left out made an infinity."""
    wanted = zip(spec.facts.wanted, point.inputs, strict=True)
    return [torch.zeros_like(a) if answers else None for answers, a in wanted]


def _costates(spec: NodeSpec, token: Token, point: Point, by_input: Sequence[Tensor | None]) -> list[Costate]:
    """∂H/∂a along every in-edge; feedback returns it under `current` only."""
    reversible = spec.pairing == "reversible"
    return [
        Costate(token, value if value is None else aligned(value), signal if reversible else None)
        if answers
        else NO_COSTATE
        for answers, value, signal in zip(spec.answers, by_input, point.inputs, strict=True)
    ]


def _gate(spec: NodeSpec, state: NodeState, tick: int, q: Tensor, driving: Token) -> tuple[NodeState, bool]:
    """Whether this costate may drive the weights: of samples with a target; one that has not settled is skipped."""
    opens = driving.valid and gate_open(spec.gate, tick, spec.hold)
    if opens and not driving.teaches:
        state, opens = state._replace(ledger=state.ledger.passed(driving)), False
    if spec.settling is None or state.latest is None:
        return state, opens
    carry = state.carry
    signals = (*state.latest.inputs, q, *carry.state, *carry.state_costate)
    settling = observed(state.settling, signals, spec.settling[0])
    settled = settling.still >= spec.settling[1]
    ledger = state.ledger._replace(skipped=state.ledger.skipped + (opens and not settled))
    return state._replace(settling=settling, ledger=ledger), opens and settled


def observed(settling: Settling, signals: tuple[Tensor, ...], tolerance: float) -> Settling:
    """One tick more, where no hold settles to the last bit (feedback, T ≠ τ): still is what stopped changing.

    tolerance: the largest change of any element that counts as none, relative to 1 + the largest element.
    """
    unchanged = settling.before is not None and all(
        bool((new - old).abs().max() <= tolerance * (1 + new.abs().max()))
        for new, old in zip(signals, settling.before, strict=True)
    )
    return Settling(signals, settling.still + 1 if unchanged else 0)


# Circumstances


def _point(spec: NodeSpec, token: Token, inputs: tuple[Tensor, ...], state: tuple[Tensor, ...]) -> Point:
    restarts = restarts_of(token, spec) if spec.layer.remembers else None
    return Point(inputs, state, _context(spec, token), restarts)


def restarts_of(token: Token, spec: NodeSpec) -> Tensor | None:
    """The rows [B] in which an episode begins; None where there are none."""
    if not token.restarts:
        return None
    return torch.tensor(flags_of(token.restarts, spec.batch), device=spec.facts.says.device)


def _context(spec: NodeSpec, token: Token) -> Context:
    """Random layers draw from (run, layer, sample number); batch statistics see the real rows only."""
    facts = spec.facts
    seed = derive_seed(spec.seed, spec.name, token.first) if facts.random else None
    rows = token.rows if facts.batch_statistics and 0 < token.rows < spec.batch else None
    return Context(True, seed, rows, facts.beyond)


class LayerNode:
    """A layer's node as others see it: what is fixed of it, and its state, which moves."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.state = initial_state(spec)

    def evaluate(self, tick: int, signals: list[Signal]) -> Signal:
        """As the function."""
        self.state, said = evaluate(self.spec, self.state, tick, signals)
        return said

    def react(self, tick: int, costates: list[Costate]) -> list[Costate]:
        """As the function."""
        self.state, returned = react(self.spec, self.state, tick, costates)
        return returned

    @property
    def carry(self) -> Carry:
        """θ, ω, ξ, p and what goes with them."""
        return self.state.carry

    @carry.setter
    def carry(self, carry: Carry) -> None:
        self.state = self.state._replace(carry=carry)

    @property
    def ledger(self) -> Ledger:
        """Which samples have driven it."""
        return self.state.ledger

    @property
    def points_kept(self) -> int:
        """How many points its memory keeps."""
        return self.spec.memory.count(self.state.kept)

    @property
    def bytes_kept(self) -> int:
        """The memory that these take."""
        return self.spec.memory.nbytes(self.state.kept)

    @property
    def compile_seconds(self) -> float:
        """What compiling took that this node does by itself: that of a step back through a window."""
        step_back = self.spec.step_back
        return step_back.seconds if isinstance(step_back, TracedStep) else 0.0

    def tensors(self) -> dict[str, Any]:
        """What the layer's module would have in its state_dict, of a mean where one is kept. Raises what the module's
        own code raises."""
        return self.spec.layer.pure.state_dict(*self.carry.averaged)

    @property
    def energies(self) -> dict[str, float]:
        """Of a layer with a memory: the root mean squares of its state and of its state costate."""
        if not self.spec.layer.remembers:
            return {}
        found = {"state": self.carry.state, "state_costate": self.carry.state_costate}
        return {name: _root_mean_square(tensors) for name, tensors in found.items()}


def _root_mean_square(tensors: tuple[Tensor, ...]) -> float:
    squares = sum(tensor.abs().square().sum().item() for tensor in tensors)
    return math.sqrt(squares / sum(tensor.numel() for tensor in tensors))
